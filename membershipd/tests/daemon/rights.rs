//! What the real engine makes of the rights that `Permissions` gives: rooms, inboxes, answers, and the most there can be.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Dir, engine, own_address};
use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use unibus_core::domain::limits::{ROOM_ID_BYTES, ROOMS_PER_CONNECTION, SUBJECT_BYTES};
use unibus_core::domain::{
    Claims, ClaimsKey, FeatureLevel, Handle, MemberState, Membership, Permissions, Policy, Records, Role, Room, RoomId,
    RoomRole, SignPub, Standing, State, User,
};

/// Rooms of a test, and who is in them.
struct Rooms {
    rooms: Vec<Room>,
    claims: BTreeMap<ClaimsKey, Claims>,
    members: Vec<Membership>,
}

impl Rooms {
    fn new() -> Self {
        Self { rooms: vec![], claims: BTreeMap::new(), members: vec![] }
    }

    fn with(mut self, id: &str, subject: &str, members: &[(&str, RoomRole)]) -> Self {
        let by: unibus_core::domain::Author = "root".parse().unwrap();
        let room = Room::new(id.parse().unwrap(), subject.parse().unwrap(), Policy::TELEMETRY, by.clone());
        let key = ClaimsKey::deciding(&room.subject, self.level());
        let claims = self.claims.entry(key.clone()).or_insert_with(|| Claims::none(key));
        *claims = claims.claim(&room.subject, &room.id).unwrap();
        for (handle, role) in members {
            let standing = Standing { role: *role, state: MemberState::Joined };
            self.members.push(Membership::new(room.id.clone(), handle.parse().unwrap(), standing, by.clone()));
        }
        self.rooms.push(room);
        self
    }

    fn rights(&self, handle: &str) -> Permissions {
        let sign_pub = SignPub::from_nkey(&KeyPair::new_user().public_key()).unwrap();
        let user = User { handle: handle.parse().unwrap(), sign_pub, role: Role::User, state: State::Active };
        Permissions::of(&user, self)
    }

    /// The user as the engine's configuration has it; no password.
    fn static_user(&self, handle: &str) -> Value {
        let rights = self.rights(handle);
        json!({ "user": handle, "password": "", "permissions": { "publish": rights.publish, "subscribe": rights.subscribe } })
    }
}

impl Records for Rooms {
    fn level(&self) -> FeatureLevel {
        FeatureLevel::Kept
    }

    fn user(&self, _: &Handle) -> Option<&User> {
        None
    }

    fn room(&self, id: &RoomId) -> Option<&Room> {
        // The ids of the many rooms are their numbers.
        let at = id.as_str().parse::<usize>().ok().and_then(|n| self.rooms.get(n)).filter(|room| room.id == *id);
        at.or_else(|| self.rooms.iter().find(|room| room.id == *id))
    }

    fn claims(&self, key: &ClaimsKey) -> Option<&Claims> {
        self.claims.get(key)
    }

    fn membership(&self, room: &RoomId, handle: &Handle) -> Option<&Membership> {
        self.members.iter().find(|m| m.room == *room && m.handle == *handle)
    }

    fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.iter()
    }

    fn members<'a>(&'a self, room: &'a RoomId) -> impl Iterator<Item = &'a Membership> {
        self.members.iter().filter(move |m| m.room == *room)
    }

    fn memberships<'a>(&'a self, handle: &'a Handle) -> impl Iterator<Item = &'a Membership> {
        self.members.iter().filter(move |m| m.handle == *handle)
    }
}

/// A real engine with a configuration of its own.
struct Bus {
    child: Child,
    address: IpAddr,
    _dir: Dir,
}

impl Bus {
    fn start(mut config: Value) -> Self {
        let (dir, address) = (Dir::new(), own_address());
        config["host"] = json!(address.to_string());
        config["port"] = json!(4250);
        let file = dir.write("engine.json", &config.to_string(), 0o600);
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(engine()).arg("-c").arg(file).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let bus = Self { child, address, _dir: dir };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((address, 4250)).is_err() {
            let log = std::fs::read_to_string(bus._dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the engine does not listen:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        bus
    }

    fn connect(&self, user: &str) -> Client {
        let mut client = Client::open(self.address, user);
        assert!(client.settled().is_empty(), "{user} is not admitted");
        client
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The engine's own protocol, so that nothing between us and it hides a refusal.
struct Client(BufReader<TcpStream>);

/// What the engine says.
#[derive(Debug, PartialEq)]
enum Said {
    Message { subject: String, reply: Option<String>, payload: Vec<u8> },
    Refused(String),
    Pong,
}

impl Client {
    fn open(address: IpAddr, user: &str) -> Self {
        let stream = TcpStream::connect((address, 4250)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut client = Self(BufReader::new(stream));
        let mut info = String::new();
        client.0.read_line(&mut info).unwrap();
        assert!(info.starts_with("INFO "), "{info}");
        client
            .send(&format!("CONNECT {}\r\n", json!({ "user": user, "pass": "", "verbose": false, "pedantic": false })));
        client
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn subscribe(&mut self, subject: &str) -> bool {
        // The engine ignores a second subscription under an id that is taken: the subject is its own.
        self.send(&format!("SUB {subject} {subject}\r\n"));
        self.settled().is_empty()
    }

    fn queue(&mut self, subject: &str) -> bool {
        self.send(&format!("SUB {subject} group q{subject}\r\n"));
        self.settled().is_empty()
    }

    fn publish(&mut self, subject: &str, reply: &str, payload: &str) -> bool {
        self.send(&format!("PUB {subject} {reply} {}\r\n{payload}\r\n", payload.len()));
        !self.settled().iter().any(|said| matches!(said, Said::Refused(_)))
    }

    /// All that the engine has said until it has handled all that we have.
    fn settled(&mut self) -> Vec<Said> {
        self.send("PING\r\n");
        std::iter::from_fn(|| Some(self.next()).filter(|said| *said != Said::Pong)).collect()
    }

    fn next(&mut self) -> Said {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the engine closed the connection");
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["PONG"] => return Said::Pong,
                ["PING"] => self.send("PONG\r\n"),
                ["-ERR", ..] => return Said::Refused(line.trim().to_owned()),
                ["MSG", subject, _, reply @ .., size] => {
                    let mut payload = vec![0; size.parse::<usize>().unwrap() + 2];
                    self.0.read_exact(&mut payload).unwrap();
                    payload.truncate(payload.len() - 2);
                    let reply = reply.first().map(|reply| (*reply).to_owned());
                    return Said::Message { subject: (*subject).to_owned(), reply, payload };
                }
                _ => {}
            }
        }
    }

    fn heard(&mut self) -> Vec<String> {
        let subject = |said| if let Said::Message { subject, .. } = said { Some(subject) } else { None };
        self.settled().into_iter().filter_map(subject).collect()
    }
}

fn house() -> Rooms {
    let (member, reader) = (RoomRole::Member, RoomRole::Reader);
    Rooms::new()
        .with("sums", "rpc.sums", &[("asker", member), ("worker", member), ("reader", reader)])
        .with("secret", "room.secret", &[("guard", member)])
        .with("other", "rpc.other", &[("guard", member)])
}

#[test]
fn members_use_their_rooms_and_nothing_else() {
    let rooms = house();
    let users: Vec<_> = ["asker", "worker", "reader", "guard"].iter().map(|user| rooms.static_user(user)).collect();
    let bus = Bus::start(json!({ "authorization": { "users": users } }));
    let [mut asker, mut worker, mut reader, mut guard] =
        ["asker", "worker", "reader", "guard"].map(|user| bus.connect(user));

    assert!(worker.subscribe("rpc.sums") && reader.subscribe("rpc.sums.>") && asker.subscribe("_INBOX.asker.>"));
    assert!(asker.publish("rpc.sums", "_INBOX.asker.sums.1", "1+1"));
    let request = worker.settled();
    let [Said::Message { reply: Some(reply), .. }] = request.as_slice() else { panic!("{request:?}") };
    assert!(worker.publish(reply, "", "2"));
    assert_eq!(asker.heard(), ["_INBOX.asker.sums.1"], "the answer arrives");
    for subject in ["_INBOX.asker.1", "_INBOX.asker.sums", "_INBOX.asker.other.1", "_INBOX.guard.other.1"] {
        assert!(!worker.publish(subject, "", "x"), "an answer from another room: {subject}");
    }
    assert!(guard.publish("_INBOX.asker.other.1", "", "x") && !guard.publish("_INBOX.asker.sums.2", "", "x"));
    assert_eq!(asker.heard(), ["_INBOX.asker.other.1"]);
    assert!(asker.publish("rpc.sums.more", "", "x"));
    assert_eq!(reader.heard(), ["rpc.sums.more"]);

    for subject in ["rpc.sums", "rpc.sums.more", "_INBOX.asker.1", "_INBOX.asker.sums.1"] {
        assert!(!reader.publish(subject, "", "x"), "a reader writes nothing: {subject}");
    }
    for subject in ["rpc.sums", "rpc.sums.>", "rpc.sums.*", "rpc.sums.more", "unibus.event.sums"] {
        assert!(!reader.queue(subject), "a reader keeps nothing from others: {subject}");
    }
    assert!(worker.queue("rpc.sums") && worker.queue("rpc.sums.*") && !worker.queue("unibus.event.sums"));
    assert!(!worker.queue("rpc.other") && !worker.queue("rpc.>"), "in no other room");
    for (client, name) in [(&mut asker, "asker"), (&mut worker, "worker"), (&mut reader, "reader")] {
        let closed =
            ["room.secret", "room.secret.x", "room.>", "rpc.>", ">", "rpc.*", "_INBOX.guard.1", "_INBOX.>", "$SYS.>"];
        for subject in
            closed.into_iter().chain(["unibus.event.secret", "unibus.event.*", "unibus.user.guard.x", "$JS.>"])
        {
            assert!(!client.subscribe(subject), "{name} hears {subject}");
        }
        for subject in [
            "room.secret",
            "rpc.other",
            "unibus.event.sums",
            "_INBOX.guard.1",
            "unibus.user.guard.x",
            "$JS.API.INFO",
            "$KV.a.b",
        ] {
            assert!(!client.publish(subject, "", "x"), "{name} writes {subject}");
        }
    }
    assert!(reader.subscribe("unibus.event.sums") && guard.subscribe("unibus.event.secret"));
    assert!(guard.subscribe("room.secret"));
    assert!(guard.heard().is_empty());
}

/// Whoever may answer a request must not be able to ask himself one that is to be answered elsewhere. The engine's own
/// `allow_responses` permits that, which is why it is not used; should that ever change, this test says so.
#[test]
fn nobody_is_let_in_anywhere_by_answering_himself() {
    let rooms = house();
    let mut responder = rooms.static_user("worker");
    responder["user"] = json!("responder");
    responder["permissions"]["allow_responses"] = json!({ "max": 1, "expires": "5s" });
    let users = [rooms.static_user("worker"), rooms.static_user("guard"), responder];
    let bus = Bus::start(json!({ "authorization": { "users": users } }));
    let mut guard = bus.connect("guard");
    assert!(guard.subscribe("room.secret") && guard.subscribe("unibus.event.secret"));
    for (user, forges) in [("worker", false), ("responder", true)] {
        for target in ["room.secret", "unibus.event.secret"] {
            let mut client = bus.connect(user);
            assert!(client.subscribe("rpc.sums") && !client.publish(target, "", "forged"));
            assert!(client.publish("rpc.sums", target, "a question to myself"));
            assert_eq!(client.publish(target, "", "forged"), forges, "{user} {target}");
            assert_eq!(guard.heard().len(), usize::from(forges), "{user} {target}");
        }
    }
}

/// The longest ids and subjects, and as many rooms as a connection is ever told of, through a callout: the engine takes the
/// token, in time, and the last room works.
#[test]
fn the_most_rights_that_there_can_be_are_admitted() {
    let handle = "u".repeat(32);
    let mut rooms = Rooms::new();
    let last = ROOMS_PER_CONNECTION - 1;
    let subject = |n: usize| format!("rpc.{n:0>width$}", width = SUBJECT_BYTES - 4);
    for n in 0..ROOMS_PER_CONNECTION {
        let id = format!("{n:0>width$}", width = ROOM_ID_BYTES);
        rooms = rooms.with(&id, &subject(n), &[(&handle, RoomRole::Member)]);
    }
    let rights = serde_json::to_value(rooms.rights(&handle)).unwrap();

    let issuer = KeyPair::new_account();
    let bus = Bus::start(json!({
        "accounts": { "AUTH": { "users": [{ "user": "callout", "password": "" }] }, "BUS": {} },
        "authorization": {
            "timeout": unibus_core::bus::AUTHORIZATION_TIMEOUT.as_secs(),
            "auth_callout": { "issuer": issuer.public_key(), "account": "AUTH", "auth_users": ["callout"] },
        },
    }));
    let mut callout = bus.connect("callout");
    assert!(callout.subscribe("$SYS.REQ.USER.AUTH"));
    let mut client = Client::open(bus.address, "somebody");

    let asked = Instant::now();
    let Said::Message { reply: Some(reply), payload, .. } = callout.next() else { panic!("no request") };
    let request: Value = {
        let token = String::from_utf8(payload).unwrap();
        serde_json::from_slice(&BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap()).unwrap()
    };
    let key = &request["nats"]["user_nkey"];
    let mut nats = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    nats.as_object_mut().unwrap().extend(rights.as_object().unwrap().clone());
    let user = token(&issuer, json!({ "sub": key, "aud": "BUS", "nats": nats }));
    let nats = json!({ "type": "authorization_response", "version": 2, "jwt": user });
    let response = token(&issuer, json!({ "sub": key, "aud": request["nats"]["server_id"]["id"], "nats": nats }));
    assert!(callout.publish(&reply, "", &response), "{} bytes are too many", response.len());

    assert!(client.settled().is_empty(), "admitted after {:?}, {} bytes", asked.elapsed(), response.len());
    let subject = format!("{}.below", subject(last));
    assert!(client.subscribe(&subject) && client.publish(&subject, "", "x"));
    assert!(!client.publish("rpc.other", "", "x"));
}

fn token(issuer: &KeyPair, mut claims: Value) -> String {
    claims["iss"] = json!(issuer.public_key());
    claims["iat"] = json!(1_700_000_000);
    claims["jti"] = json!("one");
    let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
    let signature = BASE64URL_NOPAD.encode(&issuer.sign(body.as_bytes()).unwrap());
    format!("{body}.{signature}")
}
