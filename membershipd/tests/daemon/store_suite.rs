//! One suite over both stores, and what only one of them can show.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::Dir;
use crate::stores::cases::{self, key, next};
use crate::stores::engines::Kv;
use crate::stores::{Sqlite, Subject};
use futures::StreamExt;
use futures::future::join_all;
use unibus_core::bus::{self, Bucket};
use unibus_core::clock;
use unibus_store::link::Link;
use unibus_store::{self, Event, Nonce, PageSize, Position, Records, SqliteStore, Store, StoreError};

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::cases::$case(&mut super::Sqlite::new()).await;
            })*
        }
        mod kv {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::cases::$case(&mut super::Kv::new().await).await;
            })*
        }
    };
}

suite![
    what_was_written_is_read,
    what_is_not_as_expected_stays,
    a_beat_goes_over_whatever_is_there,
    values_of_a_type_are_json,
    too_large_is_refused_with_the_limit,
    a_scan_goes_by_whole_tokens_in_pages,
    a_watch_tells_all_in_order_and_when_it_has_caught_up,
    a_watch_misses_nothing_while_many_write,
    a_nonce_has_one_winner,
    the_audit_log_keeps_its_order,
    counters_lose_no_update,
    what_was_acknowledged_survives_a_crash,
];

/// Names the file to the process that is killed.
const VICTIM: &str = "UNIBUS_TEST_VICTIM";

/// Not a test of its own: the process that the next one kills. It says what was acknowledged.
#[tokio::test]
#[ignore = "started by sqlite_keeps_what_it_acknowledged_through_sigkill"]
async fn sqlite_victim() {
    let path = std::env::var_os(VICTIM).expect("started by the test that kills it");
    let store = SqliteStore::open(Path::new(&path), Arc::new(clock::unix_ms)).unwrap();
    for number in 0.. {
        let revision = store.create(Records::Rooms, &key(&format!("n{number}")), b"x").await.unwrap();
        println!("\nacknowledged n{number} {revision}");
    }
}

#[tokio::test]
async fn sqlite_keeps_what_it_acknowledged_through_sigkill() {
    let dir = Dir::new();
    let path = dir.path().join("store.db");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_suite::sqlite_victim", "--ignored", "--nocapture"])
        .env(VICTIM, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(victim.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    for line in said.lines() {
        let line = line.unwrap();
        if let Some(said) = line.strip_prefix("acknowledged ") {
            acknowledged.push(said.to_owned());
        }
        if acknowledged.len() == 100 {
            // Whatever it says from now on counts, too, until it is dead.
            victim.kill().unwrap();
        }
    }
    victim.wait().unwrap();
    assert!(acknowledged.len() >= 100, "{acknowledged:?}");
    let store = SqliteStore::open(&path, Arc::new(clock::unix_ms)).unwrap();
    for said in acknowledged {
        let (name, revision) = said.split_once(' ').unwrap();
        let kept = store.get(Records::Rooms, &key(name)).await.unwrap();
        assert_eq!(kept.map(|entry| entry.revision.to_string()).as_deref(), Some(revision), "{name}");
    }
}

#[tokio::test]
async fn without_a_session_nothing_is_done_and_a_watch_says_that_it_ended() {
    let mut kv = Kv::new().await;
    let store = kv.store();
    let mut events = store.watch(Records::Rooms, Position(0)).await.unwrap();
    assert_eq!(next(&mut events).await, Event::CaughtUp);
    kv.kill_first();
    let said = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("not silence").unwrap();
    assert!(matches!(said, Err(StoreError::Unavailable { .. })), "{said:?}");
    assert!(events.next().await.is_none());
    // The link is lost, and nobody has noticed yet: what was sent may have arrived.
    let begun = Instant::now();
    let unknown = store.create(Records::Rooms, &key("a"), b"1").await.unwrap_err();
    assert!(matches!(unknown, StoreError::Unknown { .. }), "{unknown}");
    assert!(begun.elapsed() < bus::STORE_BUDGET, "a lost link never comes back: {:?}", begun.elapsed());
    assert!(matches!(store.get(Records::Rooms, &key("a")).await, Err(StoreError::Unavailable { .. })));
    kv.link.send_replace(None);
    let refused = store.create(Records::Rooms, &key("a"), b"1").await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    assert!(matches!(store.insert_nonce(&key("n")).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.log_nonce("a", &key("n")).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn what_no_membershipd_writes_is_not_taken_for_an_entry() {
    let kv = Kv::new().await;
    let (store, link) = (kv.store(), kv.current());
    store.create(Records::Rooms, &key("a"), b"1").await.unwrap();
    // As other clients delete.
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("KV-Operation", "DEL");
    let subject = format!("{}a", Bucket::Rooms.key_prefix());
    link.jetstream.publish_with_headers(subject, headers, "".into()).await.unwrap().await.unwrap();
    let unreadable = store.get(Records::Rooms, &key("a")).await.unwrap_err();
    assert!(matches!(unreadable, StoreError::Unreadable { .. }), "{unreadable}");
    let mut events = store.watch(Records::Rooms, Position(0)).await.unwrap();
    assert!(matches!(events.next().await, Some(Err(StoreError::Unreadable { .. }))));
    let conflict = store.create(Records::Rooms, &key("a"), b"2").await.unwrap_err();
    assert!(matches!(conflict, StoreError::Conflict { .. }), "the mark is in the way, too: {conflict}");
}

/// Freezes the engine for long enough that the first attempt at `write` is given up, while it is still to be carried out.
async fn while_the_first_acknowledgement_is_lost<T: Send + 'static>(
    kv: &Kv,
    write: impl Future<Output = T> + Send + 'static,
    meanwhile: impl Future,
) -> T {
    kv.freeze();
    let writing = tokio::spawn(write);
    tokio::time::sleep(bus::ATTEMPT / 4).await;
    // It is not answered either.
    let lost = tokio::time::sleep(bus::ATTEMPT);
    let (_, ()) = futures::join!(tokio::time::timeout(bus::ATTEMPT, meanwhile), lost);
    kv.thaw();
    writing.await.unwrap()
}

/// Sends what another client of the bucket would, if its entry is at `expected`.
async fn by_somebody_else(link: &Link, key: &str, value: &'static str, expected: u64) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
    let subject = format!("{}{key}", Bucket::Rooms.key_prefix());
    link.control.publish_with_headers(subject, headers, value.into()).await.unwrap();
}

#[tokio::test]
async fn a_lost_acknowledgement_is_found_again() {
    let kv = Kv::new().await;
    let (store, link) = (kv.store(), kv.current());
    let of = store.clone();
    let create = async move { of.create(Records::Rooms, &key("a"), b"same").await };
    let revision = while_the_first_acknowledgement_is_lost(&kv, create, async {}).await.unwrap();
    assert_eq!(store.get(Records::Rooms, &key("a")).await.unwrap().unwrap().revision, revision);
    let of = store.clone();
    let insert = async move { of.insert_nonce(&key("n")).await };
    assert_eq!(while_the_first_acknowledgement_is_lost(&kv, insert, async {}).await.unwrap(), Nonce::Fresh);
    let log = kv.another(Duration::ZERO);
    assert_eq!(log.log_nonce("a", &key("before")).await.unwrap(), Nonce::Fresh);
    let note = async move { log.log_nonce("a", &key("m")).await };
    assert_eq!(while_the_first_acknowledgement_is_lost(&kv, note, async {}).await.unwrap(), Nonce::Fresh);
    let of = store.clone();
    let append = async move { of.append(b"once").await };
    let sequence = while_the_first_acknowledgement_is_lost(&kv, append, async {}).await.unwrap();
    let log = store.audit(Position(0), PageSize::of(9)).await.unwrap().items;
    assert_eq!(log.iter().map(|entry| entry.revision).collect::<Vec<_>>(), [sequence], "not twice");

    // Somebody else writes the same bytes first: that is not our write.
    let of = store.clone();
    let create = async move {
        tokio::time::sleep(bus::ATTEMPT / 2).await;
        of.create(Records::Rooms, &key("b"), b"same").await
    };
    let first = by_somebody_else(&link, "b", "same", 0);
    let lost = while_the_first_acknowledgement_is_lost(&kv, create, first).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })), "{lost:?}");

    // Somebody else replaces what we wrote, before we know of it: of a lone copy nobody can say any more what it was that was
    // replaced.
    let before = store.create(Records::Rooms, &key("c"), b"0").await.unwrap();
    let of = store.clone();
    let update = async move { of.update(Records::Rooms, &key("c"), b"ours", before).await };
    let over = by_somebody_else(&link, "c", "theirs", before.get() + 1);
    let buried = while_the_first_acknowledgement_is_lost(&kv, update, over).await;
    assert!(matches!(buried, Err(StoreError::Unknown { .. })), "{buried:?}");
    assert_eq!(
        store.get(Records::Rooms, &key("c")).await.unwrap().unwrap().value,
        "theirs",
        "it was ours that it replaced"
    );
}

#[tokio::test]
async fn a_watch_that_lost_an_entry_says_so() {
    let kv = Kv::new().await;
    let mut events = kv.store().watch(Records::Rooms, Position(0)).await.unwrap();
    assert_eq!(next(&mut events).await, Event::CaughtUp);
    let stream = kv.current().jetstream.get_stream(Bucket::Rooms.stream()).await.unwrap();
    let inbox = stream.consumers().next().await.unwrap().unwrap().config.deliver_subject.unwrap();
    // What the engine says when it is idle, after it has sent one entry: here it never came.
    let head = "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n";
    kv.say(&format!("HPUB {inbox} {} {}\r\n{head}\r\n", head.len(), head.len()));
    let said = tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("not silence").unwrap();
    assert!(matches!(&said, Err(StoreError::Unavailable { why, .. }) if why.contains("lost")), "{said:?}");
}

#[tokio::test]
async fn a_watch_of_much_is_told_all_of_it() {
    // Many times what the engine sends before it asks whether that has come.
    const ENTRIES: usize = 120;
    let kv = Kv::new().await;
    let store = kv.store();
    let value = vec![b'x'; 1 << 19];
    for number in 0..ENTRIES {
        store.create(Records::Rooms, &key(&format!("k{number}")), &value).await.unwrap();
    }
    let mut events = store.watch(Records::Rooms, Position(0)).await.unwrap();
    let mut told = 0;
    while let Event::Changed(new) = next(&mut events).await {
        assert_eq!((new.key.as_str(), new.entry.value.len()), (format!("k{told}").as_str(), value.len()));
        told += 1;
    }
    assert_eq!(told, ENTRIES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_no_update_while_its_leader_dies() {
    let mut kv = Kv::with(3).await;
    kv.leave_leader(Bucket::Rooms).await;
    let store = kv.store();
    let counting = tokio::spawn({
        let store = store.clone();
        async move { cases::count(&store, 4, 40).await }
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    // Well under way.
    while unibus_store::get(&kv.current(), Bucket::Rooms, "counter")
        .await
        .unwrap_or_default()
        .is_none_or(|(_, n)| n < 20)
    {
        assert!(Instant::now() < deadline, "nothing is counted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    kv.kill_leader(Bucket::Rooms).await;
    let unknown = counting.await.expect("no update was lost");
    println!("additions of unknown outcome: {unknown}");
    assert_eq!(store.insert_nonce(&key("n")).await.unwrap(), Nonce::Fresh);
    assert_eq!(store.insert_nonce(&key("n")).await.unwrap(), Nonce::Replayed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_two_processes_have_lets_a_nonce_count_once() {
    const NONCES: usize = 200;
    let kv = Kv::with(3).await;
    // Two nodes that do not know of each other, and each of them noted something already.
    let both = [(); 2].map(|()| kv.another(Duration::ZERO));
    for (of, store) in ["x", "y"].into_iter().zip(&both) {
        assert_eq!(store.log_nonce("localhost:8470", &key(of)).await.unwrap(), Nonce::Fresh);
    }
    let noting = (0..2 * NONCES).map(|number| {
        let (store, nonce) = (both[number % 2].clone(), key(&format!("n{}", number / 2)));
        tokio::spawn(async move { store.log_nonce("localhost:8470", &nonce).await.unwrap() })
    });
    let outcomes: Vec<Nonce> = join_all(noting).await.into_iter().map(Result::unwrap).collect();
    for (number, pair) in outcomes.chunks(2).enumerate() {
        assert_eq!(pair.iter().filter(|outcome| **outcome == Nonce::Fresh).count(), 1, "n{number}: {pair:?}");
    }
    // A later life of one of them, and the same authority at another node.
    let later = kv.another(Duration::ZERO);
    for number in 0..NONCES {
        let again = later.log_nonce("localhost:8470", &key(&format!("n{number}"))).await.unwrap();
        assert_eq!(again, Nonce::Replayed, "n{number}");
    }
    assert_eq!(later.log_nonce("magnus:8470", &key("n0")).await.unwrap(), Nonce::Fresh, "signed for another");
}

#[tokio::test]
async fn what_was_noted_as_an_entry_does_not_count_in_the_log() {
    let kv = Kv::new().await;
    let store = kv.store();
    assert_eq!(store.insert_nonce(&key("f00d.a")).await.unwrap(), Nonce::Fresh);
    // While other nodes may still note entries alone, both are asked.
    let (at_first, at_once) = (kv.another(Duration::from_secs(600)), kv.another(Duration::ZERO));
    assert_eq!(at_first.log_nonce("a", &key("f00d.a")).await.unwrap(), Nonce::Replayed);
    assert_eq!(at_first.log_nonce("a", &key("f00d.b")).await.unwrap(), Nonce::Fresh);
    assert_eq!(store.insert_nonce(&key("f00d.b")).await.unwrap(), Nonce::Replayed, "it is an entry, too");
    // Later what is left of them is read once.
    assert_eq!(at_once.log_nonce("a", &key("f00d.a")).await.unwrap(), Nonce::Replayed);
    assert_eq!(at_once.log_nonce("other", &key("f00d.b")).await.unwrap(), Nonce::Replayed, "for whatever authority");
    assert_eq!(at_once.log_nonce("a", &key("f00d.c")).await.unwrap(), Nonce::Fresh);
    assert_eq!(store.insert_nonce(&key("f00d.c")).await.unwrap(), Nonce::Fresh, "it is no entry any more");
}

#[tokio::test]
async fn nothing_is_noted_beside_what_another_release_has_written() {
    let kv = Kv::new().await;
    let store = kv.another(Duration::ZERO);
    assert_eq!(store.log_nonce("a", &key("n1")).await.unwrap(), Nonce::Fresh);
    let link = kv.current();
    let noted = link.jetstream.get_stream(Bucket::NonceLog.stream()).await.unwrap();
    let lane = noted.get_last_raw_message_by_subject("unibus.nonces.>").await.unwrap().subject;
    link.jetstream.publish(lane.clone(), "\u{2} another version".into()).await.unwrap().await.unwrap();
    // Nonces of other lanes are none of its business: the same lane is met by one of a few.
    let outcomes = join_all((0..32).map(|n| {
        let store = store.clone();
        async move { store.log_nonce("a", &key(&format!("m{n}"))).await }
    }));
    let refused: Vec<StoreError> = outcomes.await.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty(), "{lane}");
    for error in &refused {
        assert!(error.to_string().contains("another release"), "{error}");
    }
}
