// What people hand to each other, as membershipd/docs/roster.md describes it: links to rooms, the secret of an identity, and words.
import { createPrivateKey, createPublicKey, hkdfSync } from "node:crypto";

import { Parts, Refused, context, need, sha256, unhex } from "./entries.mjs";

const derive = (secret, label) => Buffer.from(hkdfSync("sha256", secret, "", context(label), 32));

// The public half of a secret: Ed25519 is 70, X25519 is 6e (RFC 8410).
const publicOf = (oid, secret) => {
  const key = Buffer.concat([unhex(`302e020100300506032b65${oid}04220420`), secret]);
  const jwk = createPublicKey(createPrivateKey({ key, format: "der", type: "pkcs8" })).export({ format: "jwk" });
  return Buffer.from(jwk.x, "base64url").toString("hex");
};

// A link to a room, taken apart: a secret.
export function readLink(link) {
  const text = link.replace(/\s/g, "");
  need(text.startsWith("unibus-room:"), "foreign");
  need(text.startsWith("unibus-room:1:"), "version");
  const raw = Buffer.from(text.slice(14), "base64url");
  need(raw.toString("base64url") === text.slice(14) && text.length <= 512, "broken");
  need(sha256(raw.subarray(4)).subarray(0, 4).equals(raw.subarray(0, 4)), "broken");
  const parts = new Parts(raw.subarray(4));
  let room, actor, actor_key, number, head, seed;
  try {
    need(parts.next().toString("latin1") === "unibus.room-link.1", "wrong");
    ({ room, actor, actor_key, number, head } = parts.fields("room actor actor_key number head"));
    seed = parts.sized(32);
    need(!parts.raw.length, "wrong");
  } catch {
    throw new Refused("wrong");
  }
  return {
    room, inviter: actor, inviter_key: actor_key, head: { number, hash: head },
    token: derive(seed, "unibus.link.token.1").toString("base64url"), invite_pub: publicOf("70", derive(seed, "unibus.link.invite-key.1")),
  };
}

// Both public keys of a person, from their one secret.
export const identity = (secret) => ({
  signPub: publicOf("70", derive(secret, "unibus.identity.sign.1")), hpkePub: publicOf("6e", derive(secret, "unibus.identity.hpke.1")),
});

// The first bits as places in the list of words (BIP 39), 11 bits each.
function numbers(raw, count) {
  const bits = [...raw].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return Array.from({ length: count }, (_, word) => parseInt(bits.slice(11 * word, 11 * (word + 1)), 2));
}
export const secretNumbers = (secret) => numbers(Buffer.concat([secret, sha256(secret).subarray(0, 1)]), 24);

function stretched(raw) {
  let digest = sha256(raw);
  for (let round = 0; round < 4096; round += 1) digest = sha256(Buffer.concat([digest, raw]));
  return digest;
}

// What two people compare: six words for each of them, in the order of their keys. A person is {handle, signPub, hpkePub}.
export function peopleNumbers(...people) {
  const inOrder = people.sort((one, other) => (one.signPub < other.signPub ? -1 : 1));
  const half = ({ handle, signPub, hpkePub }) => context("unibus.person-words.1", handle, unhex(signPub), unhex(hpkePub));
  return inOrder.flatMap((person) => numbers(stretched(half(person)), 6));
}
export const roomNumbers = (room, number, head) => numbers(stretched(context("unibus.room-words.1", room, number, unhex(head))), 12);
