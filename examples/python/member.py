"""What a member of a room holds: a way to the API, the keys of others as he has pinned them, and the keys of the room.

The servers are trusted with nothing but delivery: what is not proven is Refused (see formats.py).
"""
import datetime, json, os, secrets, time

import requests
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms

from formats import Refused, b64, context, key_id, key_statement, open_key, seal_key, unb64, verify
from seen import Seen

COVERED = ["@method", "@authority", "@path", "@query", "content-digest"]
PATIENCE_S = 30


class Problem(Exception):
    """The API refuses: the type of the problem, and its words."""
    def __init__(self, problem):
        super().__init__(f"{problem['title']}: {problem.get('detail') or problem['type']}")
        self.type = problem["type"].rsplit("/")[-1]


class Api:
    """Signed requests (RFC 9421) to whichever node answers. Whatever this program asks for may be asked for twice."""
    def __init__(self, urls, ca, me):
        self.urls, self.me, self.session = urls, me, requests.Session()
        self.session.verify, self.session.trust_env = ca or True, False
        keys = MappingKeyResolver(public_keys={}, private_keys={me.sign_pub: me.sign})
        self.signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=keys)

    def __call__(self, method, path, body=None):
        text, why = b"" if body is None else json.dumps(body).encode(), None
        headers, deadline = {"Content-Type": "application/json"} if text else {}, time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for url in self.urls:
                request = requests.Request(method, url + path, headers=headers, data=text).prepare()
                now = datetime.datetime.now(datetime.timezone.utc)
                self.signer.sign(request, key_id=self.me.sign_pub, created=now, expires=now + datetime.timedelta(seconds=60),
                                 nonce=b64(os.urandom(16)), tag="unibus", include_alg=False, label="sig1", body=text,
                                 covered_component_ids=COVERED)
                try:
                    answer = self.session.send(request, timeout=20, allow_redirects=False)
                except (requests.ConnectionError, requests.Timeout) as error:
                    why = error
                    continue
                if answer.ok:
                    return answer.json()
                why = Problem(answer.json())
                if answer.status_code not in (429, 503):
                    raise why
            time.sleep(0.3)
        raise ConnectionError(f"no node can do it: {why}")


class People:
    """Whose keys are whose, and the newest epochs: what was once seen is pinned, and anything else refused."""
    def __init__(self, api, me, path):
        self.api, self.path, self.pins = api, path, {"users": {}, "epochs": {}}
        self.pin("users", me.handle, {"sign_pub": me.sign_pub, "hpke_pub": me.hpke_pub})
        signature = me.sign.sign(context(*key_statement(me.handle, me.sign_pub, me.hpke_pub)))
        self.check(api("PUT", "/v1/me/hpke", {"hpke_pub": me.hpke_pub, "signature": b64(signature)}))

    def load(self):
        """Another program of the same user may have seen somebody meanwhile."""
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self.pins = json.load(file)

    def check(self, listed):
        """What is pinned of a user whom a server has told us of."""
        self.load()
        handle, found, hpke = listed["handle"], {"sign_pub": listed["sign_pub"]}, listed.get("hpke")
        if hpke:
            verify(found["sign_pub"], unb64(hpke["signature"]), *key_statement(handle, found["sign_pub"], hpke["hpke_pub"]))
            found["hpke_pub"] = hpke["hpke_pub"]
        pinned = self.pins["users"].get(handle, {})
        for what, key in found.items():
            if pinned.get(what, key) != key:
                raise Refused("swapped-key", f"the servers name another {what} for {handle} than before: ask {handle} in person")
        self.pin("users", handle, pinned | found)
        return self.pins["users"][handle]

    def pin(self, kind, name, value):
        self.load()
        if self.pins.setdefault(kind, {}).get(name) != value:
            self.pins[kind][name] = value
            with open(f"{self.path}.{os.getpid()}", "w", encoding="utf-8") as file:
                json.dump(self.pins, file)
            os.replace(f"{self.path}.{os.getpid()}", self.path)

    def sign_pub_of(self, handle):
        if handle not in self.pins["users"]:
            try:
                self.check(self.api("GET", f"/v1/directory/{handle}") | {"handle": handle})
            except Problem as problem:
                if problem.type == "no-such-user":
                    return None
                raise
        return self.pins["users"][handle]["sign_pub"]


class Room:
    """A room, as one of its members has it."""
    def __init__(self, id, me, api, people):
        self.id, self.me, self.api, self.people = id, me, api, people
        self.keys, self.seen, self.path = {}, Seen(), f"/v1/rooms/{id}"
        self.look()

    def history(self, after, limit=1000):
        """What was kept after that number, oldest first; without one, the last of it."""
        return self.api("GET", f"{self.path}/history?limit={limit}" + ("" if after is None else f"&after={after}"))

    def look(self):
        """How the room is now; a Problem if we are not in it any more."""
        room = self.api("GET", self.path)
        if (room.get("own") or {}).get("state") != "joined":
            raise SystemExit(f"you are not in {self.id}; if you are invited: membershipd member accept {self.id}")
        # Whoever has seen that messages are sealed here says nothing in clear: a server would be told it.
        if room["policy"]["encrypt"]:
            self.people.pin("sealed", self.id, True)
        elif self.people.pins.get("sealed", {}).get(self.id):
            raise Refused("unsealed", "the room is said to be in clear, and was sealed")
        self.subject, self.policy = room["subject"], room["policy"]
        # Where daemons keep what is said: the one subject on which we publish, and where we are told what came of it.
        keeper = room.get("keeper") or {}
        self.publish, self.notices = keeper.get("publish", self.subject), keeper.get("notices")

    def key(self, epoch):
        """The room's key of an epoch; None: it is not for us."""
        # A node may know of a new epoch a moment later than the one that began it.
        looks = 0 if epoch in self.keys else 3
        while looks:
            try:
                sealed = self.api("GET", f"{self.path}/keys/{epoch}")
            except Problem as problem:
                if problem.type not in ("not-sealed", "not-encrypted", "no-such-epoch"):
                    raise
                if problem.type != "no-such-epoch":
                    self.keys[epoch] = None
                    break
                looks -= 1
                time.sleep(0.15)
                continue
            by, kid = sealed["by"], bytes.fromhex(sealed["key_id"])
            signer = self.people.sign_pub_of(by)
            if signer is None:
                raise Refused("no-sender", f"the key of epoch {epoch} is said to be made by {by}, whom nobody knows")
            self.keys[epoch] = open_key(sealed["envelope"], self.id, epoch, by, signer, self.me, kid)
            break
        return self.keys.get(epoch)

    def current_key(self):
        """The newest epoch and its key: one of ours where the newest is not sealed for exactly those who are there now."""
        for _ in range(8):
            newest = self.api("GET", f"{self.path}/keys")
            self.people.load()
            epoch, seen = newest.get("epoch") or 0, self.people.pins["epochs"].get(self.id, 0)
            if epoch < seen:
                raise Refused("epoch-went-back", f"epoch {epoch} is said to be the newest, and {seen} was seen")
            self.people.pin("epochs", self.id, epoch)
            if newest["own"] and not newest["stale"]:
                return epoch, self.key(epoch)
            key, envelopes, next_page = secrets.token_bytes(32), {}, "?limit=500"
            while next_page:
                page = self.api("GET", f"{self.path}/recipients{next_page}")
                for to in page["recipients"]:
                    sealed = seal_key(key, self.id, epoch + 1, self.me, to["handle"], self.people.check(to)["hpke_pub"])
                    envelopes[to["handle"]] = sealed
                next_page = page.get("next") and f"?limit=500&after={page['next']}"
            try:
                body = {"key_id": key_id(key, self.id, epoch + 1).hex(), "envelopes": envelopes}
                self.api("PUT", f"{self.path}/keys/{epoch + 1}", body)
            except Problem as problem:
                if problem.type not in ("epoch-taken", "epoch-not-next", "recipients-changed"):
                    raise
        raise SystemExit("others always were faster; try again")
