//! What a repair finds, does, and leaves alone.

use super::*;
use crate::commands::derived;
use crate::config::BusAuth;
use crate::gate::Gate;
use unibus_core::domain::{Claims, RevocationOutcome, Room, Space};

#[tokio::test]
async fn everything_that_was_left_is_finished_once() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let claims = [("room.never", "never"), ("room.half", "half"), ("room.old", "moved"), ("room.new", "moved")];
    let claims = claims.into_iter().fold(Claims::none(Space::Room), |claims, (subject, room)| {
        claims.claim(&subject.parse().unwrap(), &id(room)).unwrap()
    });
    put(&*store, Record::Claims(claims)).await.unwrap();
    let room = |name: &str, subject: &str| {
        Room::new(id(name), subject.parse().unwrap(), Policy::CONVERSATION, "alice".parse().unwrap())
    };
    for (name, subject) in
        [("half", "room.half"), ("moved", "room.new"), ("lost", "room.lost"), ("under", "room.half.under")]
    {
        put(&*store, Record::Room(room(name, subject))).await.unwrap();
    }
    for name in ["moved", "lost", "under"] {
        member(&*store, name, "bob", RoomRole::Owner, MemberState::Joined).await.unwrap();
    }
    // One membership whose end did not come to the index, one whose beginning did not.
    let key = keys::index_key(&handle("dave"), &id("moved")).unwrap();
    store.create(unibus_store::Records::RoomsByMember, &key, br#"{"schema":1,"present":true}"#).await.unwrap();
    let standing = Standing { role: RoomRole::Reader, state: MemberState::Invited };
    let carol = Membership::new(id("moved"), handle("carol"), standing, "bob".parse().unwrap());
    put(&*store, Record::Membership(carol)).await.unwrap();
    let repaired = repair(&store).await.unwrap();
    let subjects = |of: &[unibus_core::domain::Subject]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(repaired.owned, [id("half")]);
    assert_eq!(subjects(&repaired.claimed), ["room.lost"]);
    assert_eq!(subjects(&repaired.released), ["room.never", "room.old"]);
    assert_eq!(repaired.never_made, [id("never")]);
    assert_eq!(repaired.silent, [id("under")], "what another room has stays its own");
    assert_eq!(repaired.indexed, 2);
    let again = repair(&store).await.unwrap();
    assert_eq!(again, Repaired { silent: vec![id("under")], ..Repaired::default() });
    let node = node(&store).await;
    give(&node, "dave", "fresh", create("room.never")).await.unwrap();
    let spent = give(&node, "dave", "never", create("room.other")).await.unwrap_err();
    assert_eq!(spent.code(), "refused", "{spent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_stands_in_nobodys_way() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let node = node(&store).await;
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let fence = WaitOut::of(Duration::ZERO, pace.clone());
    let by: unibus_core::domain::Author = "root@homer".parse().unwrap();
    // As long as any of these commands takes, and longer.
    let grace = Duration::from_secs(2);
    let repairs = Repair { store: store.clone(), fence: &fence, pace, by, grace };
    let working = async {
        for n in 0..20 {
            let room = format!("r{n}");
            give(&node, "alice", &room, create(&format!("room.{room}"))).await.unwrap();
            give(&node, "alice", &room, invite("bob")).await.unwrap();
            let moved = Command::ChangeRoom(Some(format!("rpc.{room}").parse().unwrap()), None, None);
            give(&node, "alice", &room, moved).await.unwrap();
            give(&node, "alice", &room, Command::Remove(handle("bob"))).await.unwrap();
        }
    };
    let mending = async {
        for _ in 0..4 {
            let repaired = repairs.run().await.unwrap();
            assert!(repaired.never_made.is_empty() && repaired.silent.is_empty(), "{repaired:?}");
        }
    };
    futures::join!(working, mending);
    assert_eq!(repair(&store).await.unwrap(), Repaired::default());
}

#[tokio::test]
async fn a_node_that_starts_puts_the_index_right_and_nothing_else() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    // As a copy looks that has come as far as its rooms: one without members, and a claim without a room.
    let subject: unibus_core::domain::Subject = "room.half".parse().unwrap();
    let claims = Claims::none(Space::Room).claim(&subject, &id("half")).unwrap();
    put(&*store, Record::Claims(claims.claim(&"room.never".parse().unwrap(), &id("never")).unwrap())).await.unwrap();
    let half = Room::new(id("half"), subject, Policy::CONVERSATION, "alice".parse().unwrap());
    put(&*store, Record::Room(half)).await.unwrap();
    let standing = Standing { role: RoomRole::Reader, state: MemberState::Invited };
    let carol = Membership::new(id("hall"), handle("carol"), standing, "bob".parse().unwrap());
    put(&*store, Record::Membership(carol)).await.unwrap();
    let gate = Gate::new(BusAuth::Enforce, std::time::Instant::now());
    gate.replace_view(load(&*store).await.unwrap());
    assert_eq!(derived::once(&gate, &*store).await.unwrap(), 0, "a copy that is not done is left alone");
    store.append(br#"{"schema":1,"records":[]}"#).await.unwrap();
    assert_eq!(derived::once(&gate, &*store).await.unwrap(), 1);
    assert_eq!(derived::once(&gate, &*store).await.unwrap(), 0);
    let after = load(&*store).await.unwrap();
    assert!(after.all_memberships().all(|m| m.room != id("half")), "the room is given to nobody");
    assert!(after.room(&id("never")).is_none(), "its id is not spent");
}

/// A fence behind which the messages of a room are kept for as long as they are said to be.
#[derive(Debug, Default)]
struct Overheard {
    kept: std::sync::atomic::AtomicBool,
}

impl Fence for Overheard {
    fn wait_for_revocation<'a>(&'a self, _: &'a [Revoked]) -> futures::future::BoxFuture<'a, RevocationOutcome> {
        Box::pin(std::future::ready(RevocationOutcome::WaitedOut))
    }

    fn release_subject<'a>(
        &'a self,
        _: &'a RoomId,
        _: &'a unibus_core::domain::Subject,
    ) -> futures::future::BoxFuture<'a, bool> {
        Box::pin(std::future::ready(!self.kept.load(Ordering::Relaxed)))
    }
}

#[tokio::test]
async fn a_subject_is_not_free_while_what_is_said_there_is_kept_for_another_room() {
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    kitchen(&*store).await.unwrap();
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let state = Watched::follow(&store, &pace);
    state.ready().await.unwrap();
    let fence = Arc::new(Overheard { kept: true.into() });
    let node = Commands::new(store.clone(), state, fence.clone(), pace.clone(), Patience::default());
    let removed = node.run(&order("alice", "kitchen", Command::RemoveRoom)).await.unwrap();
    assert_eq!((removed.changed, &removed.unfinished[..]), (true, &[Unfinished::Claim][..]));
    let taken = node.run(&order("bob", "bobs", create("room.kitchen"))).await;
    assert!(matches!(taken, Err(CommandError::Refused(unibus_core::domain::Refusal::Claim(_)))), "{taken:?}");

    let mend = || async {
        let by = "root@magnus".parse().unwrap();
        let repair = Repair { store: store.clone(), fence: &*fence, pace: pace.clone(), by, grace: Duration::ZERO };
        repair.run().await.unwrap().released
    };
    assert!(mend().await.is_empty(), "a repair asks, too");
    fence.kept.store(false, Ordering::Relaxed);
    assert_eq!(mend().await.iter().map(ToString::to_string).collect::<Vec<_>>(), ["room.kitchen"]);
    assert!(node.run(&order("bob", "bobs", create("room.kitchen"))).await.is_ok());
}
