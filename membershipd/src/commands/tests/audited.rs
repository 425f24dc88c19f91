//! The audit of each kind of change: two records of one id, the first of them before anything is written.

use super::*;
use crate::invites::Invites;
use crate::room_keys::{EpochRecord, RoomKeys, Vouched};
use crate::users::{UserChange, UserPatch};
use unibus_core::domain::{InviteId, RevocationOutcome, State, Token};
use unibus_crypto::{Envelope, Epoch, HpkePub, KeyId, Signature};
use unibus_store::faulty::{Fault, FaultyStore};
use unibus_store::{PageSize, Position};

/// A change, by what the audit calls it.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Room,
    Member,
    AddUser,
    RemoveUser,
    Invite,
    RevokeInvite,
    RoomKey,
}

const KINDS: [(Kind, &str, &str); 7] = [
    (Kind::Room, "room.create", "room.cellar"),
    (Kind::Member, "member.invite", "member.kitchen.dave"),
    (Kind::AddUser, "user.add", "user.erin"),
    (Kind::RemoveUser, "user.remove", "user.bob"),
    (Kind::Invite, "user.invite", "invite."),
    (Kind::RevokeInvite, "invite.revoke", "invite."),
    (Kind::RoomKey, "key.rotate", "epoch.kitchen.1"),
];

fn token(seed: u8) -> InviteId {
    Token::from_entropy([seed; 32]).id()
}

/// Gives a change of this kind. Says why it was not made.
async fn give_one(kind: Kind, commands: &Arc<Commands>, invites: &Invites, keys: &RoomKeys) -> Result<(), String> {
    let root = user("root", Role::Admin);
    let said = |error: &dyn std::fmt::Display| error.to_string();
    match kind {
        Kind::Room => give(commands, "alice", "cellar", create("room.cellar")).await.map(drop).map_err(|e| said(&e)),
        Kind::Member => give(commands, "alice", "kitchen", invite("dave")).await.map(drop).map_err(|e| said(&e)),
        Kind::AddUser => {
            let added = UserChange::Add(user("erin", Role::User), None);
            commands.change_user((&root).into(), added).await.map(drop).map_err(|e| said(&e))
        }
        Kind::RemoveUser => {
            let patch = UserPatch { state: Some(State::Removed), role: None, last_admin: false };
            let removed = UserChange::Set(handle("bob"), patch, None);
            commands.change_user((&root).into(), removed).await.map(drop).map_err(|e| said(&e))
        }
        Kind::Invite => {
            invites.make(&root, token(2), handle("frank"), Role::User, 0).await.map(drop).map_err(|e| said(&e))
        }
        Kind::RevokeInvite => invites.revoke(&root, token(1)).await.map(drop).map_err(|e| said(&e)),
        Kind::RoomKey => {
            let alice = user("alice", Role::User);
            let envelopes = std::iter::empty::<(Handle, Envelope)>().collect();
            let key_id: KeyId = "0123456789abcdef0123456789abcdef".parse().unwrap();
            let record = EpochRecord::new(alice.handle.clone(), 0, key_id, envelopes);
            keys.begin(&alice, &id("kitchen"), Epoch::FIRST, &record).await.map(drop).map_err(|e| said(&e))
        }
    }
}

async fn records(store: &dyn Store) -> Vec<audit::AuditRecord> {
    let log = store.audit(Position::default(), PageSize::of(500)).await.unwrap().items;
    log.iter().flat_map(|entry| serde_json::from_slice::<audit::AuditEntry>(&entry.value).unwrap().records).collect()
}

/// A node on a store with a kitchen of alice's, and an invite of root's.
async fn scene(store: Arc<dyn Store>) -> (Arc<Commands>, Invites, RoomKeys) {
    let commands = node(&store).await;
    let (invites, keys) = (Invites::new(commands.clone()), RoomKeys::new(commands.clone()));
    let root = user("root", Role::Admin);
    invites.make(&root, token(1), handle("erin2"), Role::User, 0).await.unwrap();
    (commands, invites, keys)
}

#[tokio::test]
async fn each_kind_of_change_has_its_two_records() {
    for (kind, action, written) in KINDS {
        let scratch = Scratch::new();
        let store = scratch.store();
        people(&*store).await.unwrap();
        kitchen(&*store).await.unwrap();
        let (commands, invites, keys) = scene(store.clone()).await;
        let before = records(&*store).await.len();
        give_one(kind, &commands, &invites, &keys).await.unwrap();
        let records = records(&*store).await.split_off(before);
        let [begun, done] = &records[..] else { panic!("{kind:?}: {records:?}") };
        assert_eq!((begun.id, begun.action.as_str(), done.action.as_str()), (done.id, action, action));
        assert!(matches!(begun.stage, audit::Stage::Begun(_)), "{kind:?}: {begun:?}");
        let audit::Stage::Done(names) = &done.stage else { panic!("{kind:?}: {done:?}") };
        assert!(names.iter().any(|(name, _)| name.starts_with(written)), "{kind:?}: {names:?}");
    }
}

#[tokio::test]
async fn each_kind_of_change_is_authorized_under_the_lock() {
    for (kind, action, _) in KINDS {
        let scratch = Scratch::new();
        let store = scratch.store();
        people(&*store).await.unwrap();
        kitchen(&*store).await.unwrap();
        let faulty = Arc::new(FaultyStore::new(store.clone()));
        let (commands, invites, keys) = scene(faulty.clone()).await;
        // What the API would have asked before is over: the right ends between that and the change.
        for name in ["alice", "root"] {
            let patch = UserPatch { state: Some(State::Disabled), role: None, last_admin: true };
            let by = Principal::root("root@homer".parse().unwrap());
            commands.change_user(by, UserChange::Set(handle(name), patch, None)).await.unwrap();
        }
        faulty.arm(None);
        give_one(kind, &commands, &invites, &keys).await.unwrap_err();
        let calls = faulty.calls();
        assert!(!calls.iter().any(|call| matches!(call.verb, "create" | "update")), "{kind:?}: {calls:?}");
        let last = records(&*store).await.pop().unwrap();
        assert_eq!((last.action.as_str(), matches!(last.stage, audit::Stage::Refused(_))), (action, true), "{last:?}");
    }
}

#[tokio::test]
async fn nothing_is_written_where_the_audit_does_not_take_the_first_record() {
    // What it does not answer counts as not taken, too.
    for (kind, ..) in KINDS {
        let calls = faulty_scene(kind, None).await.calls();
        let first = calls.iter().position(|call| call.verb == "append to").unwrap();
        for fault in [Fault::Error, Fault::Timeout, Fault::LostAnswer] {
            let faulty = faulty_scene(kind, Some((first, fault))).await;
            assert!(faulty.fired(), "{kind:?}");
            let calls = faulty.calls();
            let written = calls.iter().any(|call| matches!(call.verb, "create" | "update"));
            assert!(!written, "{kind:?}, {fault:?}: {calls:?}");
        }
    }
}

/// A store on which a change of this kind was given, with a fault at one call. It fails exactly where there is one.
async fn faulty_scene(kind: Kind, plan: Option<(usize, Fault)>) -> Arc<FaultyStore> {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    kitchen(&*store).await.unwrap();
    let faulty = Arc::new(FaultyStore::new(store));
    let (commands, invites, keys) = scene(faulty.clone()).await;
    faulty.arm(plan);
    let given = give_one(kind, &commands, &invites, &keys).await;
    assert_eq!(given.is_err(), plan.is_some(), "{kind:?}: {given:?}");
    faulty
}

#[tokio::test]
async fn an_hpke_key_is_set_once_and_by_its_user_alone() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let commands = node(&store).await;
    let keys = RoomKeys::new(commands.clone());
    let vouched = |byte: &str| {
        let key: HpkePub = byte.repeat(32).parse().unwrap();
        let signature: Signature = serde_json::from_value(data_encoding::BASE64.encode(&[0; 64]).into()).unwrap();
        Vouched::new(key, signature)
    };
    let (alice, mallory) = (user("alice", Role::User), user("mallory", Role::User));
    assert!(keys.set(&alice, &vouched("09")).await.unwrap());
    assert!(!keys.set(&alice, &vouched("09")).await.unwrap(), "again changes nothing");
    assert!(keys.set(&alice, &vouched("0a")).await.is_err(), "it never changes");
    assert!(keys.set(&mallory, &vouched("0a")).await.is_err(), "a user whom the bus does not know sets none");
}

/// A fence that looks what the audit says while a revocation is waited for.
#[derive(Debug)]
struct Witness {
    store: Arc<dyn Store>,
    seen: std::sync::Mutex<Vec<audit::Stage>>,
}

impl Fence for Witness {
    fn wait_for_revocation<'a>(&'a self, _: &'a [Revoked]) -> futures::future::BoxFuture<'a, RevocationOutcome> {
        Box::pin(async {
            let last = records(&*self.store).await.pop().unwrap();
            self.seen.lock().unwrap().push(last.stage);
            RevocationOutcome::Acknowledged
        })
    }
}

#[tokio::test]
async fn what_takes_a_right_away_is_done_in_the_audit_when_no_node_honours_it() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    kitchen(&*store).await.unwrap();
    member(&*store, "kitchen", "bob", RoomRole::Member, MemberState::Joined).await.unwrap();
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let state = Watched::follow(&store, &pace);
    state.ready().await.unwrap();
    let witness = Arc::new(Witness { store: store.clone(), seen: std::sync::Mutex::default() });
    let node = Commands::new(store.clone(), state, witness.clone(), pace, Patience::default());
    node.run(&order("alice", "kitchen", Command::Remove(handle("bob")))).await.unwrap();
    let patch = UserPatch { state: Some(State::Removed), role: None, last_admin: false };
    let root = user("root", Role::Admin);
    node.change_user((&root).into(), UserChange::Set(handle("bob"), patch, None)).await.unwrap();
    let seen = std::mem::take(&mut *witness.seen.lock().unwrap());
    assert!(matches!(seen[..], [audit::Stage::Begun(_), audit::Stage::Begun(_)]), "{seen:?}");
    assert!(matches!(records(&*store).await.pop().unwrap().stage, audit::Stage::Done(_)));
}
