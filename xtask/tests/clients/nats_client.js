// A stock nats.js client, driven by one JSON command a line on stdin, answering one JSON line each: the commands of
// nats_client.py, as far as a test needs them. Nothing of unibus is in it.
"use strict";

const { createRequire } = require("node:module");
const readline = require("node:readline");
const { setTimeout: sleep } = require("node:timers/promises");

const { connect, nkeyAuthenticator } = createRequire(`${process.env.UNIBUS_TEST_JS}/`)("@nats-io/transport-node");

let nc = null;
let closed = false;
const errors = [];
const received = [];

// What the server objects to: in the stream of events, and to whoever subscribed.
async function watch() {
  for await (const status of nc.status()) {
    if (status.type === "error") errors.push(String(status.error));
  }
}

// A round trip, so that the objections to what came before have arrived.
async function settled(before = errors.length) {
  await nc.flush();
  await sleep(50);
  return { ok: errors.length === before, errors: errors.slice(before) };
}

async function within(seconds, condition) {
  const deadline = Date.now() + seconds * 1000;
  while (!condition() && Date.now() < deadline) await sleep(10);
  return condition();
}

const operations = {
  // Connects once, without reconnecting.
  async connect({ url, ca, seed, inbox, timeout = 5 }) {
    nc = await connect({
      servers: url,
      reconnect: false,
      timeout: timeout * 1000,
      inboxPrefix: inbox,
      authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)),
      tls: ca ? { caFile: ca } : undefined,
    });
    watch();
    nc.closed().then(() => (closed = true));
    await nc.flush();
    return { ok: true, server: nc.info.server_name };
  },
  async subscribe({ subject }) {
    const before = errors.length;
    nc.subscribe(subject, {
      callback: (error, message) => {
        if (error) errors.push(String(error));
        else received.push([message.subject, message.string()]);
      },
    });
    return settled(before);
  },
  // Answers every request on `subject` with what it said and `data`.
  async respond({ subject, data = "" }) {
    const before = errors.length;
    nc.subscribe(subject, {
      callback: (error, message) => {
        if (error) errors.push(String(error));
        else message.respond(message.string() + data);
      },
    });
    return settled(before);
  },
  async publish({ subject, data = "" }) {
    const before = errors.length;
    nc.publish(subject, data);
    return settled(before);
  },
  async request({ subject, data = "", timeout = 2 }) {
    const answer = await nc.request(subject, data, { timeout: timeout * 1000 });
    return { ok: true, data: answer.string() };
  },
  async wait_received({ count, timeout = 5 }) {
    return { ok: await within(timeout, () => received.length >= count), received };
  },
  async state() {
    // What has reached this process already may still wait for its turn.
    await sleep(50);
    return { ok: true, connected: nc !== null && !closed, errors };
  },
  async wait_closed({ timeout }) {
    return { ok: await within(timeout, () => closed), errors };
  },
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { op, ...command } = JSON.parse(line);
    const answer = await operations[op](command).catch((error) => ({ ok: false, error: String(error), errors }));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await nc?.close();
}

main();
