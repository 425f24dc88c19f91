"""Who is in a room, by its signed log, as membershipd/docs/roster.md describes it: functions of bytes, without any network.

What is not proven is Refused. roster_vectors.py checks all of it against membershipd/docs/roster-vectors.json.
"""
import base64, hashlib
from collections import namedtuple

from entries import ROLES, WEAK_X25519, Refused, context, decode, need, prove, verifies, without_sign

ENTRIES, GRANTS, MEMBERS = 10_000, 8_000, 2_000  # limits: of a log, of what lets in, of people
PRESENT = ("invited", "joined")
Link = namedtuple("Link", "role by by_key state")
Person = namedtuple("Person", "since role state sign_pub hpke_pub by")


class State:
    """What a log says, up to its head. Keep it, and apply only what is new."""
    def __init__(self, first):
        need(first.number == 1, "gap")
        prove(first)
        f = first.fields
        self.room, self.subject, self.policy, self.hashes = first.room, f["subject"], f["policy"], [first.hash]
        self.before = (f["before"], f["head_number"], f["head"]) if first.action == "continue" else None
        self.people, self.links = {}, {}  # handle: all that was said of that person; key: Link
        own = {"target": first.actor, "role": "owner", "state": "joined", "sign_pub": first.actor_key, "hpke_pub": f.get("hpke_pub")}
        for m in f.get("members", [own]):
            need(m["state"] not in PRESENT or self.places() < MEMBERS, "too-many-members")
            self.check_keys(m["target"], m["sign_pub"], m["hpke_pub"])
            self.put(first, m["target"], m["role"], m["state"], m["sign_pub"], m["hpke_pub"])
        founder = self.person(first.actor)
        need(founder and founder[1:4] == ("owner", "joined", first.actor_key), "denied")

    def person(self, handle):
        return self.people[handle][-1] if handle in self.people else None

    def at(self, handle, number):
        """How a person stood when the log ended with that entry."""
        return next((p for p in reversed(self.people.get(handle, [])) if p.since <= number), None)

    def put(self, entry, handle, role, state, sign_pub, hpke_pub):
        self.people.setdefault(handle, []).append(Person(entry.number, role, state, sign_pub, hpke_pub, entry.actor))

    def places(self):
        present = sum(said[-1].state in PRESENT for said in self.people.values())
        return present + sum(link.state == "open" for link in self.links.values())

    def apply(self, entry):
        """Verifies the next entry, and applies it."""
        length = len(self.hashes)
        need(entry.room == self.room, "foreign-room")
        if entry.number <= length:
            raise Refused("applied" if self.hashes[entry.number - 1] == entry.hash else "fork")
        need(entry.number == length + 1, "gap")
        need(entry.previous == self.hashes[-1], "fork")
        need(entry.number <= ENTRIES, "full")
        prove(entry)
        own, target = self.person(entry.actor), self.person(entry.fields.get("target"))
        if own and entry.action != "accept-link" and own.sign_pub != entry.actor_key:
            replaced = any(said.sign_pub == entry.actor_key for said in self.people[entry.actor])
            raise Refused("replaced-key" if replaced else "other-key")
        ends = entry.action in ("leave", "remove", "revoke-link") or entry.action == "ban" and target and target.state in PRESENT
        need(length < GRANTS or ends, "full")
        getattr(self, "do_" + entry.action.replace("-", "_"))(entry, entry.actor, own, entry.fields, target)
        self.hashes.append(entry.hash)

    # What roles permit: the daemon's rules.
    def rank(self, handle):
        """The role of who is in the room."""
        person = self.person(handle)
        need(person and person.state == "joined", "denied")
        return ROLES.index(person.role)

    def above(self, actor, role):
        """An owner stands above all members; a moderator above lower roles only."""
        rank = self.rank(actor)
        need(rank >= 2 and (rank == 3 or role is None or rank > ROLES.index(role)), "denied")

    def owner(self, actor):
        need(self.rank(actor) == 3, "denied")

    def other_owner(self, handle):
        owners = [h for h, said in self.people.items() if said[-1][1:3] == ("owner", "joined")]
        need(owners != [handle], "last-owner")

    def absent(self, handle):
        person = self.person(handle)
        need(not person or person.state != "banned", "banned")
        need(not person or person.state not in PRESENT, "present")

    def place(self):
        need(self.places() < MEMBERS, "too-many-members")

    def check_keys(self, handle, sign_pub, hpke_pub):
        """The keys that the log has for a person, or keys that it never had."""
        person = self.person(handle)
        need(not person or person[3:5] == (sign_pub, hpke_pub), "key-changed")
        if not person:
            self.free(sign_pub, hpke_pub)

    def free(self, sign_pub, hpke_pub=None):
        need(hpke_pub is None or without_sign(hpke_pub) not in WEAK_X25519, "weak-key")
        said = [person for all in self.people.values() for person in all]
        need(sign_pub not in self.links and all(sign_pub != p.sign_pub for p in said), "key-in-use")
        need(all(hpke_pub != p.hpke_pub for p in said), "key-in-use")

    def end(self, entry, handle, state):
        person = self.person(handle)
        need(person and person.state in PRESENT, "not-present")
        self.other_owner(handle)
        self.put(entry, handle, person.role, state, *person[3:5])

    # The actions.
    def do_invite(self, entry, actor, own, f, target):
        need(own and actor != f["target"], "denied")
        self.above(actor, target.role if target and target.state in PRESENT else None)
        self.above(actor, f["role"])
        self.absent(f["target"])
        self.place()
        self.check_keys(f["target"], f["sign_pub"], f["hpke_pub"])
        self.put(entry, f["target"], f["role"], "invited", f["sign_pub"], f["hpke_pub"])

    def do_invite_link(self, entry, actor, own, f, target):
        self.above(actor, f["role"])
        self.place()
        self.free(f["invite_pub"])
        self.links[f["invite_pub"]] = Link(f["role"], actor, entry.actor_key, "open")

    def do_accept(self, entry, actor, own, f, target):
        need(own and own.state in PRESENT, "denied")
        need(own.state == "invited", "unchanged")
        need(own.hpke_pub == f["hpke_pub"], "other-hpke-key")
        self.put(entry, actor, own.role, "joined", *own[3:5])

    def do_accept_link(self, entry, actor, own, f, target):
        link = self.links.get(f["invite_pub"])
        need(link, "no-such-link")
        need(link.state == "open", f"link-{link.state}")
        maker = self.person(link.by)
        try:
            # Its maker knows the seed, and must not come in again with it after a removal.
            need(maker.sign_pub == link.by_key, "denied")
            self.above(link.by, link.role)
        except Refused:
            raise Refused("link-maker-gone") from None
        self.absent(actor)
        self.check_keys(actor, entry.actor_key, f["hpke_pub"])
        self.put(entry, actor, link.role, "joined", entry.actor_key, f["hpke_pub"])
        self.links[f["invite_pub"]] = link._replace(state="used")

    def do_leave(self, entry, actor, own, f, target):
        need(own and own.state in PRESENT, "denied")
        self.end(entry, actor, "removed")

    def do_remove(self, entry, actor, own, f, target):
        need(own and actor != f["target"], "denied")
        self.above(actor, target and target.role)
        self.end(entry, f["target"], "removed")

    def do_ban(self, entry, actor, own, f, target):
        need(own and actor != f["target"], "denied")
        self.above(actor, target and target.role)
        need(target, "not-present")
        need(target.state != "banned", "unchanged")
        if target.state in PRESENT:
            self.end(entry, f["target"], "banned")
        else:
            self.put(entry, f["target"], target.role, "banned", *target[3:5])

    def do_unban(self, entry, actor, own, f, target):
        need(own and actor != f["target"], "denied")
        self.above(actor, target and target.role)
        need(target and target.state == "banned", "not-banned")
        self.put(entry, f["target"], target.role, "removed", *target[3:5])

    def do_revoke_link(self, entry, actor, own, f, target):
        link = self.links.get(f["invite_pub"])
        need(link, "no-such-link")
        self.above(actor, link.role)
        need(link.state != "used", "link-used")
        need(link.state == "open", "unchanged")
        self.links[f["invite_pub"]] = link._replace(state="revoked")

    def do_role(self, entry, actor, own, f, target):
        self.above(actor, target and target.role)
        self.above(actor, f["role"])
        need(target and target.state in PRESENT, "not-present")
        need(target.role != f["role"], "unchanged")
        if f["role"] != "owner":
            self.other_owner(f["target"])
        self.put(entry, f["target"], f["role"], target.state, *target[3:5])

    def do_policy(self, entry, actor, own, f, target):
        self.owner(actor)
        need(f["policy"] != self.policy, "unchanged")
        self.policy = f["policy"]

    def do_subject(self, entry, actor, own, f, target):
        self.owner(actor)
        need(f["subject"] != self.subject, "unchanged")
        self.subject = f["subject"]

    def do_replace_key(self, entry, actor, own, f, target):
        self.owner(actor)
        need(actor != f["target"], "denied")
        need(target, "not-present")
        need(target.state != "banned", "banned")
        self.free(f["sign_pub"], f["hpke_pub"])
        # The new key has to say that it is theirs.
        state = "invited" if target.state == "joined" else target.state
        self.put(entry, f["target"], target.role, state, f["sign_pub"], f["hpke_pub"])

    def recipients(self, takings=()):
        """Who gets the room's key: those who are in or invited, minus what the server takes away: (handle, key)."""
        present = [h for h, said in sorted(self.people.items()) if said[-1].state in PRESENT]
        return [h for h in present if (h, self.person(h).sign_pub) not in takings]

    def check_epoch(self, epoch, to, before=None):
        """An epoch that is sealed for `to`: the number of the entry at which it was made, and its recipients with their keys."""
        said, signature = epoch["statement"], base64.b64decode(epoch["signature"])
        need(said["room"] == self.room, "foreign-room")
        need(bytes.fromhex(said["head"]) in self.hashes, "unknown-head")
        made_at = self.hashes.index(bytes.fromhex(said["head"])) + 1
        maker = self.at(said["maker"], made_at)
        need(maker and maker.state == "joined" and maker.role != "reader", "maker")
        need(verifies(maker.sign_pub, epoch_context(said), signature), "signature")
        recipients = [(handle, self.at(handle, made_at)) for handle in sorted(to)]
        need(all(person and person.state in PRESENT for _, person in recipients), "stranger")
        recipients = [(handle, person.sign_pub, person.hpke_pub) for handle, person in recipients]
        listed = context("unibus.recipients.1", self.room, *(part for one in recipients for part in one))
        need(hashlib.sha256(listed).hexdigest() == said["recipients"], "recipients")
        need((said["epoch"] == 1) == (said["previous"] is None), "previous")
        if before:
            need(said["epoch"] == before["epoch"] + 1 and said["previous"] == before["key"], "previous")
            earlier = bytes.fromhex(before["head"])
            need(earlier in self.hashes and self.hashes.index(earlier) < made_at, "went-back")
        return made_at, recipients

    def staleness(self, recipients, takings=()):
        """Who has the key and should not, and who lacks it. Only where both are empty something may be said with it."""
        now = [(handle, *self.person(handle)[3:5]) for handle in self.recipients(takings)]
        lacks = lambda those, others: [one[0] for one in those if one not in others]
        return lacks(recipients, now), lacks(now, recipients)


def epoch_context(said):
    previous = bytes.fromhex(said["previous"] or "")
    parts = said["room"], said["epoch"], bytes.fromhex(said["key"]), previous, bytes.fromhex(said["head"]), said["maker"]
    return context("unibus.epoch.1", *parts, bytes.fromhex(said["recipients"]))


def verify(room, raw, pinned=None, creator=None, link=None):
    """A whole log, by what is trusted: a head that was seen, the key of the room's maker, or a link. None of them: first use."""
    state, seen = None, pinned or link and link["head"]
    for at, entry in enumerate(raw, 1):
        try:
            entry = decode(entry)
            if not state:
                need(entry.room == room, "foreign-room")
                need(creator in (None, entry.actor_key), "other-creator")
                state = State(entry)
            else:
                state.apply(entry)
            if seen and seen["number"] == entry.number:
                need(seen["hash"] == entry.hash.hex(), "fork")
                its = link and (entry.action, entry.fields.get("invite_pub"), entry.actor, entry.actor_key)
                need(not link or its == ("invite-link", link["invite_pub"], link["inviter"], link["inviter_key"]), "other-link")
        except Refused as refused:
            raise Refused(refused.word, at) from None
    if not state:
        raise Refused("gap", 1)
    if seen and seen["number"] > len(state.hashes):
        raise Refused("step-back", len(state.hashes) + 1)
    return state
