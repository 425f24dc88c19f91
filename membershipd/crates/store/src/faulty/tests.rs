//! The faults are what they say, and the run through all of them leaves none out.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::scratch::Dir;
use crate::{SqliteStore, Standing};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new store in `dir`.
async fn fresh(dir: &Dir) -> Arc<dyn Store> {
    let path = dir.path().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    Arc::new(SqliteStore::open(&path, Arc::new(|| 0)).unwrap())
}

fn key(key: &str) -> Key {
    key.parse().unwrap()
}

const ROOMS: Records = Records::Rooms;

async fn prepared(dir: &Dir, plan: (usize, Fault)) -> FaultyStore {
    let store = FaultyStore::new(fresh(dir).await);
    let first = store.create(ROOMS, &key("r.a"), b"1").await.unwrap();
    store.create(ROOMS, &key("r.b"), b"1").await.unwrap();
    store.update(ROOMS, &key("r.a"), b"2", first).await.unwrap();
    store.arm(Some(plan));
    store
}

async fn told(store: &dyn Store) -> Vec<String> {
    let events = store.watch(ROOMS, Position(0)).await.unwrap().take(3).collect::<Vec<_>>().await;
    let word = |event: Result<Event, _>| match event {
        Ok(Event::Changed(new)) => format!("{}={}", new.key, String::from_utf8_lossy(&new.entry.value)),
        Ok(Event::CaughtUp) => "caught up".to_owned(),
        Err(_) => "broken".to_owned(),
    };
    events.into_iter().map(word).collect()
}

#[tokio::test]
async fn each_fault_of_a_write_is_what_it_says() {
    let dir = Dir::new();
    for (fault, unknown, at_once, later) in [
        (Fault::Error, false, false, false),
        (Fault::Timeout, true, false, false),
        (Fault::LostAnswer, true, true, true),
        (Fault::Late, true, false, true),
    ] {
        let store = prepared(&dir, (0, fault)).await;
        let error = store.create(ROOMS, &key("new"), b"1").await.unwrap_err();
        assert_eq!(matches!(error, StoreError::Unknown { .. }), unknown, "{fault:?}: {error}");
        assert_eq!(matches!(error, StoreError::Unavailable { .. }), !unknown, "{fault:?}: {error}");
        let there = async |store: &Arc<dyn Store>| store.get(ROOMS, &key("new")).await.unwrap().is_some();
        assert_eq!(there(&store.inner).await, at_once, "{fault:?}");
        assert_eq!(there(&store.truth().await).await, later, "{fault:?}");
    }
}

#[tokio::test]
async fn what_lands_late_still_has_to_find_what_it_expected() {
    let dir = Dir::new();
    let store = prepared(&dir, (0, Fault::Late)).await;
    store.insert_nonce(&key("n")).await.unwrap_err();
    assert_eq!(store.insert_nonce(&key("n")).await.unwrap(), Nonce::Replayed, "our own, from before");
    let store = prepared(&dir, (0, Fault::Late)).await;
    store.create(ROOMS, &key("new"), b"late").await.unwrap_err();
    let conflict = store.create(ROOMS, &key("new"), b"again").await.unwrap_err();
    assert!(matches!(conflict, StoreError::Conflict { current: Standing::At(_), .. }), "{conflict}");
}

#[tokio::test]
async fn stale_reads_show_what_was_before_the_last_change() {
    let dir = Dir::new();
    let store = prepared(&dir, (0, Fault::Stale)).await;
    assert_eq!(store.get(ROOMS, &key("r.a")).await.unwrap().unwrap().value, "1");
    assert_eq!(store.get(ROOMS, &key("r.a")).await.unwrap().unwrap().value, "2", "once");
    let store = prepared(&dir, (0, Fault::Stale)).await;
    assert_eq!(store.get(ROOMS, &key("r.b")).await.unwrap(), None, "it was only made");
    let store = prepared(&dir, (0, Fault::Stale)).await;
    let page = store.scan(ROOMS, &"r".parse().unwrap(), Position(0), PageSize::of(9)).await.unwrap();
    let shown: Vec<_> = page.items.iter().map(|item| (item.key.as_str(), item.entry.revision.get())).collect();
    assert_eq!(shown, [("r.a", 1)]);
    let store = prepared(&dir, (0, Fault::Stale)).await;
    assert_eq!(told(&store).await, ["r.b=1", "caught up", "r.a=2"]);
    assert_eq!(told(&store).await, ["r.b=1", "r.a=2", "caught up"], "once");
    let store = prepared(&dir, (0, Fault::Timeout)).await;
    assert_eq!(told(&store).await, ["broken"]);
}

/// Every kind of call once; whatever goes wrong, it goes on.
async fn everything(store: Arc<FaultyStore>) -> Result<(), String> {
    let (a, prefix) = (key("r.a"), "r".parse().unwrap());
    let first = Revision::new(1).unwrap();
    let _ = store.get(ROOMS, &a).await;
    let _ = store.create(ROOMS, &key("c"), b"1").await;
    let _ = store.update(ROOMS, &a, b"3", first).await;
    let _ = store.scan(ROOMS, &prefix, Position(0), PageSize::of(9)).await;
    let _ = store.watch(ROOMS, Position(0)).await;
    let _ = store.append(b"record").await;
    let _ = store.audit(Position(0), PageSize::of(9)).await;
    let _ = store.insert_nonce(&key("n")).await;
    Ok(())
}

#[tokio::test]
async fn every_call_fails_in_every_way_in_which_it_can() {
    let dir = Dir::new();
    let prepare = async |store: &dyn Store| store.create(ROOMS, &key("r.a"), b"1").await.map(drop);
    let coverage = under_every_fault(async || fresh(&dir).await, prepare, everything).await.unwrap();
    let verbs: Vec<_> = coverage.calls.iter().map(|call| call.verb).collect();
    assert_eq!(verbs, [READ, CREATE, UPDATE, SCAN, WATCH, APPEND, READ, INSERT]);
    let (read, write) = (vec![Fault::Error, Fault::Stale], Fault::ALL[..4].to_vec());
    let watch = vec![Fault::Error, Fault::Timeout, Fault::Stale];
    let faults = [read.clone(), write.clone(), write.clone(), read.clone(), watch, write.clone(), read, write];
    let expected: Vec<_> =
        faults.iter().enumerate().flat_map(|(n, of)| of.iter().map(move |fault| (n, *fault))).collect();
    assert_eq!(coverage.runs, expected);
}

#[tokio::test]
async fn a_scenario_that_trusts_too_much_is_caught_by_name() {
    let dir = Dir::new();
    let prepare = async |_: &dyn Store| Ok(());
    // It takes every error for 'not done', as a naive caller would.
    let naive = async |store: Arc<FaultyStore>| {
        let done = store.create(ROOMS, &key("a"), b"1").await.is_ok();
        let there = store.truth().await.get(ROOMS, &key("a")).await.unwrap().is_some();
        if done == there { Ok(()) } else { Err(format!("said {done}, but it is {there}")) }
    };
    let error = under_every_fault(async || fresh(&dir).await, prepare, naive).await.unwrap_err();
    assert_eq!(error, "LostAnswer at call 0 (create a of UNIBUS_rooms): said false, but it is true");
    let calls = AtomicU32::new(0);
    let fickle = async |store: Arc<FaultyStore>| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            let _ = store.get(ROOMS, &key("a")).await;
        }
        Ok(())
    };
    let error = under_every_fault(async || fresh(&dir).await, prepare, fickle).await.unwrap_err();
    assert!(error.contains("was not reached"), "{error}");
}
