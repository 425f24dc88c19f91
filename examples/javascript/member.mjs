// What a member of a room holds: a way to the API, the keys of others as he has pinned them, and the keys of the room.
// The servers are trusted with nothing but delivery: what is not proven is Refused (see formats.mjs).
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";

import { Refused, check, context, hex, keyId, keyStatement, openKey, sealKey, unb64 } from "./formats.mjs";
import { Seen } from "./seen.mjs";

export const PATIENCE_MS = 30_000;

// The API refuses: the type of the problem, and its words.
export class Problem extends Error {
  constructor(problem) {
    super(`${problem.title}: ${problem.detail ?? problem.type}`);
    this.type = problem.type.split("/").at(-1);
  }
}

// Signed requests (RFC 9421) to whichever node answers. Whatever this program asks for may be asked for twice.
export class Api {
  constructor(urls, ca, me) {
    Object.assign(this, { urls, me, ca: ca && readFileSync(ca) });
  }

  async ask(method, path, body) {
    const deadline = Date.now() + PATIENCE_MS;
    let why;
    while (Date.now() < deadline) {
      for (const url of this.urls) {
        const sent = this.send(method, new URL(path, url), body ? JSON.stringify(body) : "");
        const answer = await sent.catch((error) => ({ status: 503, error }));
        if (answer.status < 300) return answer.json;
        why = answer.error ?? new Problem(answer.json);
        if (![429, 503].includes(answer.status)) throw why;
      }
      await sleep(300);
    }
    throw new Error(`no node can do it: ${why.message}`);
  }

  signed(method, url, text) {
    const digest = `sha-256=:${createHash("sha256").update(text).digest("base64")}:`;
    const derived = { "@method": method, "@authority": url.host, "@path": url.pathname, "@query": url.search || "?" };
    const covered = { ...derived, "content-digest": digest };
    const now = Math.floor(Date.now() / 1000);
    const params =
      `(${Object.keys(covered).map((name) => `"${name}"`).join(" ")});created=${now};expires=${now + 60}` +
      `;nonce="${randomBytes(16).toString("base64")}";keyid="${this.me.signPub}";tag="unibus"`;
    const lines = Object.entries({ ...covered, "@signature-params": params }).map(([name, value]) => `"${name}": ${value}`);
    const signature = this.me.sign(Buffer.from(lines.join("\n"))).toString("base64");
    return { "Content-Digest": digest, "Signature-Input": `sig1=${params}`, Signature: `sig1=:${signature}:` };
  }

  send(method, url, text) {
    const body = text ? { "Content-Type": "application/json" } : {};
    const headers = { ...this.signed(method, url, text), ...body, "Content-Length": Buffer.byteLength(text) };
    return new Promise((resolve, reject) => {
      const request = (url.protocol === "https:" ? https : http).request(url, { method, headers, ca: this.ca, timeout: 20_000 });
      request.on("timeout", () => request.destroy(new Error("no answer within 20 s"))).on("error", reject);
      request.on("response", (response) => {
        const answer = (pieces) => ({ status: response.statusCode, json: JSON.parse(Buffer.concat(pieces)) });
        response.toArray().then(answer).then(resolve, reject);
      });
      request.end(text);
    });
  }
}

// Whose keys are whose, and the newest epochs: what was once seen is pinned, and anything else refused.
export class People {
  constructor(api, path) {
    Object.assign(this, { api, path, pins: { users: {}, epochs: {} } });
  }

  // Another program of the same user may have seen somebody meanwhile.
  load() {
    if (existsSync(this.path)) this.pins = JSON.parse(readFileSync(this.path));
  }

  async introduce({ handle, signPub, hpkePub }) {
    this.pin("users", handle, { sign_pub: signPub, hpke_pub: hpkePub });
    const signature = this.api.me.sign(context(...keyStatement(handle, signPub, hpkePub)));
    this.see(await this.api.ask("PUT", "/v1/me/hpke", { hpke_pub: hpkePub, signature: signature.toString("base64") }));
  }

  // What is pinned of a user whom a server has told us of.
  see({ handle, sign_pub, hpke }) {
    this.load();
    const found = { sign_pub };
    if (hpke) {
      check(sign_pub, unb64(hpke.signature), ...keyStatement(handle, sign_pub, hpke.hpke_pub));
      found.hpke_pub = hpke.hpke_pub;
    }
    const pinned = this.pins.users[handle] ?? {};
    for (const [what, key] of Object.entries(found)) {
      const swapped = `the servers name another ${what} for ${handle} than before: ask ${handle} in person`;
      if ((pinned[what] ?? key) !== key) throw new Refused("swapped-key", swapped);
    }
    return this.pin("users", handle, { ...pinned, ...found });
  }

  pin(kind, name, value) {
    this.load();
    if (JSON.stringify(this.pins[kind]?.[name]) === JSON.stringify(value)) return value;
    this.pins[kind] = { ...this.pins[kind], [name]: value };
    writeFileSync(`${this.path}.${process.pid}`, JSON.stringify(this.pins));
    renameSync(`${this.path}.${process.pid}`, this.path);
    return value;
  }

  async signPubOf(handle) {
    if (!this.pins.users[handle]) {
      try {
        this.see({ ...(await this.api.ask("GET", `/v1/directory/${handle}`)), handle });
      } catch (error) {
        if (error.type === "no-such-user") return undefined;
        throw error;
      }
    }
    return this.pins.users[handle].sign_pub;
  }
}

// A room, as one of its members has it.
export class Room {
  keys = new Map();
  seen = new Seen();

  constructor(id, me, api, people) {
    Object.assign(this, { id, me, api, people, path: `/v1/rooms/${id}` });
  }

  // What was kept after that number, oldest first; without one, the last of it.
  history(after, limit) {
    return this.api.ask("GET", `${this.path}/history?limit=${limit}${after === null ? "" : `&after=${after}`}`);
  }

  // How the room is now; a Problem if we are not in it any more.
  async look() {
    const { own, subject, policy, keeper } = await this.api.ask("GET", this.path);
    const detail = `if you are invited: membershipd member accept ${this.id}`;
    if (own?.state !== "joined") throw new Problem({ title: "You are not in the room", detail, type: "not-joined" });
    // Whoever has seen that messages are sealed here says nothing in clear: a server would be told it.
    if (policy.encrypt) this.people.pin("sealed", this.id, true);
    else if (this.people.pins.sealed?.[this.id]) throw new Refused("unsealed", "the room is said to be in clear, and was sealed");
    // Where daemons keep what is said: the one subject on which we publish, and where we are told what came of it.
    Object.assign(this, { subject, policy, publish: keeper?.publish ?? subject, notices: keeper?.notices });
  }

  // The room's key of an epoch; none: it is not for us.
  async key(epoch) {
    // A node may know of a new epoch a moment later than the one that began it.
    for (let looks = 0; looks < 3 && !this.keys.has(epoch); looks += 1) {
      try {
        const { by, key_id, envelope } = await this.api.ask("GET", `${this.path}/keys/${epoch}`);
        const signer = await this.people.signPubOf(by);
        if (!signer) throw new Refused("no-sender", `the key of epoch ${epoch} is said to be made by ${by}, whom nobody knows`);
        this.keys.set(epoch, await openKey(envelope, this.id, epoch, by, signer, this.me, hex(key_id)));
      } catch (error) {
        if (!["not-sealed", "not-encrypted", "no-such-epoch"].includes(error.type)) throw error;
        if (error.type !== "no-such-epoch") this.keys.set(epoch, undefined);
        else await sleep(150);
      }
    }
    return this.keys.get(epoch);
  }

  // The newest epoch and its key: one of ours where the newest is not sealed for exactly those who are there now.
  async currentKey() {
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const { own, stale, ...newest } = await this.api.ask("GET", `${this.path}/keys`);
      this.people.load();
      const [epoch, seen] = [newest.epoch ?? 0, this.people.pins.epochs[this.id] ?? 0];
      if (epoch < seen) throw new Refused("epoch-went-back", `epoch ${epoch} is said to be the newest, and ${seen} was seen`);
      this.people.pin("epochs", this.id, epoch);
      if (own && !stale) return [epoch, await this.key(epoch)];
      await this.begin(epoch + 1);
    }
    throw new Error("others always were faster; try again");
  }

  async begin(epoch) {
    const [key, envelopes] = [randomBytes(32), {}];
    for (let after = ""; after !== undefined; ) {
      const page = await this.api.ask("GET", `${this.path}/recipients?limit=500${after}`);
      for (const to of page.recipients) {
        envelopes[to.handle] = await sealKey(key, this.id, epoch, this.me, to.handle, this.people.see(to).hpke_pub);
      }
      after = page.next ? `&after=${page.next}` : undefined;
    }
    const body = { key_id: keyId(key, this.id, epoch).toString("hex"), envelopes };
    await this.api.ask("PUT", `${this.path}/keys/${epoch}`, body).catch((error) => {
      if (!["epoch-taken", "epoch-not-next", "recipients-changed"].includes(error.type)) throw error;
    });
  }
}
