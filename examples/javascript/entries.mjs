// Entries of a room's log, as membershipd/docs/roster.md describes them: their one encoding, and their signatures.
// roster.mjs says what a log of them comes to. What is not proven is Refused.
import { createHash, createPublicKey, verify } from "node:crypto";

import { context } from "./context.mjs";

export { context };

const FIRST_ENTRY = 288 * 1024; // most bytes of an entry: the first may have a whole room in it
// Points of small order, without the bit for the sign: a signature by one proves nothing, and one with such an R is not its key's alone.
// Node.js takes both, so they are looked for here.
const ENDS = ["ec", "ed", "ee"].map((first) => first + "ff".repeat(30) + "7f");
const SMALL = ["00".repeat(32), "01" + "00".repeat(31), ...ENDS];
const WEAK_ED25519 = new Set([
  ...SMALL,
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]);
export const WEAK_X25519 = new Set([
  ...SMALL,
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
]);
// What stands behind each action.
const FIELDS = {
  create: "hpke_pub subject policy", adopt: "subject policy members", continue: "hpke_pub subject policy before head_number head",
  invite: "target sign_pub hpke_pub role", "invite-link": "invite_pub role", accept: "hpke_pub", "accept-link": "invite_pub hpke_pub",
  leave: "", remove: "target", ban: "target", unban: "target", "revoke-link": "invite_pub", role: "target role",
  policy: "policy", subject: "subject", "replace-key": "target sign_pub hpke_pub",
};

// Something is not what it claims to be: why, in a word for programs, and at which place of a log.
export class Refused extends Error {
  constructor(word, at) {
    super(word);
    Object.assign(this, { word, at });
  }
}

export const need = (holds, word) => {
  if (!holds) throw new Refused(word);
};
export const sha256 = (bytes) => createHash("sha256").update(bytes).digest();
export const unhex = (text) => Buffer.from(text, "hex");

// Keys and hashes are hexadecimal here.
export const withoutSign = (point) => point.slice(0, 62) + (parseInt(point.slice(62), 16) & 0x7f).toString(16).padStart(2, "0");
const publicKey = (signPub) => createPublicKey({ key: unhex(`302a300506032b6570032100${signPub}`), format: "der", type: "spki" });

// Ed25519: -x² + y² = 1 + D x² y² (RFC 8032 section 5.1)
const P = 2n ** 255n - 19n;
const power = (base, exponent) => {
  let result = 1n;
  for (let square = base % P, rest = exponent; rest; rest >>= 1n, square = (square * square) % P) {
    if (rest & 1n) result = (result * square) % P;
  }
  return result;
};
const D = ((P - 121665n) * power(121666n, P - 2n)) % P;

// Whether it is a point of the curve, by its equation, and not of small order: Node.js takes any 32 bytes as a key.
function isNewKey(key) {
  const y = BigInt(`0x${unhex(withoutSign(key)).reverse().toString("hex")}`) % P;
  // x is a root of the quotient, which is a square where the product is.
  const ratio = (y * y - 1n + P) * (D * y * y + 1n);
  return !WEAK_ED25519.has(withoutSign(key)) && power(ratio, (P - 1n) / 2n) === 1n;
}
const known = new Map();
function isKey(key) {
  if (!known.has(key)) known.set(key, isNewKey(key));
  return known.get(key);
}

// Strictly: no key and no R of small order, and S below the group's order, which the library sees to.
export function verifies(signPub, message, signature) {
  if (signature.length !== 64 || !isKey(signPub) || WEAK_ED25519.has(withoutSign(signature.toString("hex", 0, 32)))) return false;
  return verify(null, message, publicKey(signPub), signature);
}

// Reads the parts of a context.
export class Parts {
  constructor(raw) {
    this.raw = raw;
  }

  next() {
    const end = this.raw.length < 4 ? Infinity : 4 + this.raw.readUInt32BE(0);
    need(this.raw.length >= end, "malformed");
    const part = this.raw.subarray(4, end);
    this.raw = this.raw.subarray(end);
    return part;
  }

  sized(size) {
    const part = this.next();
    need(part.length === size, "malformed");
    return part;
  }

  text(pattern) {
    const part = this.next().toString("latin1");
    need(pattern.test(part), "malformed");
    return part;
  }

  field(name) {
    switch (name) {
      case "room": case "before": return this.text(/^[a-z0-9][a-z0-9_-]{0,63}$/);
      case "actor": case "target": return this.text(/^[a-z0-9][a-z0-9_-]{0,31}$/);
      case "subject": return this.text(/^(?=.{1,100}$)(proc|rpc|room|agent)(\.[a-z0-9_-]+){1,7}$/);
      case "number": case "head_number": return this.sized(4).readUInt32BE(0);
      case "previous": case "hpke_pub": case "head": return this.sized(32).toString("hex");
      case "time": return this.sized(8).readBigUInt64BE(0);
      case "role": return this.text(/^(reader|member|moderator|owner)$/);
      case "state": return this.text(/^(invited|joined|banned)$/);
      case "actor_key": case "sign_pub": case "invite_pub": {
        const key = this.sized(32).toString("hex");
        need(isKey(key), "malformed");
        return key;
      }
      case "policy": {
        const flags = this.sized(1)[0];
        need(flags < 8, "malformed");
        return { encrypt: !!(flags & 1), persist: !!(flags & 2), sign: !!(flags & 4) };
      }
    }
    const members = [];
    while (this.raw.length) {
      const member = this.fields("target role state sign_pub hpke_pub");
      need(!members.length || members.at(-1).target < member.target, "malformed");
      members.push(member);
    }
    return members;
  }

  fields(names) {
    return Object.fromEntries(names.split(" ").filter(Boolean).map((name) => [name, this.field(name)]));
  }
}

// How many bytes of signatures there are, as the action says.
function signaturesOf(raw) {
  const ahead = new Parts(raw);
  try {
    for (let part = 0; part < 7; part += 1) ahead.next();
    return ahead.next().toString("latin1") === "accept-link" ? 128 : 64;
  } catch {
    return 64;
  }
}

// Reads an entry; nothing of it is proven yet. There is one encoding of each.
export function decode(raw) {
  need(raw.length <= FIRST_ENTRY, "too-large");
  const size = signaturesOf(raw);
  need(raw.length >= size, "malformed");
  const body = raw.subarray(0, raw.length - size);
  const parts = new Parts(body);
  need(parts.next().toString("latin1") === "unibus.roster-entry.1", "malformed");
  const head = parts.fields("room number previous actor actor_key time");
  const action = parts.next().toString("latin1");
  need(Object.hasOwn(FIELDS, action), "malformed");
  const fields = parts.fields(FIELDS[action]);
  const begins = ["create", "adopt", "continue"].includes(action);
  const first = head.previous === "00".repeat(32);
  need(!parts.raw.length && head.number !== 0 && (head.number === 1) === begins && first === begins, "malformed");
  const signatures = [raw.subarray(body.length, body.length + 64), raw.subarray(body.length + 64)];
  return { ...head, action, fields, body, signatures, hash: sha256(raw).toString("hex") };
}

// The signatures, by the keys that the entry names.
export function prove(entry) {
  need(verifies(entry.actor_key, entry.body, entry.signatures[0]), "signature");
  if (entry.action !== "accept-link") return;
  const statement = context("unibus.roster-invite.1", entry.body);
  need(verifies(entry.fields.invite_pub, statement, entry.signatures[1]), "invite-signature");
}
