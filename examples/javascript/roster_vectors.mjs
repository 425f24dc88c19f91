#!/usr/bin/env node
// Checks entries.mjs, roster.mjs and phrases.mjs against the published examples: `roster_vectors.mjs FILE`, and against logs of its own: `roster_vectors.mjs FILE LOG`.
// Whatever is good is taken, and the rest refused for its reason. A LOG is JSON: `{room, creator, entries, head, forged}`; each of `forged`
// stands in the place `at` of the entries and is refused as it says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { Refused, need, verifies } from "./entries.mjs";
import * as phrases from "./phrases.mjs";
import * as roster from "./roster.mjs";

const [vectors, ...logs] = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, "utf8")));
const unb64 = (text) => Buffer.from(text, "base64");
const hex = (text) => Buffer.from(text, "hex");
const entries = vectors.entries.map(unb64);
const people = new Map(vectors.people.map((p) => [p.name, { handle: p.handle, signPub: p.sign_pub, hpkePub: p.hpke_pub }]));
let count = 0;

// Calls `found`, and compares what it returns, or why it refuses, with the vector.
function check(vector, wanted, found) {
  let outcome;
  try {
    outcome = found();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    outcome = { refused: error.word, ...(error.at && { at: error.at }) };
  }
  const refused = vector.refused && { refused: vector.refused, ...(vector.at && { at: vector.at }) };
  assert.deepEqual(outcome, refused ?? vector[wanted], JSON.stringify(vector));
  count += 1;
}

function logOf({ room, trust, entries: places }) {
  const trusted = trust === "first-use" ? {} : { ...trust, ...(trust.link && { link: phrases.readLink(trust.link) }) };
  return roster.verify(room, places.map((place) => entries[place]), trusted);
}

function stateOf(vector) {
  const state = logOf(vector);
  const shown = ([handle, said]) => ({ handle, ...said.at(-1) });
  const inOrder = [...state.people].sort(([one], [other]) => (one < other ? -1 : 1)).map(shown);
  const takings = (vector.takings ?? []).map((one) => [one.handle, one.sign_pub]);
  const head = { number: state.hashes.length, hash: state.hashes.at(-1) };
  return { head, subject: state.subject, policy: state.policy, people: inOrder, recipients: state.recipients(takings) };
}

function proven({ epoch, to, before, log }) {
  const state = logOf(vectors.logs.find(({ what }) => what === log));
  const { madeAt, recipients } = state.checkEpoch(epoch, to, before);
  return { made_at: madeAt, ...state.staleness(recipients) };
}

for (const v of vectors.signatures) {
  const good = verifies(v.sign_pub, unb64(v.message), hex(v.signature));
  check(v, "good", () => need(good, "signature") === undefined);
}
for (const v of vectors.logs) check(v, "state", () => stateOf(v));
for (const v of vectors.links) check(v, "link", () => phrases.readLink(v.text));
for (const v of vectors.epochs) check(v, "proven", () => proven(v));
for (const v of vectors.identities) {
  check(v, "numbers", () => phrases.secretNumbers(hex(v.secret)));
  check(v, "sign_pub", () => phrases.identity(hex(v.secret)).signPub);
  check(v, "hpke_pub", () => phrases.identity(hex(v.secret)).hpkePub);
}
for (const v of vectors.words) {
  if (v.people) check(v, "numbers", () => phrases.peopleNumbers(...v.people.map((name) => people.get(name))));
  else check(v, "numbers", () => phrases.roomNumbers(v.room, v.head.number, v.head.hash));
}
for (const log of logs) {
  const raw = log.entries.map(unb64);
  const headOf = (bytes) => roster.verify(log.room, bytes, { creator: log.creator }).hashes.at(-1);
  check(log, "head", () => headOf(raw));
  for (const v of log.forged) check(v, "head", () => headOf(raw.with(v.at - 1, unb64(v.entry))));
}
console.log(`${count} checks passed`);
