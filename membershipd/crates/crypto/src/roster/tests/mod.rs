//! What the tests of the log share: people with keys that are the same in every run, and a pen.

mod daemon;
mod encoding;
mod epochs;
mod links;
mod property;
mod rules;
mod vectors;

use nkeys::{KeyPair, KeyPairType};

use super::{Entry, InviteKey, Keys, LinkSeed, RosterAction, RosterRefusal, SignedEntry, State, Trust};
use crate::frame::RosterHead;
use crate::recipient::HpkeSecret;
use unibus_core::domain::{Handle, MemberState, Policy, RoomId, RoomRole, SignPub, Standing};

const TIME: u64 = 1_790_000_000;

/// A person with keys.
struct Person {
    handle: Handle,
    pair: KeyPair,
    seed: u8,
    hpke: [u8; 32],
    keys: Keys,
}

fn handle(text: &str) -> Handle {
    text.parse().unwrap()
}

fn room(id: &str) -> RoomId {
    id.parse().unwrap()
}

/// The person with keys made of `seed`.
fn person(name: &str, seed: u8) -> Person {
    let pair = KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap();
    let hpke = [seed.wrapping_add(100); 32];
    let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
    let hpke_pub = HpkeSecret::from_bytes(hpke).public().unwrap();
    Person { handle: handle(name), pair, seed, hpke, keys: Keys { sign_pub, hpke_pub } }
}

/// The people of most tests, each with the same keys everywhere. `bob2` is bob with new keys.
fn who(name: &str) -> Person {
    let names = ["alice", "bob", "carol", "dave", "erin", "mallory", "bob2", "alice2"];
    let at = names.iter().position(|known| *known == name).unwrap();
    person(name.trim_end_matches('2'), u8::try_from(at + 1).unwrap())
}

fn seed(byte: u8) -> LinkSeed {
    LinkSeed::from_bytes([byte; 32])
}

fn invite_key(byte: u8) -> InviteKey {
    seed(byte).invite_key().unwrap()
}

fn create(who: &Person) -> RosterAction {
    let subject = "room.kitchen".parse().unwrap();
    RosterAction::Create { hpke_pub: who.keys.hpke_pub, subject, policy: Policy::CONVERSATION }
}

fn invite(who: &Person, role: RoomRole) -> RosterAction {
    RosterAction::Invite { target: who.handle.clone(), keys: who.keys, role }
}

fn accept(who: &Person) -> RosterAction {
    RosterAction::Accept { hpke_pub: who.keys.hpke_pub }
}

fn remove(name: &str) -> RosterAction {
    RosterAction::Remove { target: handle(name) }
}

fn ban(name: &str) -> RosterAction {
    RosterAction::Ban { target: handle(name) }
}

fn unban(name: &str) -> RosterAction {
    RosterAction::Unban { target: handle(name) }
}

fn role(name: &str, role: RoomRole) -> RosterAction {
    RosterAction::SetRole { target: handle(name), role }
}

fn replace(who: &Person) -> RosterAction {
    RosterAction::ReplaceKey { target: who.handle.clone(), keys: who.keys }
}

fn link(byte: u8, role: RoomRole) -> RosterAction {
    RosterAction::InviteLink { invite_pub: invite_key(byte).public(), role }
}

fn accept_link(byte: u8, who: &Person) -> RosterAction {
    RosterAction::AcceptLink { invite_pub: invite_key(byte).public(), hpke_pub: who.keys.hpke_pub }
}

/// A log that is being written, verified with every entry.
#[derive(Clone)]
struct Pen {
    entries: Vec<SignedEntry>,
    state: State,
}

impl Pen {
    /// The log of the kitchen, which alice makes.
    fn new() -> Self {
        let alice = who("alice");
        Self::begin("kitchen", &alice, create(&alice))
    }

    fn begin(id: &str, who: &Person, action: RosterAction) -> Self {
        let first = opening(id, who, action);
        let state = State::begin(&first).unwrap();
        Self { entries: vec![first], state }
    }

    /// The next entry, as `who` would write it.
    fn next(&self, who: &Person, action: RosterAction) -> Entry {
        let head = self.state.head();
        Entry {
            room: self.state.room().clone(),
            number: head.number + 1,
            previous: head.hash,
            actor: who.handle.clone(),
            actor_key: who.keys.sign_pub,
            time: TIME + u64::from(head.number),
            action,
        }
    }

    fn sign(&self, who: &Person, action: RosterAction) -> SignedEntry {
        signed(&self.next(who, action), who)
    }

    /// Writes an entry, or says why it is refused.
    fn try_add(&mut self, who: &Person, action: RosterAction) -> Result<(), RosterRefusal> {
        let entry = self.sign(who, action);
        self.state.apply(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    fn add(&mut self, who: &Person, action: RosterAction) {
        self.try_add(who, action).unwrap();
    }

    /// `who` comes in: invited by alice.
    fn join(&mut self, newcomer: &Person, as_role: RoomRole) {
        self.add(&who("alice"), invite(newcomer, as_role));
        self.add(newcomer, accept(newcomer));
    }

    fn refusal(&self, who: &Person, action: RosterAction) -> &'static str {
        let before = self.state.clone();
        let mut pen = self.clone();
        let refusal = pen.try_add(who, action).unwrap_err();
        assert_eq!(pen.state, before, "what is refused changes nothing");
        refusal.code()
    }

    fn standing(&self, name: &str) -> Option<Standing> {
        self.state.person(&handle(name)).map(super::Moment::standing)
    }
}

fn opening(id: &str, who: &Person, action: RosterAction) -> SignedEntry {
    let (actor, actor_key) = (who.handle.clone(), who.keys.sign_pub);
    let entry = Entry { room: room(id), number: 1, previous: RosterHead::NONE, actor, actor_key, time: TIME, action };
    signed(&entry, who)
}

/// Signs with the key of `who`, and with that of a link where one is needed: those of the tests have one byte.
fn signed(entry: &Entry, who: &Person) -> SignedEntry {
    let invite = entry.action.invite_key().and_then(|key| (0..40).map(invite_key).find(|known| known.public() == key));
    SignedEntry::sign(entry, &who.pair, invite.as_ref()).unwrap()
}

fn joined(role: RoomRole) -> Option<Standing> {
    Some(Standing { role, state: MemberState::Joined })
}

fn invited(role: RoomRole) -> Option<Standing> {
    Some(Standing { role, state: MemberState::Invited })
}

/// The whole log again, by what it is trusted by.
fn verify(entries: &[SignedEntry], trust: Trust<'_>) -> Result<State, (u32, &'static str)> {
    State::verify(&room("kitchen"), entries, trust).map_err(|refused| (refused.number, refused.why.code()))
}
