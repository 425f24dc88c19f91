#!/usr/bin/env python3
"""Talks in a room of unibus: `chat.py say ROOM TEXT` and `chat.py tail ROOM`. Needs Python 3.11 and requirements.txt."""
import argparse, asyncio, datetime, json, os, ssl, sys, time, uuid
from urllib.parse import urlsplit

import nats

from formats import Identity, Refused, b64, frame_id, make, parse, read, unb64
from member import PATIENCE_S, Api, People, Problem, Room


class Connection:
    """A connection to the bus, of which the end is told in `arrived` like a message. Rights are fixed when it is made."""
    def __init__(self):
        self.arrived, self.errors = asyncio.Queue(), []

    async def open(self, room, urls, ca):
        where = room.api("GET", "/v1/bus")
        tls = ssl.create_default_context(cafile=ca) if where["tls"] else None
        for url in urls:
            try:
                self.bus = await nats.connect(
                    f"{'tls' if tls else 'nats'}://{urlsplit(url).hostname}:{where['port']}", tls=tls, connect_timeout=5,
                    nkeys_seed_str=room.me.nkey, inbox_prefix=f"_INBOX.{room.me.handle}", allow_reconnect=False,
                    # None at all would mean for ever, where a node is down.
                    max_reconnect_attempts=1, reconnect_time_wait=0.1, error_cb=self.on_error, closed_cb=self.on_close)
                await self.settle()
                return self
            except (OSError, nats.errors.Error, asyncio.TimeoutError) as error:
                self.errors.append(error)
        raise ConnectionError(f"no node takes us: {self.errors[-1]}")

    async def on_error(self, error):
        self.errors.append(error)

    async def on_close(self):
        await self.arrived.put(None)

    async def settle(self):
        """A round trip: whatever the engine objects to has come back then."""
        before = len(self.errors)
        await self.bus.flush(5)
        if len(self.errors) > before:
            raise PermissionError(f"the bus does not permit it: {self.errors[-1]}")


async def told(connection, id):
    """What the daemons say of a frame; None: nothing for 3 s."""
    try:
        async with asyncio.timeout(3):
            while message := await connection.arrived.get():
                if (notice := json.loads(message.data))["id"] == id:
                    return notice
    except TimeoutError:
        return None


async def say(room, options):
    """Says it, and waits until it is known to be kept where the room keeps what is said: by the daemons' notice, or else because the
    history shows it."""
    epoch, key = room.current_key() if room.policy["encrypt"] else (0, None)
    # Clients of release 0.1.0 read the first version alone; from feature level 2 on there are none.
    version = options.frames or min(room.api("GET", "/v1/bus").get("level", 1), 2)
    frame, id = make(room.me, room.id, room.publish, room.policy["sign"], epoch, key, options.text, version)
    after = room.history(None, 1)["last"] if room.policy["persist"] and not room.notices else 0
    connection, deadline = None, time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if not connection:
                connection = await Connection().open(room, options.urls, options.ca)
                if room.notices:
                    await connection.bus.subscribe(room.notices, cb=connection.arrived.put)
            # The very same frame again: it is kept once, by its id.
            await connection.bus.publish(room.publish, frame, headers={"Nats-Msg-Id": id})
            await connection.settle()
        except (OSError, nats.errors.Error) as error:
            if isinstance(error, PermissionError):
                raise
            connection = await asyncio.sleep(0.5)
            continue
        if not room.policy["persist"]:
            return print(json.dumps({"id": id}) if options.json else "said; the room keeps nothing")
        if room.notices:
            notice = await told(connection, frame_id(room.id, room.publish, frame)) or {}
            if seq := notice.get("seq"):
                return print(json.dumps({"id": id, "seq": seq}) if options.json else "said, and kept")
            if notice and not notice["retry"]:
                raise SystemExit(f"{id} was not kept: {notice['refused']}")
            await asyncio.sleep(0.5)
            continue
        again = time.monotonic() + 3
        while time.monotonic() < again:
            for kept in room.history(after)["messages"]:
                after = kept["seq"]
                if kept["frame"] == b64(frame):
                    return print(json.dumps({"id": id, "seq": after}) if options.json else "said, and kept")
            await asyncio.sleep(0.05)
    raise SystemExit(f"{id} was sent, and nobody knows whether it was kept")


def line(content):
    """A message as people see it."""
    if attachment := content.get("attachment"):
        return f"[attachment] {attachment['name']} ({attachment['size']} bytes)"
    return content.get("text", f"[a message that this program does not know, of type {content.get('type')}]")


class Screen:
    """Shows what is proven, and of the rest why it is not shown."""
    def __init__(self, room, options):
        self.room, self.options, self.left, self.after = room, options, options.count, None

    def show(self, raw, subject, at_ms, seq):
        room = self.room
        try:
            frame = parse(raw)
            contents = read(frame, room.id, subject, room.policy, room.people.sign_pub_of, room.key)
            # Only what is true is remembered: nobody keeps a message away by a false one of the same id.
            if not room.seen.admit(frame.id, frame.sender, at_ms, seq):
                return
        except Refused as refused:
            # Its sender heard nothing and sent it again: on a member's own subject no other can have.
            again = refused.word == "replayed" and seq is None and subject.endswith(f".{frame.sender}")
            if again or room.seen.told(raw, subject):
                return
            if self.options.json:
                print(json.dumps({"refused": refused.word, "why": str(refused), "at_ms": at_ms, "seq": seq}), flush=True)
            else:
                print(f"not shown: {refused}", file=sys.stderr)
            return
        for content in contents:
            if self.options.json:
                said = {"id": str(uuid.UUID(bytes=frame.id)), "sender": frame.sender, "at_ms": at_ms, "seq": seq}
                print(json.dumps(said | content), flush=True)
            else:
                when = datetime.datetime.fromtimestamp(int.from_bytes(frame.id[:6]) / 1000).strftime("%H:%M:%S")
                # What somebody says must not move the cursor or colour the next line.
                print(when, frame.sender, "".join(c if c.isprintable() else "\ufffd" for c in line(content)), flush=True)
            self.left -= 1
            if not self.left:
                raise SystemExit(0)


def catch_up(room, screen):
    """Shows what was kept since the last look; the first time, the last of it."""
    while True:
        page = room.history(screen.after, 200 if screen.after is None else 1000)
        for kept in page["messages"]:
            screen.show(unb64(kept["frame"]), kept["subject"], kept["at_ms"], kept["seq"])
            screen.after = kept["seq"]
        if not page["messages"]:
            screen.after = page["last"] if screen.after is None else screen.after
            return


async def listen(room, options, screen):
    """Shows what was kept, and then what comes, until the connection ends."""
    connection = await Connection().open(room, options.urls, options.ca)
    try:
        for subject in (room.subject, f"{room.subject}.>"):
            await connection.bus.subscribe(subject, cb=connection.arrived.put)
        await connection.settle()
        look, pause = 0, 2
        while not connection.bus.is_closed:
            try:
                message = await asyncio.wait_for(connection.arrived.get(), max(0, look - time.monotonic()))
                if message:
                    screen.show(message.data, message.subject, int(time.time() * 1000), None)
            except asyncio.TimeoutError:
                # The history at once, soon again (a node may be a moment behind), and now and then: the bus acknowledges nothing.
                if room.policy["persist"]:
                    catch_up(room, screen)
                look, pause = time.monotonic() + pause, 60
    finally:
        await connection.bus.close()


async def tail(room, options):
    """Listens; a connection that is lost is made again, and nothing is missed meanwhile."""
    screen, pause = Screen(room, options), 0.25
    while True:
        try:
            room.look()
            await listen(room, options, screen)
            pause = 0.25
        except (OSError, nats.errors.Error) as error:
            print(f"not connected: {error}", file=sys.stderr)
        await asyncio.sleep(pause)
        pause = min(5, pause * 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, act in (("say", say), ("tail", tail)):
        sub = verbs.add_parser(verb)
        sub.set_defaults(act=act)
        sub.add_argument("room")
        for name, what in (("identity", "what membershipd identity new made"), ("ca", "the CA's certificate"),
                           ("url", "of nodes, such as https://127.0.0.11:8470, with commas between")):
            variable = f"UNIBUS_{name.upper()}"
            default = os.environ.get(variable)
            required = default is None and name != "ca"
            sub.add_argument(f"--{name}", help=f"{what}; or {variable}", default=default, required=required)
        sub.add_argument("--json", action="store_true", help="for programs")
    verbs.choices["say"].add_argument("text")
    verbs.choices["say"].add_argument("--frames", type=int, choices=(1, 2), help="version to write, if not the one that the cluster is ready for")
    verbs.choices["tail"].add_argument("--count", type=int, default=0, help="end after so many messages")
    options = parser.parse_args()
    options.urls = options.url.split(",")
    try:
        me = Identity.load(options.identity)
        api = Api(options.urls, options.ca, me)
        room = Room(options.room, me, api, People(api, me, f"{options.identity}.chat.json"))
        asyncio.run(options.act(room, options))
    except (Problem, Refused, OSError) as error:
        sys.exit(f"chat.py: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
