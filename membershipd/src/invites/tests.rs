//! Invites on a real store: used once, by whoever came first, whatever fails and whoever is in between.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::commands::{Pace, Patience, Principal, Real, Watched};
use crate::users::{self, Outcome, UserChange, UserPatch};
use unibus_core::domain::{Invite, InviteId, InviteState, Role, SignPub, State, Token, Unusable, User};
use unibus_core::view::{claim_key, user_key};
use unibus_store::faulty::{Coverage, FaultyStore, under_every_fault};
use unibus_store::{PageSize, Position, Records, SqliteStore, Store, StoreError};

const NOW: i64 = 1_790_000_000;

fn key(seed: u8) -> SignPub {
    let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [seed; 32]).unwrap();
    SignPub::from_nkey(&pair.public_key()).unwrap()
}

fn token(seed: u8) -> Token {
    Token::from_entropy([seed; 32])
}

fn user(name: &str, seed: u8, role: Role) -> User {
    User { handle: name.parse().unwrap(), sign_pub: key(seed), role, state: State::Active }
}

fn root() -> User {
    user("root", 250, Role::Admin)
}

/// A file of a store, which goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("unibus-invites-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.0.join("store.db"), Arc::new(|| 0)).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn put_user(store: &dyn Store, user: &User) -> Result<(), StoreError> {
    let handle = serde_json::to_vec(&user.handle).unwrap();
    store.create(Records::Users, &claim_key(&user.sign_pub).parse().unwrap(), &handle).await?;
    let record = serde_json::to_vec(user).unwrap();
    store.create(Records::Users, &user_key(&user.handle).parse().unwrap(), &record).await.map(drop)
}

/// An admin, and an invite of his for alice.
async fn invited(store: &dyn Store) -> Result<(), StoreError> {
    put_user(store, &root()).await?;
    keep(store, Invite::new("alice".parse().unwrap(), Role::User, root().handle, NOW)).await
}

async fn keep(store: &dyn Store, invite: Invite) -> Result<(), StoreError> {
    let name = format!("invite.{}", token(1).id()).parse().unwrap();
    store.create(Records::Invites, &name, &serde_json::to_vec(&invite).unwrap()).await.map(drop)
}

/// A node on `store` that sees what is in `truth`. The tests need a thread beside their own: what follows the store has to let it
/// go before it can be dropped.
struct Node {
    invites: Invites,
    commands: Arc<Commands>,
}

impl Node {
    async fn over(store: Arc<dyn Store>, truth: &Arc<dyn Store>) -> Self {
        let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
        let state = Watched::follow(truth, &pace);
        state.ready().await.unwrap();
        let patience = Patience { budget: Duration::from_secs(5), ..Patience::default() };
        let commands = Arc::new(Commands::offline(store, state, pace, patience));
        Self { invites: Invites::new(commands.clone()), commands }
    }

    async fn on(store: &Arc<dyn Store>) -> Self {
        Self::over(store.clone(), store).await
    }

    async fn register(&self, token: &Token, seed: u8, now: i64) -> Result<Outcome, InviteError> {
        let offer = self.invites.look(token, key(seed), now).await?;
        self.invites.register(offer, now).await
    }

    async fn why(&self, token: &Token, seed: u8, now: i64) -> Unusable {
        match self.register(token, seed, now).await {
            Err(InviteError::Unusable(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    async fn state(&self, id: InviteId) -> InviteState {
        self.invites.read(id).await.unwrap().unwrap().invite.state
    }

    fn user(&self, name: &str) -> Option<User> {
        users::list(self.commands.state(), None, None).unwrap().0.into_iter().find(|user| user.handle.as_str() == name)
    }

    async fn change(&self, name: &str, patch: UserPatch) {
        let root = Principal::root("root@homer".parse().unwrap());
        self.commands.change_user(root, UserChange::Set(name.parse().unwrap(), patch, None)).await.unwrap();
    }
}

const NOTHING: UserPatch = UserPatch { state: None, role: None, last_admin: true };

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_invite_is_made_and_used_once() {
    let scratch = Scratch::new();
    let store = scratch.store();
    put_user(&*store, &root()).await.unwrap();
    let node = Node::on(&store).await;
    let (id, alice) = (token(1).id(), "alice".parse::<unibus_core::domain::Handle>().unwrap());
    let make = |id, handle: &str, role| {
        let (node, root, handle) = (&node, root(), handle.parse().unwrap());
        async move { node.invites.make(&root, id, handle, role, NOW).await }
    };
    let made = make(id, "alice", Role::User).await.unwrap();
    assert!(made.changed && made.kept.invite.state == InviteState::Open);
    assert!(!make(id, "alice", Role::User).await.unwrap().changed);
    assert!(matches!(make(id, "alice", Role::Admin).await, Err(InviteError::Exists(_))));
    assert!(matches!(make(token(2).id(), "root", Role::User).await, Err(InviteError::HandleTaken(_))));
    // A second one for the same handle: the first to register has it.
    make(token(3).id(), "alice", Role::Admin).await.unwrap();

    let done = node.register(&token(1), 1, NOW + 5).await.unwrap();
    assert!(done.changed && done.user == user("alice", 1, Role::User));
    assert_eq!(node.state(id).await, InviteState::Spent { key: key(1) });
    let again = node.register(&token(1), 1, NOW * 2).await.unwrap();
    assert!(!again.changed && again.revision == done.revision, "whoever is a user stays one");
    assert_eq!(node.why(&token(1), 2, NOW + 5).await, Unusable::OtherKey);
    assert!(matches!(node.register(&token(3), 3, NOW).await, Err(InviteError::HandleTaken(_))));
    assert_eq!(node.state(token(3).id()).await, InviteState::Open, "and not claimed for nothing");
    make(token(4).id(), "bob", Role::User).await.unwrap();
    assert!(matches!(node.register(&token(4), 1, NOW).await, Err(InviteError::KeyTaken(_))), "that is alice's key");
    assert!(matches!(node.invites.revoke(&root(), id).await, Err(InviteError::Used(handle)) if handle == alice));
    let page = node.invites.page(Position::default(), PageSize::of(2)).await.unwrap();
    assert_eq!(page.items.iter().map(|kept| kept.id).collect::<Vec<_>>(), [token(3).id(), id]);
    let rest = node.invites.page(page.next.unwrap(), PageSize::of(2)).await.unwrap();
    assert_eq!((rest.items[0].id, rest.items.len(), rest.next), (token(4).id(), 1, None));

    // It is the inviting admin who stands in the audit, and the invite through which.
    let log = store.audit(Position::default(), PageSize::of(100)).await.unwrap();
    let log: Vec<String> = log.items.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect();
    let with =
        format!(r#""who":"root","action":"user.add","user":"alice","with":"role=user key={} invite={id}""#, key(1));
    assert_eq!(log.iter().filter(|record| record.contains(&with)).count(), 2, "{log:?}");
    assert!(log.iter().any(|record| record.contains(r#""action":"invite.revoke""#) && record.contains("refused")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_over_is_over_for_everybody() {
    let scratch = Scratch::new();
    let store = scratch.store();
    invited(&*store).await.unwrap();
    let admin = user("chief", 7, Role::Admin);
    put_user(&*store, &admin).await.unwrap();
    let node = Node::on(&store).await;
    let last = NOW + unibus_core::domain::limits::INVITE_LIFETIME_S;
    assert_eq!(node.why(&token(9), 1, NOW).await, Unusable::Unknown);
    assert_eq!(node.why(&token(1), 1, last).await, Unusable::Expired);
    assert!(node.invites.look(&token(1), key(1), last - 1).await.is_ok());
    // Looked at in time, and too late when it is his turn.
    let offer = node.invites.look(&token(1), key(1), last - 1).await.unwrap();
    assert!(matches!(node.invites.register(offer, last).await, Err(InviteError::Unusable(Unusable::Expired))));
    for patch in [UserPatch { role: Some(Role::User), ..NOTHING }, UserPatch { state: Some(State::Removed), ..NOTHING }]
    {
        node.change("root", patch).await;
        assert_eq!(node.why(&token(1), 1, NOW).await, Unusable::InviterGone);
    }
    assert_eq!((node.state(token(1).id()).await, node.user("alice")), (InviteState::Open, None), "nothing was begun");
    assert!(
        matches!(node.invites.revoke(&root(), token(1).id()).await, Err(InviteError::User(_))),
        "no admin any more"
    );
    assert!(node.invites.revoke(&admin, token(1).id()).await.unwrap().changed);
    assert!(!node.invites.revoke(&admin, token(1).id()).await.unwrap().changed);
    assert_eq!(node.why(&token(1), 1, NOW).await, Unusable::Revoked);
    assert!(matches!(node.invites.revoke(&admin, token(9).id()).await, Err(InviteError::Missing(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_was_removed_never_comes_back_by_an_invite() {
    let scratch = Scratch::new();
    let store = scratch.store();
    invited(&*store).await.unwrap();
    let node = Node::on(&store).await;
    node.register(&token(1), 1, NOW).await.unwrap();
    node.change("alice", UserPatch { state: Some(State::Removed), ..NOTHING }).await;
    assert!(
        matches!(node.register(&token(1), 1, NOW).await, Err(InviteError::HandleTaken(_))),
        "not with the same invite"
    );
    let again = node.invites.make(&root(), token(2).id(), "alice".parse().unwrap(), Role::User, NOW).await;
    assert!(matches!(again, Err(InviteError::HandleTaken(_))), "nor is the handle given again");
    node.invites.make(&root(), token(3).id(), "alice2".parse().unwrap(), Role::User, NOW).await.unwrap();
    assert!(matches!(node.register(&token(3), 1, NOW).await, Err(InviteError::KeyTaken(_))), "nor the key");
    assert_eq!(node.user("alice").unwrap().state, State::Removed);
}

/// Carries `scenario` out on the bus that `prepare` makes, under every fault at every call.
async fn faults(
    prepare: impl AsyncFn(&dyn Store) -> Result<(), StoreError>,
    scenario: impl AsyncFn(Arc<FaultyStore>, Arc<dyn Store>) -> Result<(), String>,
) -> Coverage {
    let kept = Mutex::new(Vec::new());
    let fresh = async || {
        let scratch = Scratch::new();
        let store = scratch.store();
        let mut kept = kept.lock().unwrap();
        kept.clear();
        kept.push((scratch, store.clone()));
        store
    };
    let with_truth = async |faulty: Arc<FaultyStore>| {
        let truth = kept.lock().unwrap().last().unwrap().1.clone();
        scenario(faulty, truth).await
    };
    under_every_fault(fresh, prepare, with_truth).await.unwrap_or_else(|why| panic!("{why}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_fails_one_key_registers_and_what_is_said_is_true() {
    let coverage = faults(invited, async |faulty, truth| {
        let said = Node::over(faulty.clone(), &truth).await.register(&token(1), 1, NOW).await;
        let settled = faulty.truth().await;
        let node = Node::on(&settled).await;
        let is_user = node.user("alice") == Some(user("alice", 1, Role::User));
        match &said {
            Ok(_) if !is_user => return Err("said to be a user".to_owned()),
            Err(error) if is_user && !error.is_unknown() => return Err(format!("said to be none: {error}")),
            _ => {}
        }
        // Somebody else gets in only where nothing was claimed; then the first one is shut out, and nobody else ever comes.
        let claimed = node.state(token(1).id()).await != InviteState::Open;
        let other = node.register(&token(1), 2, NOW).await;
        if other.is_ok() == claimed {
            return Err(format!("claimed {claimed}, and another key: {other:?}"));
        }
        let (winner, loser) = if claimed { (1, 2) } else { (2, 1) };
        let done = node.register(&token(1), winner, NOW).await.map_err(|error| format!("repeated: {error}"))?;
        let lost = node.register(&token(1), loser, NOW).await;
        let spent = InviteState::Spent { key: key(winner) };
        if done.user != user("alice", winner, Role::User) || lost.is_ok() || node.state(token(1).id()).await != spent {
            return Err(format!("{done:?}, {lost:?}"));
        }
        Ok(())
    });
    let coverage = coverage.await;
    assert_eq!(
        coverage.calls.iter().filter(|call| matches!(call.verb, "create" | "update")).count(),
        4,
        "{coverage:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_fails_who_was_forestalled_never_registers() {
    let claimed = async |store: &dyn Store| {
        put_user(store, &root()).await?;
        let invite = Invite::new("alice".parse().unwrap(), Role::User, root().handle, NOW);
        keep(store, invite.claimed(key(1))).await
    };
    let coverage = faults(claimed, async |faulty, truth| {
        let said = Node::over(faulty.clone(), &truth).await.invites.revoke(&root(), token(1).id()).await;
        let settled = faulty.truth().await;
        let node = Node::on(&settled).await;
        // He tries right now, before anybody repeats anything.
        let tried = node.register(&token(1), 1, NOW).await;
        let repeated = node.invites.revoke(&root(), token(1).id()).await;
        let is_user = node.user("alice").is_some_and(|user| user.state == State::Active);
        match (&said, &tried, &repeated) {
            (Ok(_), Ok(_), _) | (_, Ok(_), Ok(_)) => Err("registered after it was revoked".to_owned()),
            (_, Ok(_), Err(InviteError::Used(_))) if is_user => Ok(()),
            (_, Err(_), Ok(_)) if !is_user => Ok(()),
            other => Err(format!("{other:?}, a user: {is_user}")),
        }
    });
    assert!(coverage.await.runs.len() > 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_wins_and_a_revocation_is_never_crossed() {
    for round in 0..8 {
        let scratch = Scratch::new();
        let store = scratch.store();
        invited(&*store).await.unwrap();
        let nodes = [Node::on(&store).await, Node::on(&store).await];
        let (token, root) = (token(1), root());
        let tries = (0..6).map(|seed| nodes[usize::from(seed % 2)].register(&token, seed, NOW));
        let revoking = async {
            tokio::time::sleep(Duration::from_millis(round)).await;
            nodes[0].invites.revoke(&root, token.id()).await
        };
        let (registered, revoked) = tokio::join!(futures::future::join_all(tries), revoking);
        let won: Vec<_> = registered.iter().filter_map(|done| done.as_ref().ok()).collect();
        assert!(won.len() <= 1, "{won:?}");
        assert_eq!(won.is_empty(), revoked.is_ok(), "{registered:?} {revoked:?}");
        let active = nodes.iter().flat_map(|node| node.user("alice")).find(|user| user.state == State::Active);
        assert_eq!(active.as_ref(), won.first().map(|done| &done.user));
    }
}
