//! A roster log of any length, as a lively room has one: people are invited, accept, get another role, and some are removed.
//!
//! The bench verifies it, and the tests of the examples let Python and JavaScript verify the same one.

use nkeys::{KeyPair, KeyPairType};
use unibus_core::domain::{Handle, Policy, RoomId, RoomRole, SignPub};
use unibus_crypto::roster::{Entry, Keys, RosterAction, RosterRefusal, SignedEntry, State};
use unibus_crypto::{HpkeSecret, RosterHead};

/// A person with keys.
pub(crate) struct Person {
    /// Their handle.
    pub(crate) handle: Handle,
    /// Their key pair.
    pub(crate) pair: KeyPair,
    /// Their public keys.
    pub(crate) keys: Keys,
}

impl Person {
    /// Person number `number`, with the same keys in every run.
    pub(crate) fn new(number: u32) -> Self {
        let secret = |kind: u8| {
            let mut secret = [kind; 32];
            secret.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
            secret
        };
        let pair = KeyPair::new_from_raw(KeyPairType::User, secret(1)).unwrap();
        let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
        let hpke_pub = HpkeSecret::from_bytes(secret(2)).public().unwrap();
        Self { handle: format!("person-{number}").parse().unwrap(), pair, keys: Keys { sign_pub, hpke_pub } }
    }
}

/// A log that is being written.
pub(crate) struct LongLog {
    /// The room.
    pub(crate) room: RoomId,
    /// Who made it, and makes most of it.
    pub(crate) owner: Person,
    /// The entries.
    pub(crate) entries: Vec<SignedEntry>,
}

impl LongLog {
    /// A log of so many entries.
    pub(crate) fn new(length: usize) -> Self {
        let mut log = Self { room: "kitchen".parse().unwrap(), owner: Person::new(0), entries: Vec::new() };
        let (hpke_pub, subject) = (log.owner.keys.hpke_pub, "room.kitchen".parse().unwrap());
        let first = RosterAction::Create { hpke_pub, subject, policy: Policy::CONVERSATION };
        log.entries.push(log.next(&log.owner, first).unwrap());
        for (number, step) in (1..).flat_map(|number| (0..4).map(move |step| (number, step))) {
            if log.entries.len() == length {
                break;
            }
            let person = Person::new(number);
            let (target, keys) = (person.handle.clone(), person.keys);
            let entry = match step {
                0 => log.next(&log.owner, RosterAction::Invite { target, keys, role: RoomRole::Member }),
                1 => log.next(&person, RosterAction::Accept { hpke_pub: keys.hpke_pub }),
                2 => log.next(&log.owner, RosterAction::SetRole { target, role: RoomRole::Reader }),
                // Half of them stay, for the first thousand or so.
                _ if number % 2 == 0 && number < 2_000 => {
                    log.next(&log.owner, RosterAction::SetRole { target, role: RoomRole::Moderator })
                }
                _ => log.next(&log.owner, RosterAction::Remove { target }),
            };
            log.entries.push(entry.unwrap());
        }
        log
    }

    /// The next entry, by `actor`.
    pub(crate) fn next(&self, actor: &Person, action: RosterAction) -> Result<SignedEntry, RosterRefusal> {
        let (number, previous) = match self.entries.last() {
            Some(last) => (last.head().number + 1, last.hash()),
            None => (1, RosterHead::NONE),
        };
        let (room, time) = (self.room.clone(), 1_790_000_000 + u64::from(number));
        let (handle, actor_key) = (actor.handle.clone(), actor.keys.sign_pub);
        SignedEntry::sign(&Entry { room, number, previous, actor: handle, actor_key, time, action }, &actor.pair, None)
    }

    /// What it comes to.
    pub(crate) fn verify(&self) -> State {
        let trust = unibus_crypto::roster::Trust::Creator(self.owner.keys.sign_pub);
        State::verify(&self.room, &self.entries, trust).unwrap()
    }
}
