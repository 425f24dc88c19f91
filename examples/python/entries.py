"""Entries of a room's log, as membershipd/docs/roster.md describes them: their one encoding, and their signatures.

roster.py says what a log of them comes to. What is not proven is Refused.
"""
import hashlib, re
from collections import namedtuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from context import context

FIRST_ENTRY = 288 * 1024  # most bytes of an entry: the first may have a whole room in it
ROLES = ("reader", "member", "moderator", "owner")  # the lowest first
NONE = bytes(32)
TOKEN = "[a-z0-9_-]"
# Points of small order, without the bit for the sign: a signature by one proves nothing, and one with such an R is not its key's alone.
# cryptography takes both, so they are looked for here.
WEAK_ED25519 = {bytes.fromhex(x) for x in (
    "00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")}
WEAK_X25519 = {bytes.fromhex(x) for x in (
    "00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")}
P = 2**255 - 19  # Ed25519: -x² + y² = 1 + D x² y² (RFC 8032 section 5.1)
D = -121665 * pow(121666, -1, P) % P
Entry = namedtuple("Entry", "room number previous actor actor_key time action fields body signatures hash")
# What stands behind each action.
FIELDS = {
    "create": "hpke_pub subject policy", "adopt": "subject policy members", "continue": "hpke_pub subject policy before head_number head",
    "invite": "target sign_pub hpke_pub role", "invite-link": "invite_pub role", "accept": "hpke_pub", "accept-link": "invite_pub hpke_pub",
    "leave": "", "remove": "target", "ban": "target", "unban": "target", "revoke-link": "invite_pub", "role": "target role",
    "policy": "policy", "subject": "subject", "replace-key": "target sign_pub hpke_pub",
}


class Refused(Exception):
    """Something is not what it claims to be: why, in a word for programs."""
    def __init__(self, word, at=None):
        super().__init__(word)
        self.word, self.at = word, at


def need(holds, word):
    if not holds:
        raise Refused(word)


def without_sign(point):
    return point[:31] + bytes([point[31] & 0x7F])


def is_key(raw):
    """Whether it is a point of the curve, by its equation, and not of small order: the library takes any 32 bytes as a key."""
    y = int.from_bytes(without_sign(raw), "little") % P
    ratio = (y * y - 1) * (D * y * y + 1)  # x is a root of the quotient, which is a square where the product is
    return without_sign(raw) not in WEAK_ED25519 and pow(ratio, (P - 1) // 2, P) == 1


def verifies(sign_pub, message, signature):
    """Strictly: no key and no R of small order, and S below the group's order, which the library sees to."""
    if len(signature) != 64 or not is_key(sign_pub) or without_sign(signature[:32]) in WEAK_ED25519:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(sign_pub).verify(signature, message)
        return True
    except InvalidSignature:
        return False


class Parts:
    """Reads the parts of a context."""
    def __init__(self, raw):
        self.raw = raw

    def next(self):
        length = int.from_bytes(self.raw[:4])
        need(len(self.raw) >= 4 + length and len(self.raw) >= 4, "malformed")
        part, self.raw = self.raw[4:4 + length], self.raw[4 + length:]
        return part

    def sized(self, size):
        part = self.next()
        need(len(part) == size, "malformed")
        return part

    def text(self, pattern):
        part = self.next().decode("latin-1")
        need(re.fullmatch(pattern, part), "malformed")
        return part

    def field(self, name):
        if name in ("room", "before"):
            return self.text(f"[a-z0-9]{TOKEN}{{0,63}}")
        if name in ("actor", "target"):
            return self.text(f"[a-z0-9]{TOKEN}{{0,31}}")
        if name == "subject":
            subject = self.text(rf"(proc|rpc|room|agent)(\.{TOKEN}+){{1,7}}")
            need(len(subject) <= 100, "malformed")
            return subject
        if name in ("number", "head_number"):
            return int.from_bytes(self.sized(4))
        if name in ("actor_key", "sign_pub", "invite_pub"):
            key = self.sized(32)
            need(is_key(key), "malformed")
            return key
        if name in ("previous", "hpke_pub", "head"):
            return self.sized(32)
        if name == "time":
            return int.from_bytes(self.sized(8))
        if name == "policy":
            flags = self.sized(1)[0]
            need(flags < 8, "malformed")
            return {"encrypt": bool(flags & 1), "persist": bool(flags & 2), "sign": bool(flags & 4)}
        if name == "role":
            return self.text("|".join(ROLES))
        if name == "state":
            return self.text("invited|joined|banned")
        members = []
        while self.raw:
            member = {name: self.field(name) for name in "target role state sign_pub hpke_pub".split()}
            need(not members or members[-1]["target"] < member["target"], "malformed")
            members.append(member)
        return members


def decode(raw):
    """Reads an entry; nothing of it is proven yet. There is one encoding of each."""
    need(len(raw) <= FIRST_ENTRY, "too-large")
    ahead = Parts(raw)
    try:
        [ahead.next() for _ in range(7)]
        size = 128 if ahead.next() == b"accept-link" else 64
    except Refused:
        size = 64
    need(len(raw) >= size, "malformed")
    body, signatures = raw[:len(raw) - size], [raw[at:at + 64] for at in range(len(raw) - size, len(raw), 64)]
    parts = Parts(body)
    need(parts.next() == b"unibus.roster-entry.1", "malformed")
    head = [parts.field(name) for name in "room number previous actor actor_key time".split()]
    action = parts.next().decode("latin-1")
    need(action in FIELDS, "malformed")
    fields = {name: parts.field(name) for name in FIELDS[action].split()}
    begins = action in ("create", "adopt", "continue")
    need(not parts.raw and head[1] != 0 and (head[1] == 1) == begins and (head[2] == NONE) == begins, "malformed")
    return Entry(*head, action, fields, body, signatures, hashlib.sha256(raw).digest())


def prove(entry):
    """The signatures, by the keys that the entry names."""
    need(verifies(entry.actor_key, entry.body, entry.signatures[0]), "signature")
    if entry.action == "accept-link":
        statement = context("unibus.roster-invite.1", entry.body)
        need(verifies(entry.fields["invite_pub"], statement, entry.signatures[1]), "invite-signature")
