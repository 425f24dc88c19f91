// Who is in a room, by its signed log, as membershipd/docs/roster.md describes it: functions of bytes, without any network.
// What is not proven is Refused. roster_vectors.mjs checks all of it against membershipd/docs/roster-vectors.json.
import { Refused, WEAK_X25519, context, decode, need, prove, sha256, unhex, verifies, withoutSign } from "./entries.mjs";

const [ENTRIES, GRANTS, MEMBERS] = [10_000, 8_000, 2_000]; // limits: of a log, of what lets in, of people
const ROLES = ["reader", "member", "moderator", "owner"]; // the lowest first
const [MODERATOR, OWNER] = [2, 3];
const isPresent = (person) => person?.state === "invited" || person?.state === "joined";

// What a log says, up to its head. Keep it, and apply only what is new.
export class State {
  constructor(first) {
    need(first.number === 1, "gap");
    prove(first);
    const { hpke_pub, subject, policy, members, before, head_number, head } = first.fields;
    Object.assign(this, { room: first.room, subject, policy, hashes: [first.hash], before: { room: before, number: head_number, head } });
    [this.people, this.links] = [new Map(), new Map()]; // handle: all that was said of that person; key: link
    const own = { target: first.actor, role: "owner", state: "joined", sign_pub: first.actor_key, hpke_pub };
    for (const one of members ?? [own]) {
      need(!isPresent(one) || this.places() < MEMBERS, "too-many-members");
      this.checkKeys(one.target, one.sign_pub, one.hpke_pub);
      this.put(first, one.target, one.role, one.state, one);
    }
    const founder = this.person(first.actor);
    need(founder?.role === "owner" && founder.state === "joined" && founder.sign_pub === first.actor_key, "denied");
  }

  person(handle) {
    return this.people.get(handle)?.at(-1);
  }

  // How a person stood when the log ended with that entry.
  at(handle, length) {
    return this.people.get(handle)?.findLast((said) => said.since <= length);
  }

  put(entry, handle, role, state, { sign_pub, hpke_pub }) {
    const said = this.people.get(handle) ?? [];
    this.people.set(handle, [...said, { since: entry.number, role, state, sign_pub, hpke_pub, by: entry.actor }]);
  }

  places() {
    const present = [...this.people.values()].filter((said) => isPresent(said.at(-1))).length;
    return present + [...this.links.values()].filter((link) => link.state === "open").length;
  }

  // Verifies the next entry, and applies it.
  apply(entry) {
    const { length } = this.hashes;
    const { actor, action, fields } = entry;
    need(entry.room === this.room, "foreign-room");
    if (entry.number <= length) throw new Refused(this.hashes[entry.number - 1] === entry.hash ? "applied" : "fork");
    need(entry.number === length + 1, "gap");
    need(entry.previous === this.hashes.at(-1), "fork");
    need(entry.number <= ENTRIES, "full");
    prove(entry);
    const [own, target] = [this.person(actor), this.person(fields.target)];
    if (own && action !== "accept-link" && own.sign_pub !== entry.actor_key) {
      const replaced = this.people.get(actor).some((said) => said.sign_pub === entry.actor_key);
      throw new Refused(replaced ? "replaced-key" : "other-key");
    }
    const ends = ["leave", "remove", "revoke-link"].includes(action) || (action === "ban" && isPresent(target));
    need(length < GRANTS || ends, "full");
    ACTIONS[action].call(this, entry, fields, own, target);
    this.hashes.push(entry.hash);
  }

  // What roles permit: the daemon's rules. First the role of who is in the room.
  rank(handle) {
    const person = this.person(handle);
    need(person?.state === "joined", "denied");
    return ROLES.indexOf(person.role);
  }

  // An owner stands above all members; a moderator above lower roles only.
  above(actor, role) {
    const rank = this.rank(actor);
    need(rank >= MODERATOR && (rank === OWNER || !role || rank > ROLES.indexOf(role)), "denied");
  }

  owner(actor) {
    need(this.rank(actor) === OWNER, "denied");
  }

  otherOwner(handle) {
    const owns = (said) => said.at(-1).role === "owner" && said.at(-1).state === "joined";
    const owners = [...this.people].filter(([, said]) => owns(said)).map(([owner]) => owner);
    need(!owners.includes(handle) || owners.length > 1, "last-owner");
  }

  absent(handle) {
    const person = this.person(handle);
    need(person?.state !== "banned", "banned");
    need(!isPresent(person), "present");
  }

  place() {
    need(this.places() < MEMBERS, "too-many-members");
  }

  // The keys that the log has for a person, or keys that it never had.
  checkKeys(handle, signPub, hpkePub) {
    const person = this.person(handle);
    if (!person) return this.free(signPub, hpkePub);
    return need(person.sign_pub === signPub && person.hpke_pub === hpkePub, "key-changed");
  }

  free(signPub, hpkePub) {
    need(!hpkePub || !WEAK_X25519.has(withoutSign(hpkePub)), "weak-key");
    const used = [...this.people.values()].flat().some((said) => said.sign_pub === signPub || said.hpke_pub === hpkePub);
    need(!used && !this.links.has(signPub), "key-in-use");
  }

  end(entry, handle, state) {
    const person = this.person(handle);
    need(isPresent(person), "not-present");
    this.otherOwner(handle);
    this.put(entry, handle, person.role, state, person);
  }

  // Who gets the room's key: those who are in or invited, minus what the server takes away: [handle, key].
  recipients(takings = []) {
    const isTaken = (handle) => takings.some(([taken, key]) => taken === handle && key === this.person(handle).sign_pub);
    return [...this.people.keys()].sort().filter((handle) => isPresent(this.person(handle)) && !isTaken(handle));
  }

  // An epoch that is sealed for `to`: the number of the entry at which it was made, and its recipients with their keys.
  checkEpoch({ statement, signature }, to, before) {
    need(statement.room === this.room, "foreign-room");
    const madeAt = this.hashes.indexOf(statement.head) + 1;
    need(madeAt > 0, "unknown-head");
    const maker = this.at(statement.maker, madeAt);
    need(maker?.state === "joined" && maker.role !== "reader", "maker");
    need(verifies(maker.sign_pub, epochContext(statement), Buffer.from(signature, "base64")), "signature");
    const recipients = [...to].sort().map((handle) => ({ handle, ...this.at(handle, madeAt) }));
    need(recipients.every(isPresent), "stranger");
    const listed = recipients.flatMap((one) => [one.handle, unhex(one.sign_pub), unhex(one.hpke_pub)]);
    need(sha256(context("unibus.recipients.1", this.room, ...listed)).toString("hex") === statement.recipients, "recipients");
    need((statement.epoch === 1) === (statement.previous === null), "previous");
    if (before) {
      need(statement.epoch === before.epoch + 1 && statement.previous === before.key, "previous");
      const earlier = this.hashes.indexOf(before.head) + 1;
      need(earlier > 0 && earlier <= madeAt, "went-back");
    }
    return { madeAt, recipients };
  }

  // Who has the key and should not, and who lacks it. Only where both are empty something may be said with it.
  staleness(recipients, takings = []) {
    const now = this.recipients(takings).map((handle) => ({ handle, ...this.person(handle) }));
    const same = (one, other) => ["handle", "sign_pub", "hpke_pub"].every((name) => one[name] === other[name]);
    const lacks = (those, others) => those.filter((one) => !others.some((other) => same(one, other))).map((one) => one.handle);
    return { gone: lacks(recipients, now), missing: lacks(now, recipients) };
  }
}

// What each action needs, and does. `this` is the state.
const ACTIONS = {
  invite(entry, f, own, target) {
    need(own && entry.actor !== f.target, "denied");
    this.above(entry.actor, isPresent(target) ? target.role : null);
    this.above(entry.actor, f.role);
    this.absent(f.target);
    this.place();
    this.checkKeys(f.target, f.sign_pub, f.hpke_pub);
    this.put(entry, f.target, f.role, "invited", f);
  },
  "invite-link"(entry, f) {
    this.above(entry.actor, f.role);
    this.place();
    this.free(f.invite_pub);
    this.links.set(f.invite_pub, { role: f.role, by: entry.actor, byKey: entry.actor_key, state: "open" });
  },
  accept(entry, f, own) {
    need(isPresent(own), "denied");
    need(own.state === "invited", "unchanged");
    need(own.hpke_pub === f.hpke_pub, "other-hpke-key");
    this.put(entry, entry.actor, own.role, "joined", own);
  },
  "accept-link"(entry, f) {
    const link = this.links.get(f.invite_pub);
    need(link, "no-such-link");
    need(link.state === "open", `link-${link.state}`);
    try {
      // Its maker knows the seed, and must not come in again with it after a removal.
      need(this.person(link.by).sign_pub === link.byKey, "denied");
      this.above(link.by, link.role);
    } catch {
      throw new Refused("link-maker-gone");
    }
    this.absent(entry.actor);
    this.checkKeys(entry.actor, entry.actor_key, f.hpke_pub);
    this.put(entry, entry.actor, link.role, "joined", { sign_pub: entry.actor_key, hpke_pub: f.hpke_pub });
    this.links.set(f.invite_pub, { ...link, state: "used" });
  },
  leave(entry, f, own) {
    need(isPresent(own), "denied");
    this.end(entry, entry.actor, "removed");
  },
  remove(entry, f, own, target) {
    need(own && entry.actor !== f.target, "denied");
    this.above(entry.actor, target?.role);
    this.end(entry, f.target, "removed");
  },
  ban(entry, f, own, target) {
    need(own && entry.actor !== f.target, "denied");
    this.above(entry.actor, target?.role);
    need(target, "not-present");
    need(target.state !== "banned", "unchanged");
    if (isPresent(target)) this.end(entry, f.target, "banned");
    else this.put(entry, f.target, target.role, "banned", target);
  },
  unban(entry, f, own, target) {
    need(own && entry.actor !== f.target, "denied");
    this.above(entry.actor, target?.role);
    need(target?.state === "banned", "not-banned");
    this.put(entry, f.target, target.role, "removed", target);
  },
  "revoke-link"(entry, f) {
    const link = this.links.get(f.invite_pub);
    need(link, "no-such-link");
    this.above(entry.actor, link.role);
    need(link.state !== "used", "link-used");
    need(link.state === "open", "unchanged");
    this.links.set(f.invite_pub, { ...link, state: "revoked" });
  },
  role(entry, f, own, target) {
    this.above(entry.actor, target?.role);
    this.above(entry.actor, f.role);
    need(isPresent(target), "not-present");
    need(target.role !== f.role, "unchanged");
    if (f.role !== "owner") this.otherOwner(f.target);
    this.put(entry, f.target, f.role, target.state, target);
  },
  policy(entry, f) {
    this.owner(entry.actor);
    need(["encrypt", "persist", "sign"].some((flag) => f.policy[flag] !== this.policy[flag]), "unchanged");
    this.policy = f.policy;
  },
  subject(entry, f) {
    this.owner(entry.actor);
    need(f.subject !== this.subject, "unchanged");
    this.subject = f.subject;
  },
  "replace-key"(entry, f, own, target) {
    this.owner(entry.actor);
    need(entry.actor !== f.target, "denied");
    need(target, "not-present");
    need(target.state !== "banned", "banned");
    this.free(f.sign_pub, f.hpke_pub);
    // The new key has to say that it is theirs.
    this.put(entry, f.target, target.role, target.state === "joined" ? "invited" : target.state, f);
  },
};

function epochContext({ room, epoch, key, previous, head, maker, recipients }) {
  return context("unibus.epoch.1", room, epoch, unhex(key), unhex(previous ?? ""), unhex(head), maker, unhex(recipients));
}

// A whole log, by what is trusted: a head that was seen, the key of the room's maker, or a link. None of them: first use.
export function verify(room, raw, { pinned, creator, link } = {}) {
  const seen = pinned ?? link?.head;
  let state = null;
  raw.forEach((bytes, index) => {
    try {
      const entry = decode(bytes);
      if (state) state.apply(entry);
      else {
        need(entry.room === room, "foreign-room");
        need(!creator || entry.actor_key === creator, "other-creator");
        state = new State(entry);
      }
      if (seen?.number === entry.number) {
        need(seen.hash === entry.hash, "fork");
        const isIts = () => entry.action === "invite-link" && entry.fields.invite_pub === link.invite_pub
          && entry.actor === link.inviter && entry.actor_key === link.inviter_key;
        need(!link || isIts(), "other-link");
      }
    } catch (error) {
      throw error instanceof Refused ? new Refused(error.word, index + 1) : error;
    }
  });
  if (!state) throw new Refused("gap", 1);
  if (seen && seen.number > state.hashes.length) throw new Refused("step-back", state.hashes.length + 1);
  return state;
}
