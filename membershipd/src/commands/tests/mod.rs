//! What the tests of commands share: a store in a directory of its own, users, and short ways to give commands.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nkeys::{KeyPair, KeyPairType};

use super::*;
use unibus_core::domain::{
    Command, Handle, MemberState, Membership, Policy, Quota, Record, RecordKey, Records as _, Role, RoomId, RoomRole,
    SignPub, Standing, Terms, User,
};
use unibus_store::{SqliteStore, Store, StoreError};

mod audited;
mod faults;
mod levels;
mod races;
mod repairs;

/// A store that goes with the test.
pub(super) struct Scratch {
    dir: PathBuf,
    store: Arc<dyn Store>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("unibus-commands-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let store = Arc::new(SqliteStore::open(&dir.join("store.db"), Arc::new(|| 0)).unwrap());
        Self { dir, store }
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const PEOPLE: [(&str, Role); 5] =
    [("root", Role::Admin), ("alice", Role::User), ("bob", Role::User), ("carol", Role::User), ("dave", Role::User)];

fn id(text: &str) -> RoomId {
    text.parse().unwrap()
}

fn handle(text: &str) -> Handle {
    text.parse().unwrap()
}

fn user(name: &str, role: Role) -> User {
    let mut seed = [7; 32];
    seed.iter_mut().zip(name.bytes()).for_each(|(seed, byte)| *seed = byte);
    let pair = KeyPair::new_from_raw(KeyPairType::User, seed).unwrap();
    let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
    User { handle: handle(name), sign_pub, role, state: unibus_core::domain::State::Active }
}

async fn put(store: &dyn Store, record: Record) -> Result<(), StoreError> {
    let key = record.key();
    store.create(keys::bucket(&key), &keys::key(&key)?, &keys::encode(&record)?).await.map(drop)
}

/// The people of the tests, each with a key claimed for him.
async fn people(store: &dyn Store) -> Result<(), StoreError> {
    for (name, role) in PEOPLE {
        add(store, name, role).await?;
    }
    Ok(())
}

async fn add(store: &dyn Store, name: &str, role: Role) -> Result<(), StoreError> {
    let user = user(name, role);
    let claim = format!("key.{}", user.sign_pub).parse().unwrap();
    store.create(unibus_store::Records::Users, &claim, format!("\"{name}\"").as_bytes()).await?;
    put(store, Record::User(user)).await
}

async fn member(
    store: &dyn Store,
    room: &str,
    name: &str,
    role: RoomRole,
    state: MemberState,
) -> Result<(), StoreError> {
    let by = "alice".parse().unwrap();
    put(store, Record::Membership(Membership::new(id(room), handle(name), Standing { role, state }, by))).await?;
    index::update(store, &handle(name), &id(room)).await.map(drop)
}

/// A kitchen of alice's.
async fn kitchen(store: &dyn Store) -> Result<(), StoreError> {
    let subject = "room.kitchen".parse().unwrap();
    let claims =
        unibus_core::domain::Claims::none(unibus_core::domain::Space::Room).claim(&subject, &id("kitchen")).unwrap();
    put(store, Record::Claims(claims)).await?;
    let room = unibus_core::domain::Room::new(id("kitchen"), subject, Policy::CONVERSATION, "alice".parse().unwrap());
    put(store, Record::Room(room)).await?;
    member(store, "kitchen", "alice", RoomRole::Owner, MemberState::Joined).await
}

/// Commands on `store` from a node of its own, with a fence of a moment.
async fn node(store: &Arc<dyn Store>) -> Arc<Commands> {
    slow_node(store, Duration::from_millis(1)).await
}

/// The same, with pauses of `pause` before it begins anew.
async fn slow_node(store: &Arc<dyn Store>, pause: Duration) -> Arc<Commands> {
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let state = Watched::follow(store, &pace);
    state.ready().await.unwrap();
    let patience = Patience { budget: Duration::from_secs(30), catch_up: Duration::from_secs(5), pause };
    let fence = WaitOut::of(Duration::from_millis(1), pace.clone());
    Arc::new(Commands::new(store.clone(), state, fence, pace, patience))
}

fn order(who: &str, room: &str, command: Command) -> Order {
    let terms = Terms {
        encrypted_only: false,
        quota: Quota { rooms: u32::MAX, persisting: u32::MAX, removed: u32::MAX },
        keeping: unibus_core::domain::Keeping::DEFAULT,
    };
    Order { by: handle(who), room: id(room), command, terms, if_match: None }
}

async fn give(node: &Commands, who: &str, room: &str, command: Command) -> Result<Outcome, CommandError> {
    node.run(&order(who, room, command)).await
}

fn create(subject: &str) -> Command {
    Command::CreateRoom(subject.parse().unwrap(), Policy::CONVERSATION)
}

fn invite(name: &str) -> Command {
    Command::Invite(handle(name), RoomRole::Member)
}

async fn standing(store: &dyn Store, room: &str, name: &str) -> Option<(RoomRole, MemberState)> {
    let view = load(store).await.unwrap();
    view.membership(&id(room), &handle(name)).map(|m| (m.role, m.state))
}

async fn repair(store: &Arc<dyn Store>) -> Result<Repaired, StoreError> {
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let fence = WaitOut::of(Duration::ZERO, pace.clone());
    let by = "root@homer".parse().unwrap();
    Repair { store: store.clone(), fence: &fence, pace, by, grace: Duration::ZERO }.run().await
}

#[tokio::test]
async fn a_room_is_made_joined_left_and_removed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let node = node(&store).await;
    let made = give(&node, "alice", "cellar", create("room.cellar")).await.unwrap();
    assert!(made.changed && made.fenced.is_none() && made.unfinished.is_empty());
    assert_eq!((made.written.len(), made.record.clone()), (3, RecordKey::Room(id("cellar"))));
    let again = give(&node, "alice", "cellar", create("room.cellar")).await.unwrap();
    assert!(!again.changed && again.written.is_empty());
    assert_eq!(again.revision, made.revision, "the entity tag of what is there");
    give(&node, "alice", "cellar", invite("bob")).await.unwrap();
    give(&node, "bob", "cellar", Command::Accept { keep_connections: false }).await.unwrap();
    assert_eq!(standing(&*store, "cellar", "bob").await, Some((RoomRole::Member, MemberState::Joined)));
    let removed = give(&node, "alice", "cellar", Command::Remove(handle("bob"))).await.unwrap();
    assert!(removed.changed && removed.fenced.is_some());
    let again = give(&node, "alice", "cellar", Command::Remove(handle("bob"))).await.unwrap();
    assert!(!again.changed && again.fenced.is_some(), "the first one may have died before its fence");
    let moved = Command::ChangeRoom(Some("rpc.cellar".parse().unwrap()), None, None);
    assert!(give(&node, "alice", "cellar", moved).await.unwrap().fenced.is_some());
    give(&node, "dave", "other", create("room.cellar")).await.unwrap();
    give(&node, "alice", "cellar", Command::RemoveRoom).await.unwrap();
    give(&node, "dave", "third", create("rpc.cellar.corner")).await.unwrap();
    assert_eq!(repair(&store).await.unwrap(), Repaired::default(), "nothing was left behind");
}

#[tokio::test]
async fn a_revision_that_was_demanded_is_the_one_that_is_replaced() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    kitchen(&*store).await.unwrap();
    let node = node(&store).await;
    let first = give(&node, "alice", "kitchen", invite("bob")).await.unwrap().revision;
    let at = |revision: Option<_>| Some(Demand::OneOf(revision.into_iter().collect()));
    let demand = |command, revision| Order { if_match: at(revision), ..order("alice", "kitchen", command) };
    let promote = || Command::SetRole(handle("bob"), RoomRole::Moderator);
    let second = node.run(&demand(promote(), first)).await.unwrap().revision;
    assert!(second > first);
    let stale = node.run(&demand(Command::Remove(handle("bob")), first)).await.unwrap_err();
    assert!(matches!(stale, CommandError::Precondition { now, .. } if now == second), "{stale}");
    let none = node.run(&demand(Command::Remove(handle("carol")), first)).await.unwrap_err();
    assert!(matches!(none, CommandError::Precondition { now: None, .. }), "{none}");
    let absent = Order { if_match: Some(Demand::Any), ..demand(Command::Remove(handle("carol")), None) };
    assert_eq!(node.run(&absent).await.unwrap_err().code(), "precondition", "nothing is there");
    let denied = Order { if_match: at(first), ..order("dave", "kitchen", promote()) };
    assert_eq!(node.run(&denied).await.unwrap_err().code(), "denied", "who may not is not told the revision");
    assert!(node.run(&demand(promote(), second)).await.is_ok());
    let stranger = Order { by: handle("mallory"), ..demand(promote(), second) };
    assert_eq!(node.run(&stranger).await.unwrap_err().code(), "denied");
}
