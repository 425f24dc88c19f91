// The formats of conversations, as membershipd/docs/conversations.md describes them: functions of bytes, without any network.
// What is not proven is Refused. vectors.mjs checks all of it against membershipd/docs/vectors.json.
import { createCipheriv, createDecipheriv, createPrivateKey, createPublicKey } from "node:crypto";
import { createHash, hkdfSync, randomBytes, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";

import { Chacha20Poly1305 } from "@hpke/chacha20poly1305";
import { CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";

import { context, number } from "./context.mjs";

export { context };

const hpke = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Chacha20Poly1305() });
const INFO = Buffer.from("unibus.envelope.1");
const SEALED = 1, SIGNED = 2, SEVERAL = 4; // flags of a frame
const SIGNATURE = 64, TAG = 16;
const TEXT = 0, ATTACHMENT = 1; // types of messages; version 1 has texts only
// What may not stand in the name of an attachment: control characters, marks that turn the direction or end a line, slashes.
const NOT_IN_A_NAME = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069/\\]/;

// Something is not what it claims to be: why, in a word for programs, and in more of them.
export class Refused extends Error {
  constructor(word, why) {
    super(why);
    this.word = word;
  }
}

export const hex = (text) => Buffer.from(text, "hex");
export const unb64 = (text) => Buffer.from(text, "base64");
export const uuid = (id) => id.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
// Keys as Node.js wants them: their bytes behind what says which kind of key they are (RFC 8410).
const secretOf = (oid, raw) => {
  const der = Buffer.concat([hex(`302e020100300506032b65${oid}04220420`), raw]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
};
const publicOf = (secret) => Buffer.from(createPublicKey(secret).export({ format: "jwk" }).x, "base64url").toString("hex");
const ed25519 = (signPub) => {
  const der = Buffer.concat([hex("302a300506032b6570032100"), hex(signPub)]);
  return createPublicKey({ key: der, format: "der", type: "spki" });
};

// Who we are: the file that `membershipd identity new` makes.
export class Identity {
  constructor(handle, nkey, hpkeSecret) {
    Object.assign(this, { handle, nkey, hpke: hex(hpkeSecret) });
    // An nkey is the base32 of two bytes that say what it is, the 32 of the seed, and a checksum.
    const bits = [...nkey].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
    const seed = Buffer.from(bits.match(/.{8}/g).slice(2, 34).map((byte) => parseInt(byte, 2)));
    this.secret = secretOf("70", seed);
    this.signPub = publicOf(this.secret);
    this.hpkePub = publicOf(secretOf("6e", this.hpke));
  }

  static load(path) {
    const field = Object.fromEntries([...readFileSync(path, "utf8").matchAll(/^(\w+) = "(.*)"$/gm)].map((m) => m.slice(1)));
    return new Identity(field.handle, field.sign, field.hpke);
  }

  sign(bytes) {
    return sign(null, bytes, this.secret);
  }
}

export const derive = (key, length, ...parts) => Buffer.from(hkdfSync("sha256", key, "", context(...parts), length));

export function check(signPub, signature, ...parts) {
  if (!verify(null, context(...parts), ed25519(signPub), signature)) {
    throw new Refused("signature", "its signature is not that of whom it names");
  }
}

function seal(key, nonce, aad, text) {
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
  cipher.setAAD(aad);
  return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
}

function open(key, nonce, aad, sealed) {
  try {
    const decipher = createDecipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG });
    decipher.setAAD(aad);
    decipher.setAuthTag(sealed.subarray(-TAG));
    return Buffer.concat([decipher.update(sealed.subarray(0, -TAG)), decipher.final()]);
  } catch {
    throw new Refused("seal", "it cannot be opened: it was changed, or made for something else");
  }
}

// What a user signs to say which HPKE key is his.
export const keyStatement = (handle, signPub, hpkePub) => ["unibus.hpke-key.1", handle, hex(signPub), hex(hpkePub)];
export const keyId = (key, room, epoch) => derive(key, 16, "unibus.key-id.1", room, epoch);

// An envelope: the room's key, which only `to` can open, and who has sealed it.
export async function sealKey(key, room, epoch, me, to, hpkePub) {
  const kid = keyId(key, room, epoch);
  const recipientPublicKey = await hpke.kem.deserializePublicKey(hex(hpkePub));
  const sealer = await hpke.createSenderContext({ recipientPublicKey, info: INFO });
  const enc = Buffer.from(sealer.enc);
  const sealed = Buffer.from(await sealer.seal(key, context("unibus.envelope.1", room, epoch, to, kid)));
  const statement = ["unibus.envelope-signature.1", room, epoch, me.handle, to, hex(hpkePub), kid, enc, sealed];
  const signature = me.sign(context(...statement));
  return { enc: enc.toString("base64"), sealed: sealed.toString("base64"), signature: signature.toString("base64") };
}

// The room's key; `signPub` is the pinned key of `by`.
export async function openKey(envelope, room, epoch, by, signPub, me, kid) {
  const [enc, sealed, signature] = [envelope.enc, envelope.sealed, envelope.signature].map(unb64);
  const statement = [room, epoch, by, me.handle, hex(me.hpkePub), kid, enc, sealed];
  check(signPub, signature, "unibus.envelope-signature.1", ...statement);
  let key;
  try {
    const recipientKey = await hpke.kem.importKey("raw", me.hpke, false);
    const opener = await hpke.createRecipientContext({ recipientKey, enc, info: INFO });
    key = Buffer.from(await opener.open(sealed, context("unibus.envelope.1", room, epoch, me.handle, kid)));
  } catch {
    throw new Refused("seal", `the key that ${by} has sealed cannot be opened`);
  }
  if (!keyId(key, room, epoch).equals(kid)) throw new Refused("seal", `${by} has sealed another key than he says`);
  return key;
}

// A frame with one text, sealed if there is a key; and its id. Old clients read version 1 only.
export function make(me, room, subject, signed, epoch, key, text, version = 1) {
  const id = Buffer.concat([Buffer.alloc(6), randomBytes(10)]);
  id.writeUIntBE(Date.now(), 0, 6);
  [id[6], id[8]] = [0x70 | (id[6] & 0x0f), 0x80 | (id[8] & 0x3f)];
  const flags = (key ? SEALED : 0) | (signed ? SIGNED : 0);
  const handle = Buffer.from(me.handle);
  // Version 2 names the roster of the room that the sender knows (none: zero), and the type and length of each message.
  const roster = Buffer.alloc(version === 2 ? 32 : 0);
  const start = Buffer.concat([Buffer.from([version, flags]), id, number(epoch), roster]);
  const head = Buffer.concat([start, Buffer.from([handle.length]), handle]);
  let payload = Buffer.from(text);
  if (version === 2) payload = Buffer.concat([Buffer.from([TEXT]), number(payload.length), payload]);
  if (key) {
    const messageKey = derive(key, 32, "unibus.message-key.1", room, epoch, me.handle);
    payload = seal(messageKey, id.subarray(4), context(`unibus.frame.${version}`, room, subject, head), payload);
  }
  const statement = context(`unibus.frame-signature.${version}`, room, subject, head, payload);
  const signature = signed ? me.sign(statement) : Buffer.alloc(0);
  return { frame: Buffer.concat([head, payload, signature]), id: uuid(id) };
}

// Takes a frame apart; nothing of it is proven yet.
export function parse(bytes) {
  const raw = Buffer.from(bytes);
  const malformed = new Refused("malformed", "it is no message of unibus");
  const version = raw[0];
  // Where the sender's length is, and which flags there are.
  const [at, known] = { 1: [22, SEALED | SIGNED | SEVERAL], 2: [54, SEALED | SIGNED] }[version] ?? [0, 0];
  if (!at || raw.length <= at || raw[1] > known) throw malformed;
  const [flags, id, epoch, end] = [raw[1], raw.subarray(2, 18), raw.readUInt32BE(18), at + 1 + raw[at]];
  const [sender, cut] = [raw.toString("latin1", at + 1, end), raw.length - (flags & SIGNED ? SIGNATURE : 0)];
  const isUuid7 = id[6] >> 4 === 7 && id[8] >> 6 === 2;
  const epochs = (epoch !== 0) === ((flags & SEALED) !== 0);
  if (cut < end || !isUuid7 || !epochs || !/^[a-z0-9_-]{1,32}$/.test(sender)) throw malformed;
  if (version === 2 && flags & SEALED && cut - end < TAG) throw malformed;
  const [head, payload, signature] = [raw.subarray(0, end), raw.subarray(end, cut), raw.subarray(cut)];
  return { version, flags, id, epoch, roster: raw.subarray(22, at), sender, head, payload, signature };
}

// What one message says: a text, an attachment, or something that this program does not know.
function content(kind, body) {
  if (kind === TEXT) return { text: body.toString() };
  if (kind === ATTACHMENT && body.length > 40 && body.length <= 40 + 255) {
    const [sha256, size] = [body.toString("hex", 0, 32), Number(body.readBigUInt64BE(32))];
    let name = ".";
    try {
      name = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body.subarray(40));
    } catch {}
    const good = Number.isSafeInteger(size) && name !== "." && name !== ".." && !NOT_IN_A_NAME.test(name);
    if (good) return { attachment: { sha256, size, name } };
  }
  return { type: kind, base64: body.toString("base64") };
}

// What the servers call a frame.
export const frameId = (room, subject, raw) =>
  createHash("sha256").update(context("unibus.frame-id.1", room, subject, raw)).digest("hex").slice(0, 32);

// The messages of a frame, once it is proven who said them, in which room and on which subject.
export async function read(frame, room, subject, policy, signPubOf, roomKeyOf) {
  const { version, flags, sender, epoch, head } = frame;
  if (policy.encrypt && !(flags & SEALED)) throw new Refused("clear", "it is in clear, and has to be sealed");
  if (policy.sign && !(flags & SIGNED)) throw new Refused("unsigned", "it is unsigned, and has to be signed");
  if (flags & SIGNED) {
    const signPub = await signPubOf(sender);
    if (!signPub) throw new Refused("no-sender", `it names ${sender} as its sender, and there is no such user`);
    check(signPub, frame.signature, `unibus.frame-signature.${version}`, room, subject, head, frame.payload);
  }
  let text = frame.payload;
  if (flags & SEALED) {
    const key = await roomKeyOf(epoch);
    if (!key) throw new Refused("no-key", `it is sealed with the key of epoch ${epoch}, which is not for you`);
    const messageKey = derive(key, 32, "unibus.message-key.1", room, epoch, sender);
    text = open(messageKey, frame.id.subarray(4), context(`unibus.frame.${version}`, room, subject, head), text);
  }
  if (version === 1 && !(flags & SEVERAL)) return [content(TEXT, text)];
  // In version 2 the type comes before the length.
  const [contents, at] = [[], version === 2 ? 1 : 0];
  while (text.length) {
    const end = text.length < at + 4 ? Infinity : at + 4 + text.readUInt32BE(at);
    if (end > text.length) throw new Refused("malformed", "one of its messages is cut off");
    contents.push(content(at ? text[0] : TEXT, text.subarray(at + 4, end)));
    text = text.subarray(end);
  }
  return contents;
}

// What is in an attachment.
export function openBlob(blob, room, roomKeyOf) {
  const head = blob.subarray(0, 21);
  if (head.length < 21 || head[0] !== 1) throw new Refused("seal", "it is no attachment of unibus");
  const key = derive(roomKeyOf(head.readUInt32BE(1)), 32, "unibus.blob-key.1", room, head);
  return open(key, Buffer.alloc(12), context("unibus.blob.1", room, head), blob.subarray(21));
}
