// Frames that come again: every member can publish the very bytes of another member's frame a second time.
import { Refused } from "./formats.mjs";

// How far the time in an id may be from when the frame came.
const WINDOW_MS = 120_000;

// The ids of each sender that came lately, and by which way: a message comes once from the bus and once from the history. An id is
// its sender's choice: another member who uses the same one does not keep this message away.
export class Seen {
  came = new Map();
  newest = 0;
  refused = new Set();

  // Whether it is new; `seq` is its number in the history, null if it came from the bus.
  admit(id, sender, atMs, seq) {
    const made = id.readUIntBE(0, 6);
    if (Math.abs(made - atMs) > WINDOW_MS) {
      throw new Refused("wrong-time", "it was not made when it came: an old one sent again, or a clock is wrong");
    }
    const key = `${id.toString("hex")} ${sender}`;
    const before = this.came.get(key);
    const { live, kept } = before ?? { live: false, kept: null };
    if (seq === null ? live : kept !== null && kept !== seq) {
      throw new Refused("replayed", "it has come before: somebody sent it again");
    }
    this.came.set(key, { made, live: live || seq === null, kept: seq ?? kept });
    this.newest = Math.max(this.newest, atMs);
    for (const [old, { made }] of this.came) {
      // Whatever is older would be refused for its age.
      if (made >= this.newest - 2 * WINDOW_MS) break;
      this.came.delete(old);
    }
    return before === undefined;
  }

  // Whether a frame that is refused was refused before: what was kept comes by both ways, and is told of once.
  told(raw, subject) {
    const key = `${subject} ${Buffer.from(raw).toString("base64")}`;
    if (this.refused.delete(key)) return true;
    this.refused.add(key);
    if (this.refused.size > 1_000) this.refused.delete(this.refused.values().next().value);
    return false;
  }
}
