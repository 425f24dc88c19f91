"""What people hand to each other, as membershipd/docs/roster.md describes it: links to rooms, the secret of an identity, and words."""
import base64, binascii, hashlib, re

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from entries import Parts, Refused, context, need


def derive(secret, label):
    return HKDF(hashes.SHA256(), 32, None, context(label)).derive(secret)


def read_link(text):
    """A link to a room, taken apart: a secret."""
    text = "".join(text.split())
    need(text.startswith("unibus-room:"), "foreign")
    need(text.startswith("unibus-room:1:"), "version")
    try:
        need(re.fullmatch("[A-Za-z0-9_-]*", text[14:]), "broken")
        raw = base64.urlsafe_b64decode(text[14:] + "=" * (-len(text[14:]) % 4))
        need(base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text[14:], "broken")
    except binascii.Error:
        raise Refused("broken") from None
    need(len(text) <= 512 and hashlib.sha256(raw[4:]).digest()[:4] == raw[:4], "broken")
    parts = Parts(raw[4:])
    try:
        need(parts.next() == b"unibus.room-link.1", "wrong")
        room, inviter, inviter_key = parts.field("room"), parts.field("actor"), parts.field("actor_key")
        head, seed = {"number": parts.field("number"), "hash": parts.field("head").hex()}, parts.sized(32)
        need(not parts.raw, "wrong")
    except Refused:
        raise Refused("wrong") from None
    invite = Ed25519PrivateKey.from_private_bytes(derive(seed, "unibus.link.invite-key.1"))
    token = base64.urlsafe_b64encode(derive(seed, "unibus.link.token.1")).rstrip(b"=").decode()
    invite_pub = invite.public_key().public_bytes_raw()
    return {"room": room, "inviter": inviter, "inviter_key": inviter_key, "head": head, "token": token, "invite_pub": invite_pub}


def identity(secret):
    """Both public keys of a person, from their one secret."""
    sign = Ed25519PrivateKey.from_private_bytes(derive(secret, "unibus.identity.sign.1"))
    hpke = X25519PrivateKey.from_private_bytes(derive(secret, "unibus.identity.hpke.1"))
    return sign.public_key().public_bytes_raw(), hpke.public_key().public_bytes_raw()


def numbers(raw, count):
    """The first bits as places in the list of words (BIP 39), 11 bits each."""
    bits = "".join(f"{byte:08b}" for byte in raw)
    return [int(bits[at:at + 11], 2) for at in range(0, 11 * count, 11)]


def secret_numbers(secret):
    return numbers(secret + hashlib.sha256(secret).digest()[:1], 24)


def stretched(raw):
    digest = hashlib.sha256(raw).digest()
    for _ in range(4096):
        digest = hashlib.sha256(digest + raw).digest()
    return digest


def people_numbers(one, other):
    """What two people compare: six words for each of them, in the order of their keys. A person is (handle, sign_pub, hpke_pub)."""
    halves = (numbers(stretched(context("unibus.person-words.1", *person)), 6) for person in sorted((one, other), key=lambda p: p[1]))
    return [number for half in halves for number in half]


def room_numbers(room, number, head):
    return numbers(stretched(context("unibus.room-words.1", room, number, head)), 12)
