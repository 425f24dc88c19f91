"""The formats of conversations, as membershipd/docs/conversations.md describes them: functions of bytes, without any network.

What is not proven is Refused. vectors.py checks all of it against membershipd/docs/vectors.json.
"""
import base64, hashlib, os, re, time, tomllib, uuid
from collections import namedtuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyhpke import AEADId, CipherSuite, KDFId, KEMId
from pyhpke.exceptions import PyHPKEError

from context import context

HPKE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
INFO = b"unibus.envelope.1"
SEALED, SIGNED, SEVERAL = 1, 2, 4  # flags of a frame
SIGNATURE, TAG = 64, 16
TEXT, ATTACHMENT = 0, 1  # types of messages; version 1 has texts only
# What may not stand in the name of an attachment: control characters, marks that turn the direction or end a line, slashes.
NOT_IN_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069/\\\\]")
Frame = namedtuple("Frame", "version flags id epoch roster sender head payload signature")
b64, unb64 = (lambda data: base64.b64encode(data).decode()), base64.b64decode


class Refused(Exception):
    """Something is not what it claims to be: why, in a word for programs, and in more of them."""
    def __init__(self, word, why):
        super().__init__(why)
        self.word = word


class Identity:
    """Who we are: the file that `membershipd identity new` makes."""
    def __init__(self, handle, sign, hpke):
        self.handle, self.nkey, self.hpke = handle, sign, HPKE.kem.deserialize_private_key(bytes.fromhex(hpke))
        # An nkey is the base32 of two bytes that say what it is, the 32 of the seed, and a checksum.
        self.sign = Ed25519PrivateKey.from_private_bytes(base64.b32decode(sign + "=" * (-len(sign) % 8))[2:34])
        self.sign_pub = self.sign.public_key().public_bytes_raw().hex()
        self.hpke_pub = X25519PrivateKey.from_private_bytes(bytes.fromhex(hpke)).public_key().public_bytes_raw().hex()

    @classmethod
    def load(cls, path):
        with open(path, "rb") as file:
            document = tomllib.load(file)
        return cls(document["handle"], document["sign"], document["hpke"])


def derive(key, length, *parts):
    return HKDF(hashes.SHA256(), length, None, context(*parts)).derive(key)


def verify(sign_pub, signature, *parts):
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(sign_pub)).verify(signature, context(*parts))
    except (InvalidSignature, ValueError):
        raise Refused("signature", "its signature is not that of whom it names") from None


def key_statement(handle, sign_pub, hpke_pub):
    """What a user signs to say which HPKE key is his."""
    return "unibus.hpke-key.1", handle, bytes.fromhex(sign_pub), bytes.fromhex(hpke_pub)


def key_id(key, room, epoch):
    return derive(key, 16, "unibus.key-id.1", room, epoch)


def seal_key(key, room, epoch, me, to, hpke_pub):
    """An envelope: the room's key, which only `to` can open, and who has sealed it."""
    kid, public = key_id(key, room, epoch), bytes.fromhex(hpke_pub)
    enc, sealer = HPKE.create_sender_context(HPKE.kem.deserialize_public_key(public), INFO)
    sealed = sealer.seal(key, context("unibus.envelope.1", room, epoch, to, kid))
    statement = context("unibus.envelope-signature.1", room, epoch, me.handle, to, public, kid, enc, sealed)
    return {"enc": b64(enc), "sealed": b64(sealed), "signature": b64(me.sign.sign(statement))}


def open_key(envelope, room, epoch, by, sign_pub, me, kid):
    """The room's key; `sign_pub` is the pinned key of `by`."""
    enc, sealed, signature = (unb64(envelope[name]) for name in ("enc", "sealed", "signature"))
    to, public = me.handle, bytes.fromhex(me.hpke_pub)
    verify(sign_pub, signature, "unibus.envelope-signature.1", room, epoch, by, to, public, kid, enc, sealed)
    try:
        opener = HPKE.create_recipient_context(enc, me.hpke, INFO)
        key = opener.open(sealed, context("unibus.envelope.1", room, epoch, to, kid))
    except PyHPKEError:
        raise Refused("seal", f"the key that {by} has sealed cannot be opened") from None
    if key_id(key, room, epoch) != kid:
        raise Refused("seal", f"{by} has sealed another key than he says")
    return key


def make(me, room, subject, signed, epoch, key, text, version=1):
    """A frame with one text, sealed if there is a key; and its id. Old clients read version 1 only."""
    id = bytearray(int(time.time() * 1000).to_bytes(6) + os.urandom(10))
    id[6], id[8] = 0x70 | id[6] & 0x0F, 0x80 | id[8] & 0x3F
    flags = (SEALED if key else 0) | (SIGNED if signed else 0)
    # Version 2 names the roster of the room that the sender knows (none: zero), and the type and length of each message.
    roster = bytes(32) if version == 2 else b""
    head = bytes([version, flags]) + id + epoch.to_bytes(4) + roster + bytes([len(me.handle)]) + me.handle.encode()
    payload = text.encode()
    if version == 2:
        payload = bytes([TEXT]) + len(payload).to_bytes(4) + payload
    if key:
        key = derive(key, 32, "unibus.message-key.1", room, epoch, me.handle)
        bound = context(f"unibus.frame.{version}", room, subject, head)
        payload = ChaCha20Poly1305(key).encrypt(bytes(id[4:]), payload, bound)
    statement = context(f"unibus.frame-signature.{version}", room, subject, head, payload)
    return head + payload + (me.sign.sign(statement) if signed else b""), str(uuid.UUID(bytes=bytes(id)))


def parse(raw):
    """Takes a frame apart; nothing of it is proven yet."""
    malformed = Refused("malformed", "it is no message of unibus")
    # Where the sender's length is, and which flags there are.
    at, known = {1: (22, SEALED | SIGNED | SEVERAL), 2: (54, SEALED | SIGNED)}.get(raw[0] if raw else 0, (0, 0))
    if not at or len(raw) <= at or raw[1] > known:
        raise malformed
    flags, id, epoch, end = raw[1], raw[2:18], int.from_bytes(raw[18:22]), at + 1 + raw[at]
    sender, cut = raw[at + 1:end].decode("latin-1"), len(raw) - (SIGNATURE if flags & SIGNED else 0)
    uuid7 = id[6] >> 4 == 7 and id[8] >> 6 == 2
    if cut < end or not uuid7 or not re.fullmatch("[a-z0-9_-]{1,32}", sender) or bool(epoch) != bool(flags & SEALED):
        raise malformed
    if raw[0] == 2 and flags & SEALED and cut - end < TAG:
        raise malformed
    return Frame(raw[0], flags, id, epoch, raw[22:at], sender, raw[:end], raw[end:cut], raw[cut:])


def content(kind, body):
    """What one message says: a text, an attachment, or something that this program does not know."""
    if kind == TEXT:
        return {"text": body.decode("utf-8", "replace")}
    if kind == ATTACHMENT and 40 < len(body) <= 40 + 255:
        size = int.from_bytes(body[32:40])
        try:
            name = body[40:].decode()
        except UnicodeDecodeError:
            name = "."
        if size < 1 << 53 and name not in (".", "..") and not NOT_IN_A_NAME.search(name):
            return {"attachment": {"sha256": body[:32].hex(), "size": size, "name": name}}
    return {"type": kind, "base64": b64(body)}


def frame_id(room, subject, raw):
    """What the servers call a frame."""
    return hashlib.sha256(context("unibus.frame-id.1", room, subject, raw)).hexdigest()[:32]


def read(frame, room, subject, policy, sign_pub_of, room_key_of):
    """The messages of a frame, once it is proven who said them, in which room and on which subject."""
    if policy["encrypt"] and not frame.flags & SEALED:
        raise Refused("clear", "it is in clear, and has to be sealed")
    if policy["sign"] and not frame.flags & SIGNED:
        raise Refused("unsigned", "it is unsigned, and has to be signed")
    if frame.flags & SIGNED:
        sign_pub = sign_pub_of(frame.sender)
        if sign_pub is None:
            raise Refused("no-sender", f"it names {frame.sender} as its sender, and there is no such user")
        label = f"unibus.frame-signature.{frame.version}"
        verify(sign_pub, frame.signature, label, room, subject, frame.head, frame.payload)
    text = frame.payload
    if frame.flags & SEALED:
        key = room_key_of(frame.epoch)
        if key is None:
            raise Refused("no-key", f"it is sealed with the key of epoch {frame.epoch}, which is not for you")
        key = derive(key, 32, "unibus.message-key.1", room, frame.epoch, frame.sender)
        bound = context(f"unibus.frame.{frame.version}", room, subject, frame.head)
        try:
            text = ChaCha20Poly1305(key).decrypt(frame.id[4:], text, bound)
        except InvalidTag:
            raise Refused("seal", f"it names {frame.sender} as its sender, and cannot be opened") from None
    if frame.version == 1 and not frame.flags & SEVERAL:
        return [content(TEXT, text)]
    # In version 2 the type comes before the length.
    contents, at = [], 1 if frame.version == 2 else 0
    while text:
        kind, end = text[0] if at else TEXT, at + 4 + int.from_bytes(text[at:at + 4])
        if end > len(text):
            raise Refused("malformed", "one of its messages is cut off")
        contents, text = [*contents, content(kind, text[at + 4:end])], text[end:]
    return contents


def open_blob(blob, room, room_key_of):
    """What is in an attachment."""
    head, sealed = blob[:21], blob[21:]
    if len(head) < 21 or head[0] != 1:
        raise Refused("seal", "it is no attachment of unibus")
    key = derive(room_key_of(int.from_bytes(head[1:5])), 32, "unibus.blob-key.1", room, head)
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), sealed, context("unibus.blob.1", room, head))
    except InvalidTag:
        raise Refused("seal", "it cannot be opened") from None
