#!/usr/bin/env node
// Talks in a room of unibus: `chat.mjs say ROOM TEXT` and `chat.mjs tail ROOM`. Needs Node.js 20 and what package.json names.
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { connect, headers, nkeyAuthenticator } from "@nats-io/transport-node";

import { Identity, Refused, frameId, make, parse, read, unb64, uuid } from "./formats.mjs";
import { Api, PATIENCE_MS, People, Problem, Room } from "./member.mjs";

// A connection to the bus; its end wakes whoever waits, as a message does. Rights are fixed when it is made.
class Connection {
  arrived = [];
  errors = [];
  ended = false;
  wake = () => {};

  static async open(room, { urls, ca }) {
    const { port, tls } = await room.api.ask("GET", "/v1/bus");
    const connection = new Connection();
    connection.bus = await connect({
      servers: urls.map((url) => `${tls ? "tls" : "nats"}://${new URL(url).hostname}:${port}`),
      authenticator: nkeyAuthenticator(new TextEncoder().encode(room.me.nkey)),
      inboxPrefix: `_INBOX.${room.me.handle}`,
      tls: tls ? { caFile: ca } : undefined,
      timeout: 5_000,
      reconnect: false,
    });
    connection.watch();
    connection.bus.closed().then(() => connection.wake((connection.ended = true)));
    await connection.settle();
    return connection;
  }

  async watch() {
    for await (const status of this.bus.status()) if (status.type === "error") this.errors.push(status.error);
  }

  subscribe(subject) {
    const callback = (error, message) => (error ? this.errors.push(error) : this.wake(this.arrived.push(message)));
    this.bus.subscribe(subject, { callback });
  }

  // Until something arrives, or the connection ends, or this time is over.
  async next(ms) {
    if (!this.arrived.length && !this.ended) {
      const over = new AbortController();
      const woken = new Promise((resolve) => (this.wake = resolve));
      await Promise.race([woken, sleep(ms, undefined, { signal: over.signal }).catch(() => {})]);
      over.abort();
    }
    return this.arrived.shift();
  }

  // A round trip: whatever the engine objects to has come back then.
  async settle() {
    await this.bus.flush();
    await setImmediate();
    const error = new Error(`the bus does not permit it: ${this.errors.at(-1)}`);
    if (this.errors.length) throw Object.assign(error, { denied: true });
  }
}

// What the daemons say of a frame; nothing: they said nothing for 3 s.
async function told(connection, id) {
  for (const end = Date.now() + 3_000; Date.now() < end && !connection.ended; ) {
    const notice = (await connection.next(end - Date.now()))?.json();
    if (notice?.id === id) return notice;
  }
}

// Says it, and waits until it is known to be kept where the room keeps what is said: by the daemons' notice, or else because the
// history shows it.
async function say(room, options) {
  const [epoch, key] = room.policy.encrypt ? await room.currentKey() : [0, undefined];
  const { me, policy, publish, notices } = room;
  // Clients of release 0.1.0 read the first version alone; from feature level 2 on there are none.
  const { level = 1 } = await room.api.ask("GET", "/v1/bus");
  const version = Number(options.frames ?? Math.min(level, 2));
  const { frame, id } = make(me, room.id, publish, policy.sign, epoch, key, options.text, version);
  let after = policy.persist && !notices ? (await room.history(null, 1)).last : 0;
  const [deadline, header] = [Date.now() + PATIENCE_MS, headers()];
  header.set("Nats-Msg-Id", id);
  let connection;
  while (Date.now() < deadline) {
    try {
      if (!connection || connection.ended) {
        connection = await Connection.open(room, options);
        if (notices) connection.subscribe(notices);
      }
      // The very same frame again: it is kept once, by its id.
      connection.bus.publish(publish, frame, { headers: header });
      await connection.settle();
    } catch (error) {
      if (error.denied || error instanceof Problem) throw error;
      await sleep(500);
      continue;
    }
    if (!policy.persist) return console.log(options.json ? JSON.stringify({ id }) : "said; the room keeps nothing");
    if (notices) {
      const { seq, refused, retry } = (await told(connection, frameId(room.id, publish, frame))) ?? {};
      if (seq) return console.log(options.json ? JSON.stringify({ id, seq }) : "said, and kept");
      if (refused && !retry) throw new Error(`${id} was not kept: ${refused}`);
      await sleep(500);
      continue;
    }
    for (const again = Date.now() + 3_000; Date.now() < again; await sleep(50)) {
      for (const kept of (await room.history(after, 1000)).messages) {
        after = kept.seq;
        if (!unb64(kept.frame).equals(frame)) continue;
        return console.log(options.json ? JSON.stringify({ id, seq: after }) : "said, and kept");
      }
    }
  }
  throw new Error(`${id} was sent, and nobody knows whether it was kept`);
}

// A message as people see it.
function line({ text, attachment, type }) {
  if (attachment) return `[attachment] ${attachment.name} (${attachment.size} bytes)`;
  return text ?? `[a message that this program does not know, of type ${type}]`;
}

// Shows what is proven, and of the rest why it is not shown.
class Screen {
  constructor(room, options) {
    Object.assign(this, { room, options, left: Number(options.count), after: null });
  }

  async show(raw, subject, at_ms, seq) {
    const { room, options } = this;
    let frame, contents;
    try {
      frame = parse(raw);
      const signPubOf = (handle) => room.people.signPubOf(handle);
      contents = await read(frame, room.id, subject, room.policy, signPubOf, (epoch) => room.key(epoch));
      // Only what is true is remembered: nobody keeps a message away by a false one of the same id.
      if (!room.seen.admit(frame.id, frame.sender, at_ms, seq)) return;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      // Its sender heard nothing and sent it again: on a member's own subject no other can have.
      const again = error.word === "replayed" && seq === null && subject.endsWith(`.${frame.sender}`);
      if (again || room.seen.told(raw, subject)) return;
      if (options.json) return console.log(JSON.stringify({ refused: error.word, why: error.message, at_ms, seq }));
      return console.error(`not shown: ${error.message}`);
    }
    const [id, sender, when] = [uuid(frame.id), frame.sender, new Date(frame.id.readUIntBE(0, 6))];
    for (const content of contents) {
      // What somebody says must not move the cursor or colour the next line.
      const shown = line(content).replace(/\p{C}/gu, "\ufffd");
      const said = `${when.toTimeString().slice(0, 8)} ${sender} ${shown}`;
      console.log(options.json ? JSON.stringify({ id, sender, at_ms, seq, ...content }) : said);
      if ((this.left -= 1) === 0) process.exit(0);
    }
  }

  // Shows what was kept since the last look; the first time, the last of it.
  async catchUp() {
    for (;;) {
      const { messages, last } = await this.room.history(this.after, this.after === null ? 200 : 1000);
      for (const kept of messages) {
        await this.show(unb64(kept.frame), kept.subject, kept.at_ms, kept.seq);
        this.after = kept.seq;
      }
      this.after ??= last;
      if (!messages.length) return;
    }
  }
}

// Shows what was kept, and then what comes, until the connection ends.
async function listen(room, options, screen) {
  const connection = await Connection.open(room, options);
  try {
    [room.subject, `${room.subject}.>`].forEach((subject) => connection.subscribe(subject));
    await connection.settle();
    // The history at once, soon again (a node may be a moment behind), and now and then: the bus acknowledges nothing.
    for (let look = 0, pause = 2_000; !connection.ended; ) {
      const message = look <= Date.now() ? undefined : await connection.next(look - Date.now());
      if (message) await screen.show(message.data, message.subject, Date.now(), null);
      if (look > Date.now()) continue;
      if (room.policy.persist) await screen.catchUp();
      [look, pause] = [Date.now() + pause, 60_000];
    }
  } finally {
    await connection.bus.close();
  }
}

// Listens; a connection that is lost is made again, and nothing is missed meanwhile.
async function tail(room, options) {
  const screen = new Screen(room, options);
  for (let pause = 250; ; pause = Math.min(5_000, pause * 2)) {
    try {
      await room.look();
      await listen(room, options, screen);
      pause = 250;
    } catch (error) {
      if (error instanceof Problem || error instanceof Refused) throw error;
      console.error(`not connected: ${error.message}`);
    }
    await sleep(pause);
  }
}

const USAGE = "say ROOM TEXT or tail ROOM [--count N], with --identity FILE --url URL[,URL] [--ca FILE] [--json]";
const FRAMES = { type: "string" }; // version to write, 1 or 2, if not the one that the cluster is ready for

async function main() {
  const option = (name) => [name, { type: "string", default: process.env[`UNIBUS_${name.toUpperCase()}`] }];
  const named = Object.fromEntries(["identity", "ca", "url"].map(option));
  const shown = { json: { type: "boolean", default: false }, count: { type: "string", default: "0" }, frames: FRAMES };
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { ...named, ...shown } });
  const [verb, id, text] = positionals;
  const act = { say, tail }[verb];
  if (!act || !id || !values.identity || !values.url || (act === say && text === undefined)) throw new Error(USAGE);
  if (![undefined, "1", "2"].includes(values.frames)) throw new Error("--frames is 1 or 2");
  const options = { ...values, text, urls: values.url.split(",") };
  const me = Identity.load(values.identity);
  const api = new Api(options.urls, values.ca, me);
  const people = new People(api, `${values.identity}.chat.json`);
  await people.introduce(me);
  const room = new Room(id, me, api, people);
  await room.look();
  await act(room, options);
}

const failed = (error) => {
  console.error(`chat.mjs: ${error.message}`);
  process.exit(1);
};
main().then(() => process.exit(0), failed);
