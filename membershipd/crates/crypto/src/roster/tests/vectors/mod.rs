//! The published examples of the log, `docs/roster-vectors.json`: made here, compared, and read back as any program would read them.
//! `UNIBUS_BLESS=1` writes the file.

mod forged;
mod good;
mod others;

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};

use super::*;
use crate::roster::{Head, RoomLink, Takings};

const ABOUT: &str = "Examples of docs/roster.md. Keys and hashes are hexadecimal, entries base64; 'entries' of a log are places in the list of \
                     entries, from 0. What has 'refused' must not be taken, for that reason; 'at' is the place in the log. All secrets are made \
                     for this file.";
const FILE: &str = "../../docs/roster-vectors.json";

/// A log as a server shows it to a client that trusts something.
struct Case {
    what: &'static str,
    room: &'static str,
    trust: Shown,
    entries: Vec<Vec<u8>>,
    takings: Vec<Person>,
}

/// What the client trusts.
enum Shown {
    FirstUse,
    Pinned(Head),
    Creator(SignPub),
    Link(Box<RoomLink>),
}

impl Case {
    fn new(what: &'static str, entries: &[SignedEntry]) -> Self {
        let entries = entries.iter().map(|entry| entry.bytes().to_vec()).collect();
        Self { what, room: "kitchen", trust: Shown::FirstUse, entries, takings: vec![] }
    }

    fn raw(mut self, bytes: Vec<u8>) -> Self {
        self.entries.push(bytes);
        self
    }

    fn trusting(self, trust: Shown) -> Self {
        Self { trust, ..self }
    }

    /// What a client makes of it.
    fn judge(&self) -> Result<State, (usize, &'static str)> {
        let mut entries = Vec::new();
        for (bytes, at) in self.entries.iter().zip(1..) {
            match SignedEntry::decode(bytes) {
                Ok(entry) => entries.push(entry),
                Err(refusal) => {
                    // What comes before it is looked at first.
                    if entries.is_empty() {
                        return Err((at, refusal.code()));
                    }
                    State::verify(&room(self.room), &entries, Trust::FirstUse)
                        .map_err(|refused| (usize::try_from(refused.number).unwrap(), refused.why.code()))?;
                    return Err((at, refusal.code()));
                }
            }
        }
        let trust = match &self.trust {
            Shown::FirstUse => Trust::FirstUse,
            Shown::Pinned(head) => Trust::Pinned(*head),
            Shown::Creator(key) => Trust::Creator(*key),
            Shown::Link(link) => Trust::Link(link),
        };
        let verified = State::verify(&room(self.room), &entries, trust);
        verified.map_err(|refused| (usize::try_from(refused.number).unwrap(), refused.why.code()))
    }

    fn json(&self, table: &mut Vec<String>) -> Value {
        let mut places = Vec::new();
        for bytes in &self.entries {
            let text = BASE64.encode(bytes);
            let place = table.iter().position(|known| *known == text);
            places.push(place.unwrap_or(table.len()));
            if place.is_none() {
                table.push(text);
            }
        }
        let trust = match &self.trust {
            Shown::FirstUse => json!("first-use"),
            Shown::Pinned(head) => json!({ "pinned": head }),
            Shown::Creator(key) => json!({ "creator": key }),
            Shown::Link(link) => json!({ "link": link.reveal() }),
        };
        let mut vector = json!({ "what": self.what, "room": self.room, "trust": trust, "entries": places });
        if !self.takings.is_empty() {
            let taken = |one: &Person| json!({ "handle": one.handle, "sign_pub": one.keys.sign_pub });
            vector["takings"] = self.takings.iter().map(taken).collect();
        }
        match self.judge() {
            Ok(state) => vector["state"] = self.state(&state),
            Err((at, why)) => (vector["at"], vector["refused"]) = (json!(at), json!(why)),
        }
        vector
    }

    fn state(&self, state: &State) -> Value {
        let takings = self.takings.iter().map(|one| (one.handle.clone(), one.keys.sign_pub)).collect::<Takings>();
        let people = state.people().map(|(handle, now)| {
            json!({
                "handle": handle, "role": now.role, "state": now.state, "sign_pub": now.keys.sign_pub,
                "hpke_pub": now.keys.hpke_pub, "since": now.since, "by": now.by,
            })
        });
        let recipients = state.recipients(&takings).into_iter().map(|person| json!(person.handle));
        json!({
            "head": state.head(), "subject": state.subject(), "policy": state.policy(),
            "people": people.collect::<Vec<_>>(), "recipients": recipients.collect::<Vec<_>>(),
        })
    }
}

fn people() -> Vec<Value> {
    let names = ["alice", "bob", "carol", "dave", "erin", "mallory", "bob2", "alice2"];
    let people = names.map(|name| {
        let person = who(name);
        json!({
            "name": name, "handle": person.handle, "sign": HEXLOWER.encode(&[person.seed; 32]),
            "sign_pub": person.keys.sign_pub, "hpke": HEXLOWER.encode(&person.hpke), "hpke_pub": person.keys.hpke_pub,
        })
    });
    people.to_vec()
}

#[test]
fn the_published_examples_are_what_this_code_makes_and_reads() {
    let mut table = Vec::new();
    let good = good::cases();
    assert!(good.iter().all(|case| case.judge().is_ok()));
    let cases: Vec<Case> = good.into_iter().chain(forged::cases()).collect();
    let logs: Vec<Value> = cases.iter().map(|case| case.json(&mut table)).collect();
    let refused: std::collections::BTreeSet<_> = logs.iter().filter_map(|log| log["refused"].as_str()).collect();
    let forged = logs.iter().filter(|log| log["refused"].is_string()).count();
    assert!(forged >= 40 && logs.len() - forged >= 6, "{forged} forged logs of {}", logs.len());
    // Every reason has an example, but those that take a log of 8,000 entries, 2,000 members, or 300 kB.
    let all = all_codes();
    let missing: Vec<_> = all.iter().filter(|code| !refused.contains(*code)).collect();
    assert_eq!(missing, [&"full", &"too-large", &"too-many-members"]);
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| case.what).collect();
    assert_eq!(names.len(), cases.len(), "each has a name of its own");

    let now = json!({
        "about": ABOUT, "people": people(), "signatures": others::signatures(), "entries": table, "logs": logs,
        "links": others::links(), "epochs": others::epochs(), "identities": others::identities(), "words": others::words(),
    });
    let now = serde_json::to_string_pretty(&now).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("UNIBUS_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(now == text, "the log is not what {FILE} shows. If that is meant: UNIBUS_BLESS=1, and a new version");
}

/// The words for all reasons.
fn all_codes() -> Vec<&'static str> {
    use RosterRefusal::*;
    let (who, id) = (|| handle("alice"), || room("kitchen"));
    let all = [
        Malformed(""),
        TooLarge(0),
        ForeignRoom { expected: id(), found: id() },
        Gap { expected: 1, found: 1 },
        Applied(1),
        Fork(1),
        StepBack { seen: 1, found: 1 },
        OtherCreator,
        OtherLink,
        Signature(who()),
        InviteSignature(who()),
        OtherKey(who()),
        ReplacedKey(who()),
        Denied(unibus_core::domain::Denial::NotMember),
        Unchanged,
        Present(who()),
        NotPresent(who()),
        Banned(who()),
        NotBanned(who()),
        LastOwner(who()),
        TooManyMembers,
        Full,
        KeyInUse(who()),
        KeyChanged(who()),
        WeakKey(who()),
        OtherHpkeKey(who()),
        NoSuchLink,
        LinkUsed,
        LinkRevoked,
        LinkMakerGone(who()),
    ];
    let mut codes: Vec<_> = all.iter().map(RosterRefusal::code).collect();
    let number = codes.len();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), number, "each has a word of its own");
    codes
}
