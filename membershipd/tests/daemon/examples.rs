//! The examples in Python and JavaScript against a real daemon: they read the published vectors, and talk with each other and with
//! `membershipd say` and `tail`.

use std::path::Path;

#[path = "../../crates/crypto/benches/roster/long_log.rs"]
mod long_log;

use self::long_log::{LongLog, Person};
use crate::common::examples::{JavaScript, Language, Python, Rust, Talker, javascript, python};
use crate::common::nats::Client;
use crate::common::{Daemon, Dir, said};
use data_encoding::BASE64;
use rusqlite::Connection;
use serde_json::{Value, json};
use unibus_core::domain::RoomRole;
use unibus_crypto::roster::{RosterAction, SignedEntry};

/// A node over TLS, on which alice has a room.
struct Place(Daemon);

impl Place {
    fn new() -> Self {
        let daemon = Daemon::start_tls();
        let raised = daemon.ask(&["level", "raise"]);
        assert!(raised.status.success(), "{}", said(&raised));
        Self::on(daemon)
    }

    /// The same at the first feature level, at which streams capture what is said.
    fn captured() -> Self {
        Self::on(Daemon::start_tls_with(&["--begin-at-lowest-level"]))
    }

    fn on(daemon: Daemon) -> Self {
        let place = Self(daemon);
        place.add("alice");
        place.with(Rust, "alice").good(&["room", "create", "kitchen", "--subject", "room.kitchen"]);
        place
    }

    /// Somebody with his client.
    fn with<'a>(&'a self, language: Language, who: &'a str) -> Talker<'a> {
        Talker { language, who, nodes: vec![&self.0] }
    }

    fn add(&self, who: &str) {
        let key = self.0.identity(who);
        let added = self.0.ask(&["user", "add", "--handle", who, "--sign-pub", &key]);
        assert!(added.status.success(), "{}", said(&added));
    }

    fn join(&self, who: &str) {
        self.add(who);
        self.with(Rust, "alice").good(&["member", "invite", "kitchen", who, "--role", "member"]);
        self.with(Rust, who).good(&["member", "accept", "kitchen"]);
    }

    fn say(&self, language: Language, who: &str, text: &str) {
        self.with(language, who).say(text);
    }

    /// For whom the key of an epoch is sealed.
    fn sealed_for(&self, epoch: u32) -> Vec<String> {
        let db = Connection::open(self.0.dir.path().join("local_files/unibus.db")).unwrap();
        let key = format!("epoch.kitchen.{epoch}");
        let value: Vec<u8> =
            db.query_row("SELECT value FROM entries WHERE key = ?1", [&key], |row| row.get(0)).unwrap();
        let record: Value = serde_json::from_slice(&value).unwrap();
        record["envelopes"].as_object().unwrap().keys().cloned().collect()
    }
}

fn pair(who: &str, what: &str) -> (String, String) {
    (who.to_owned(), what.to_owned())
}

#[test]
fn both_languages_read_and_refuse_the_published_examples() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/vectors.json");
    let dir = Dir::new();
    both(dir.path(), "vectors", &[&vectors]);
}

/// Runs a script in both languages, and says what they print, which has to be the same.
fn both(dir: &Path, script: &str, files: &[&Path]) -> String {
    let commands = [python(&format!("{script}.py")), javascript(dir, &format!("{script}.mjs"))];
    let [one, other] = commands.map(|mut command| {
        let output = command.args(files).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    });
    assert_eq!(one, other, "one language checks less than the other");
    one
}

#[test]
fn both_languages_verify_the_published_logs_and_the_same_long_one() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/roster-vectors.json");
    let (dir, log) = (Dir::new(), LongLog::new(1_000));
    let stranger = Person::new(5_000);
    let invites = || RosterAction::Invite {
        target: Person::new(6_000).handle,
        keys: Person::new(6_000).keys,
        role: RoomRole::Member,
    };
    let up_to = |length: usize| LongLog { entries: log.entries[..length].to_vec(), ..LongLog::new(1) };
    let mut hurt = log.entries[499].bytes().to_vec();
    *hurt.last_mut().unwrap() ^= 1;
    let forged = [
        (500, hurt, "signature"),
        (1_000, up_to(999).next(&stranger, invites()).unwrap().bytes().to_vec(), "denied"),
        (1_000, up_to(998).next(&log.owner, invites()).unwrap().bytes().to_vec(), "fork"),
        (700, log.entries[701].bytes().to_vec(), "gap"),
        (2, log.entries[1].bytes()[1..].to_vec(), "malformed"),
    ];
    let forged = forged.map(|(at, bytes, refused)| {
        // Rust finds the same.
        let read = SignedEntry::decode(&bytes).and_then(|entry| up_to(at - 1).verify().apply(&entry));
        assert_eq!(read.unwrap_err().code(), refused);
        json!({ "at": at, "entry": BASE64.encode(&bytes), "refused": refused })
    });
    let entries: Vec<_> = log.entries.iter().map(|entry| BASE64.encode(entry.bytes())).collect();
    let document = json!({
        "room": log.room, "creator": log.owner.keys.sign_pub, "entries": entries, "head": log.verify().head().hash, "forged": forged,
    });
    let file = dir.path().join("log.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let published = both(dir.path(), "roster_vectors", &[&vectors]);
    let with_log = both(dir.path(), "roster_vectors", &[&vectors, &file]);
    let count = |said: &str| said.split(' ').next().unwrap().parse::<usize>().unwrap();
    assert_eq!(count(&with_log), count(&published) + 6, "{published}{with_log}");
}

#[test]
fn python_javascript_and_rust_talk_until_they_are_removed_and_from_when_they_come() {
    talk_and_are_removed(&Place::new(), "room.kitchen.pia", 9);
}

#[test]
fn python_javascript_and_rust_talk_where_streams_capture_what_is_said() {
    talk_and_are_removed(&Place::captured(), "room.kitchen", 10);
}

#[test]
fn accepting_another_invitation_loses_nothing_for_those_who_listen() {
    let place = Place::new();
    let listeners = [(Python, "pia"), (JavaScript, "jo"), (Rust, "rae")];
    listeners.iter().for_each(|(_, who)| place.join(who));
    let mut tails = listeners.map(|(language, who)| place.with(language, who).tail());
    place.say(Rust, "alice", "before");
    tails.iter_mut().for_each(|tail| assert_eq!(tail.next(), pair("alice", "before")));

    place.with(Rust, "alice").good(&["room", "create", "attic", "--subject", "room.attic"]);
    for (_, who) in listeners {
        let ended = || place.0.log().matches("come back with more").count();
        let before = ended();
        place.with(Rust, "alice").good(&["member", "invite", "attic", who, "--role", "member"]);
        place.with(Rust, who).good(&["member", "accept", "attic"]);
        place.0.wait("the end of a connection that lacks the room", || ended() > before);
    }
    place.say(Rust, "alice", "after");
    tails.iter_mut().for_each(|tail| assert_eq!(tail.next(), pair("alice", "after")));
}

/// Pia may publish on `pias`; so many messages that dora cannot read are in the history in the end.
fn talk_and_are_removed(place: &Place, pias: &str, before: usize) {
    place.say(Rust, "alice", "before anybody came");
    ["pia", "jo"].iter().for_each(|who| place.join(who));

    // Each of them begins by what was kept, of which the first message is not for him, and goes on by what comes.
    place.say(Python, "pia", "from Python");
    let mut tails = [place.with(Python, "pia").tail(), place.with(JavaScript, "jo").tail()];
    for tail in &mut tails {
        assert_eq!(tail.next(), pair("refused", "no-key"));
        assert_eq!(tail.next(), pair("pia", "from Python"));
    }
    let mut alices = place.with(Rust, "alice").tail();
    assert_eq!(alices.next(), pair("alice", "before anybody came"));
    assert_eq!(alices.next(), pair("pia", "from Python"));
    place.say(JavaScript, "jo", "from JavaScript, schön");
    place.say(Rust, "alice", "from Rust");
    for tail in tails.iter_mut().chain([&mut alices]) {
        assert_eq!(tail.next(), pair("jo", "from JavaScript, schön"));
        assert_eq!(tail.next(), pair("alice", "from Rust"));
    }

    // Each of them reads what the others write in the second version of frames, and goes on in the first one.
    let second = [(Rust, "alice"), (Python, "pia"), (JavaScript, "jo")];
    for (language, who) in second {
        place.with(language, who).good(&["say", "kitchen", "written in two", "--frames", "2"]);
    }
    place.0.dir.write("cat.png", "a picture", 0o600);
    place.with(Rust, "alice").good(&["blob", "put", "kitchen", "cat.png", "--frames", "2"]);
    place.say(Python, "pia", "and in one");
    for tail in tails.iter_mut().chain([&mut alices]) {
        second.iter().for_each(|(_, who)| assert_eq!(tail.next(), pair(who, "written in two")));
        assert_eq!(tail.next(), pair("alice", "attachment cat.png"));
        assert_eq!(tail.next(), pair("pia", "and in one"));
    }

    // What is no message is not shown, and said.
    let ca = place.0.dir.path().join("ca.crt");
    let (mut forger, _) = Client::connect_trusting(&place.0, Some(&ca), &place.0.seed("pia"), "_INBOX.pia");
    assert!(forger.publish(pias, "from nobody"));
    tails.iter_mut().for_each(|tail| assert_eq!(tail.next(), pair("refused", "malformed")));

    // Whoever comes later reads from his first epoch on, which a client in another language has begun.
    place.join("dora");
    place.say(JavaScript, "jo", "welcome");
    for tail in &mut tails {
        assert_eq!(tail.next(), pair("jo", "welcome"));
    }
    let welcomed = |language| {
        let mut tail = place.with(language, "dora").tail();
        let shown: Vec<_> = (0..=before).map(|_| tail.next()).collect();
        assert_eq!(shown.iter().filter(|line| **line == pair("refused", "no-key")).count(), 9, "{shown:?}");
        assert_eq!(shown[before], pair("jo", "welcome"));
        tail
    };
    let mut doras = [welcomed(Python), welcomed(JavaScript)];

    // Who is removed hears no more, cannot come back, and is given no key of what comes after.
    for (who, language, tail) in [("pia", Python, 0), ("jo", JavaScript, 1)] {
        place.with(Rust, "alice").good(&["member", "remove", "kitchen", who]);
        tails[tail].assert_cut_off();
        let refused = place.with(language, who).run(&["say", "kitchen", "x"]);
        assert!(!refused.status.success() && said(&refused).contains("not permitted"), "{}", said(&refused));
    }
    place.say(Rust, "alice", "without them");
    for tail in &mut doras {
        assert_eq!(tail.next(), pair("alice", "without them"));
    }
    assert_eq!(place.sealed_for(3), ["alice", "dora", "jo", "pia"]);
    assert_eq!(place.sealed_for(4), ["alice", "dora"]);
}

#[test]
fn both_languages_refuse_a_key_and_a_policy_that_are_not_those_they_have_seen() {
    let place = Place::new();
    place.join("bob");
    for language in [Python, JavaScript] {
        place.say(language, "alice", "hello");
    }
    // As it is for whoever has once seen another key than the servers name now.
    let pins = place.0.dir.path().join("alice.toml.chat.json");
    let mut seen: Value = serde_json::from_slice(&std::fs::read(&pins).unwrap()).unwrap();
    seen["users"]["bob"]["hpke_pub"] = json!("00".repeat(32));
    std::fs::write(&pins, seen.to_string()).unwrap();
    place.with(Rust, "alice").good(&["key", "rotate", "kitchen"]);
    place.join("carol");
    for language in [Python, JavaScript] {
        let refused = place.with(language, "alice").run(&["say", "kitchen", "x"]);
        assert!(!refused.status.success() && said(&refused).contains("another hpke_pub for bob"), "{}", said(&refused));
    }
    place.with(Rust, "alice").good(&["room", "set", "kitchen", "--encrypt", "false"]);
    for language in [Python, JavaScript] {
        let refused = place.with(language, "alice").run(&["say", "kitchen", "x"]);
        assert!(!refused.status.success() && said(&refused).contains("was sealed"), "{}", said(&refused));
    }
}
