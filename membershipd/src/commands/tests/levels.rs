//! The feature level raised: by which nodes, once, and waited for each time.

use std::time::Instant;

use super::*;
use crate::fence::{Ledger, Process};
use crate::level::{LevelError, RaiseLevel, Raised};
use unibus_core::bus::Bucket;
use unibus_core::domain::{ClaimError, Claims, ClaimsKey, FeatureLevel, Refusal, RoomState, Space, Subject};
use unibus_core::view::{Heartbeat, View};
use unibus_store::faulty::{Fault, FaultyStore};
use unibus_store::{PageSize, Position};

/// Raises the level on `node` of a cluster of two nodes, where the other one can do `other`.
async fn raise(node: &Commands, other: u32) -> Result<Raised, LevelError> {
    node.raise_level(&raising(other)).await
}

fn raising(other: u32) -> RaiseLevel {
    let of = |name: &str| Process { node: name.to_owned(), boot: name.to_owned() };
    let ledger = Arc::new(Ledger::new(of("magnus")));
    for (name, level) in [("magnus", FeatureLevel::highest().number()), ("homer", other)] {
        let heartbeat = Heartbeat { boot: name.to_owned(), round: 1, alone: true, level };
        ledger.heard(Bucket::Rooms, name, &heartbeat, Instant::now());
    }
    RaiseLevel { by: "root@magnus".parse().unwrap(), ledger, nodes: 2 }
}

async fn level(store: &Arc<dyn Store>) -> (FeatureLevel, Option<u64>) {
    let view = load(&**store).await.unwrap();
    (view.level(), view.revision(&RecordKey::Level))
}

#[tokio::test]
async fn the_level_is_raised_once_every_node_can_and_waited_for_each_time() {
    FeatureLevel::Kept.assume_highest();
    let scratch = Scratch::new();
    let (store, node) = (scratch.store(), node(&scratch.store()).await);
    let error = raise(&node, 1).await.unwrap_err();
    assert!(error.to_string().contains("homer can do level 1 at most"), "{error}");
    assert_eq!(level(&store).await, (FeatureLevel::Captured, None), "nothing was written");

    let raised = raise(&node, 2).await.unwrap();
    assert!(raised.changed && raised.fence.is_some(), "{raised:?}");
    let (is, first) = level(&store).await;
    assert_eq!((is, raised.level), (FeatureLevel::Kept, FeatureLevel::Kept));
    let audit = store.audit(Position::default(), PageSize::of(100)).await.unwrap().items;
    let audit: Vec<_> = audit.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect();
    assert_eq!(audit.len(), 4, "{audit:?}");
    for (action, entries) in ["level.copy-claims", "level.raise"].into_iter().zip(audit.chunks(2)) {
        assert!(entries.iter().all(|entry| entry.contains(action)), "{action}: {audit:?}");
    }

    // A run that died between its write and its fence is completed by the next one, also while a node is down.
    let again = raise(&node, 1).await.unwrap();
    assert!(!again.changed && again.fence.is_some(), "{again:?}");
    assert!(level(&store).await.1 > first, "written again, so that every node has to apply it");
}

#[tokio::test]
async fn a_release_whose_highest_level_is_the_lowest_writes_nothing() {
    FeatureLevel::Captured.assume_highest();
    let scratch = Scratch::new();
    let (store, node) = (scratch.store(), node(&scratch.store()).await);
    let raised = raise(&node, 2).await.unwrap();
    assert!(!raised.changed && raised.fence.is_none(), "{raised:?}");
    assert_eq!(level(&store).await, (FeatureLevel::Captured, None), "older releases go on");
}

/// All rooms have the subject that their records name, and no two rooms have overlapping ones.
fn is_whole(view: &View) -> Result<(), String> {
    for room in view.rooms().filter(|room| room.state == RoomState::Active) {
        if view.holder(&room.subject) != Some(&room.id) {
            return Err(format!("'{}' has not its subject at level {}", room.id, view.level()));
        }
    }
    let held: Vec<_> = view.all_claims().flat_map(Claims::iter).collect();
    let clash = |(subject, room): &(&Subject, &RoomId)| {
        held.iter().any(|(other, holder)| holder != room && other.overlaps(subject))
    };
    held.iter().find(|claim| clash(claim)).map_or(Ok(()), |(subject, _)| Err(format!("'{subject}' is claimed twice")))
}

#[tokio::test]
async fn raising_the_level_takes_the_claims_of_all_rooms_along() {
    FeatureLevel::Kept.assume_highest();
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let node = node(&store).await;
    for (room, subject) in [("cellar", "room.cellar"), ("corner", "room.kitchen.corner"), ("clock", "rpc.cellar")] {
        give(&node, "alice", room, create(subject)).await.unwrap();
    }
    raise(&node, 2).await.unwrap();
    let view = load(&*store).await.unwrap();
    is_whole(&view).unwrap();
    for space in Space::ALL {
        let old = view.claims(&space.into()).unwrap();
        assert!(old.is_frozen() && old.iter().next().is_none(), "{old:?}");
    }
    // Everything about subjects goes on, in small documents.
    let refused = give(&node, "bob", "kitchen", create("room.kitchen")).await.unwrap_err();
    assert!(matches!(refused, CommandError::Refused(Refusal::Claim(ClaimError::Overlap { .. }))), "{refused}");
    give(&node, "bob", "kitchen", create("room.kitchen.table")).await.unwrap();
    give(&node, "alice", "cellar", Command::ChangeRoom(Some("room.attic".parse().unwrap()), None, None)).await.unwrap();
    give(&node, "bob", "vault", create("room.cellar.vault")).await.unwrap();
    give(&node, "alice", "corner", Command::RemoveRoom).await.unwrap();
    let view = load(&*store).await.unwrap();
    is_whole(&view).unwrap();
    assert_eq!(view.all_claims().map(|claims| claims.iter().count()).sum::<usize>(), 4);
    assert_eq!(repair(&store).await.unwrap(), Repaired::default());
}

#[tokio::test]
async fn claims_on_their_way_change_no_more_until_the_level_is_raised() {
    FeatureLevel::Kept.assume_highest();
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let node = node(&store).await;
    give(&node, "alice", "cellar", create("room.cellar")).await.unwrap();
    claims_move::copy(&*store).await.unwrap();
    let refused = give(&node, "bob", "attic", create("room.attic")).await.unwrap_err();
    assert_eq!(refused, CommandError::Refused(Refusal::Claim(ClaimError::Frozen)));
    let removed = give(&node, "alice", "cellar", Command::RemoveRoom).await.unwrap();
    assert_eq!(
        removed.unfinished,
        [Unfinished::Claim],
        "the next room with the subject would have it in one shape alone"
    );
    assert!(repair(&store).await.is_err(), "a repair changes no claim either");
    raise(&node, 2).await.unwrap();
    assert_eq!(repair(&store).await.unwrap().released.len(), 1);
    give(&node, "bob", "attic", create("room.attic")).await.unwrap();
    give(&node, "bob", "cave", create("room.cellar")).await.unwrap();
    is_whole(&load(&*store).await.unwrap()).unwrap();
}

#[tokio::test]
async fn a_level_that_was_raised_without_its_claims_is_not_written() {
    FeatureLevel::Kept.assume_highest();
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let node = node(&store).await;
    give(&node, "alice", "cellar", create("room.cellar")).await.unwrap();
    let moved = || async { claims_move::are_moved(&load(&*store).await.unwrap()) };
    assert!(!moved().await, "nothing is frozen");
    claims_move::copy(&*store).await.unwrap();
    assert!(moved().await);
    let key = keys::key(&RecordKey::Claims("room.cellar".parse().unwrap())).unwrap();
    let there = store.get(unibus_store::Records::Rooms, &key).await.unwrap().unwrap();
    let emptied = keys::encode(&Record::Claims(Claims::none("room.cellar".parse::<ClaimsKey>().unwrap()))).unwrap();
    store.update(unibus_store::Records::Rooms, &key, &emptied, there.revision).await.unwrap();
    assert!(!moved().await, "a claim is missing");
    let node = self::node(&store).await;
    let error = node.carry_out(&raising(2)).await.unwrap_err();
    assert!(matches!(error, LevelError::NotCopied), "{error}");
    raise(&node, 2).await.unwrap();
    is_whole(&load(&*store).await.unwrap()).unwrap();
}

#[tokio::test]
async fn a_raise_that_fails_or_loses_an_answer_anywhere_is_completed_by_the_next_one() {
    FeatureLevel::Kept.assume_highest();
    let mut number = 0;
    loop {
        let mut fired = false;
        for fault in Fault::ALL {
            let scratch = Scratch::new();
            people(&*scratch.store()).await.unwrap();
            for (room, subject) in [("cellar", "room.cellar"), ("clock", "rpc.cellar")] {
                give(&*node(&scratch.store()).await, "alice", room, create(subject)).await.unwrap();
            }
            let faulty = Arc::new(FaultyStore::new(scratch.store()));
            let store: Arc<dyn Store> = faulty.clone();
            let broken = node(&store).await;
            faulty.arm(Some((number, fault)));
            let said = raise(&broken, 2).await;
            fired |= faulty.fired();
            drop(broken);
            let view = load(&*faulty.truth().await).await.unwrap();
            is_whole(&view).unwrap_or_else(|error| panic!("{fault:?} at {number}: {error}"));
            assert!(said.is_err() || view.level() == FeatureLevel::Kept, "{fault:?} at {number}: {said:?}");
            let node = node(&scratch.store()).await;
            raise(&node, 2).await.unwrap();
            give(&node, "bob", "attic", create("room.attic")).await.unwrap();
            let refused = give(&node, "bob", "under", create("room.cellar.under")).await.unwrap_err();
            assert_eq!(refused.code(), "refused", "{fault:?} at {number}: {refused}");
            is_whole(&load(&*scratch.store()).await.unwrap()).unwrap();
        }
        if !fired {
            break;
        }
        number += 1;
    }
    assert!(number > 12, "only {number} calls were broken");
}

#[tokio::test]
async fn rooms_made_while_the_level_is_raised_have_their_subjects_and_nobody_has_one_twice() {
    FeatureLevel::Kept.assume_highest();
    let scratch = Scratch::new();
    let store = scratch.store();
    people(&*store).await.unwrap();
    let (first, second) = (node(&store).await, node(&store).await);
    let make = |node: Arc<Commands>, who: &'static str| async move {
        let mut made = Vec::new();
        for n in 0..40 {
            // Both want the same forty subjects.
            match give(&node, who, &format!("{who}-{n}"), create(&format!("room.s{n}"))).await {
                Ok(_) => made.push(n),
                Err(CommandError::Refused(Refusal::Claim(_)) | CommandError::Contended(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        made
    };
    let raised = async {
        while load(&*store).await.unwrap().rooms().count() < 8 {
            tokio::task::yield_now().await;
        }
        raise(&first, 2).await.unwrap()
    };
    let (alices, bobs, _) = futures::join!(make(first.clone(), "alice"), make(second.clone(), "bob"), raised);
    let view = load(&*store).await.unwrap();
    is_whole(&view).unwrap();
    assert!(alices.iter().all(|n| !bobs.contains(n)) && alices.len() + bobs.len() >= 8, "{alices:?} {bobs:?}");
    assert_eq!(view.rooms().count(), alices.len() + bobs.len());
}
