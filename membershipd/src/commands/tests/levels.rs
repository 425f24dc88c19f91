//! The feature level raised: by which nodes, once, and waited for each time.

use std::time::Instant;

use super::*;
use crate::fence::{Ledger, Process};
use crate::level::{LevelError, RaiseLevel, Raised};
use unibus_core::bus::Bucket;
use unibus_core::domain::FeatureLevel;
use unibus_core::view::Heartbeat;
use unibus_store::{PageSize, Position};

/// Raises the level on `node` of a cluster of two nodes, where the other one can do `other`.
async fn raise(node: &Commands, other: u32) -> Result<Raised, LevelError> {
    let of = |name: &str| Process { node: name.to_owned(), boot: name.to_owned() };
    let ledger = Arc::new(Ledger::new(of("magnus")));
    for (name, level) in [("magnus", FeatureLevel::highest().number()), ("homer", other)] {
        let heartbeat = Heartbeat { boot: name.to_owned(), round: 1, alone: true, level };
        ledger.heard(Bucket::Rooms, name, &heartbeat, Instant::now());
    }
    node.raise_level(&RaiseLevel { by: "root@magnus".parse().unwrap(), ledger, nodes: 2 }).await
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
    assert!(audit.iter().all(|entry| entry.contains("level.raise")) && audit.len() == 2, "{audit:?}");

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
