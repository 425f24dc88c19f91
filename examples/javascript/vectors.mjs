#!/usr/bin/env node
// Checks formats.mjs and seen.mjs against the published examples: `vectors.mjs FILE`. Whatever is good is read, and the rest
// refused for its reason.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import * as formats from "./formats.mjs";
import { hex, unb64 } from "./formats.mjs";
import { Seen } from "./seen.mjs";

const vectors = JSON.parse(readFileSync(process.argv[2], "utf8"));
const people = new Map(vectors.people.map((p) => [p.handle, new formats.Identity(p.handle, p.sign, p.hpke)]));
const keys = new Map(vectors.keys.map((v) => [`${v.room} ${v.epoch}`, hex(v.key)]));
let count = 0;

// Calls `found`, and compares what it returns, or why it refuses, with the vector.
async function check(vector, wanted, found) {
  const refused = (error) => {
    if (error instanceof formats.Refused) return `refused: ${error.word}`;
    throw error;
  };
  const outcome = await Promise.resolve().then(found).catch(refused);
  assert.deepEqual(outcome, vector.refused ? `refused: ${vector.refused}` : vector[wanted], JSON.stringify(vector));
  count += 1;
}

function read(v, raw) {
  const signPubOf = (handle) => people.get(handle)?.signPub;
  return formats.read(formats.parse(raw), v.room, v.subject, v.policy, signPubOf, (epoch) => keys.get(`${v.room} ${epoch}`));
}

for (const v of vectors.people) {
  await check(v, "sign_pub", () => people.get(v.handle).signPub);
  await check(v, "hpke_pub", () => people.get(v.handle).hpkePub);
}
for (const v of vectors.contexts) {
  await check(v, "context", () => formats.context(v.label, ...v.parts.map(unb64)).toString("base64"));
}
for (const v of vectors.hpke_keys) {
  const statement = formats.keyStatement(v.handle, v.sign_pub, v.hpke_pub);
  await check(v, "good", () => formats.check(v.sign_pub, unb64(v.signature), ...statement) === undefined);
}
for (const v of vectors.keys) {
  const messageKey = () => formats.derive(hex(v.key), 32, "unibus.message-key.1", v.room, v.epoch, v.sender);
  await check(v, "key_id", () => formats.keyId(hex(v.key), v.room, v.epoch).toString("hex"));
  await check(v, "message_key", () => messageKey().toString("hex"));
}
for (const v of vectors.envelopes) {
  const [by, to] = [people.get(v.by), people.get(v.to)];
  const open = async (envelope) =>
    (await formats.openKey(envelope, v.room, v.epoch, by.handle, by.signPub, to, hex(v.key_id))).toString("hex");
  await check(v, "key", () => open(v.envelope));
  if (v.key) {
    const ours = await formats.sealKey(hex(v.key), v.room, v.epoch, by, to.handle, to.hpkePub);
    await check(v, "key", () => open(ours));
  }
}
for (const [version, frames] of [[1, vectors.frames], [2, vectors.frames_2]]) {
  // Version 1 has texts, and its examples nothing around them.
  const said = async (contents) => (version === 1 ? (await contents).map(({ text }) => text) : contents);
  for (const v of frames) {
    await check(v, "messages", () => said(read(v, unb64(v.frame))));
    const [first, ...more] = v.messages ?? [];
    if ((first?.text ?? first) === "hello" && !more.length) {
      const { sender, epoch } = formats.parse(unb64(v.frame));
      const key = keys.get(`${v.room} ${epoch}`);
      const ours = formats.make(people.get(sender), v.room, v.subject, true, epoch, key, "hello", version).frame;
      await check(v, "messages", () => said(read(v, ours)));
    }
    if (v.roster) await check(v, "roster", () => formats.parse(unb64(v.frame)).roster.toString("hex"));
  }
}
for (const v of vectors.frame_ids) await check(v, "frame_id", () => formats.frameId(v.room, v.subject, unb64(v.frame)));
for (const arrivals of [vectors.arrivals, vectors.arrivals_2]) {
  const seen = new Seen();
  for (const v of arrivals) {
    const id = hex(v.id.replaceAll("-", ""));
    await check(v, "new", () => seen.admit(id, v.sender ?? "alice", v.at_ms, v.seq));
  }
}
for (const v of vectors.blobs) {
  if (v.plain) await check(v, "name", () => createHash("sha256").update(unb64(v.blob)).digest("hex"));
  await check(v, "plain", () => formats.openBlob(unb64(v.blob), v.room, (epoch) => keys.get(`${v.room} ${epoch}`)).toString());
}
console.log(`${count} checks passed`);
