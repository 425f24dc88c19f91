//! What every store must do, whoever keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use tokio::time::timeout;
use unibus_core::bus;
use unibus_store::{
    Entry, Event, Events, Key, Keyed, Nonce, PageSize, Position, Prefix, Records, Revision, Standing, Store,
    StoreError, create_json, get_json, update_json,
};

use super::Subject;

/// Longest wait for an event that must come.
const SOON: Duration = Duration::from_secs(20);
const ROOMS: Records = Records::Rooms;

pub fn key(key: &str) -> Key {
    key.parse().unwrap()
}

async fn create(store: &dyn Store, name: &str, value: &str) -> Revision {
    store.create(ROOMS, &key(name), value.as_bytes()).await.unwrap()
}

/// What a watch says next, in time and without an error.
pub async fn next(events: &mut Events) -> Event {
    timeout(SOON, events.next()).await.expect("an event in time").expect("the watch goes on").expect("no error")
}

fn changed(name: &str, value: &str, revision: Revision) -> Event {
    let entry = Entry { value: value.as_bytes().to_vec().into(), revision };
    Event::Changed(Keyed { key: key(name), entry })
}

/// Whether what was not written says so, and what stood in the way.
fn conflict(result: Result<Revision, StoreError>) -> Standing {
    match result {
        Err(StoreError::Conflict { current, .. }) => current,
        other => panic!("no conflict: {other:?}"),
    }
}

pub async fn what_was_written_is_read(subject: &mut dyn Subject) {
    let store = subject.store();
    let (a, b) = (key("r.a"), key("r.b"));
    assert_eq!(store.get(ROOMS, &a).await.unwrap(), None, "nothing there yet");
    let first = create(&*store, "r.a", "1").await;
    assert_eq!(store.get(ROOMS, &a).await.unwrap(), Some(Entry { value: "1".into(), revision: first }));
    let second = store.update(ROOMS, &a, b"2", first).await.unwrap();
    assert!(second > first, "{second} after {first}");
    assert_eq!(store.get(ROOMS, &a).await.unwrap(), Some(Entry { value: "2".into(), revision: second }));
    assert_eq!(store.get(ROOMS, &b).await.unwrap(), None, "another key");
    assert_eq!(store.get(Records::Users, &a).await.unwrap(), None, "another bucket");
    let other = create(&*store, "r.b", "").await;
    assert!(other > second, "revisions are those of the bucket");
    assert_eq!(store.get(ROOMS, &b).await.unwrap().unwrap().value, "", "nothing is a value, too");
    // The same key in every bucket is another entry.
    for bucket in Records::ALL {
        let value = bucket.bucket().name();
        store.create(bucket, &key("everywhere"), value.as_bytes()).await.unwrap();
        assert_eq!(store.get(bucket, &key("everywhere")).await.unwrap().unwrap().value, value);
    }
}

pub async fn what_is_not_as_expected_stays(subject: &mut dyn Subject) {
    let store = subject.store();
    let a = key("r.a");
    let first = create(&*store, "r.a", "here").await;
    assert_eq!(conflict(store.create(ROOMS, &a, b"x").await), Standing::At(first));
    let tombstone = store.update(ROOMS, &a, b"removed", first).await.unwrap();
    assert_eq!(conflict(store.update(ROOMS, &a, b"x", first).await), Standing::At(tombstone), "a stale revision");
    assert_eq!(conflict(store.create(ROOMS, &a, b"x").await), Standing::At(tombstone), "removed is not: never was");
    // Revisions that never were: whoever asks has them from somewhere, so a store that may be behind does not know.
    let (b, ahead) = (key("r.b"), Revision::new(tombstone.get() + 100).unwrap());
    let (absent, ahead) = futures::join!(store.update(ROOMS, &b, b"x", first), store.update(ROOMS, &a, b"x", ahead));
    for never in [absent, ahead] {
        assert!(matches!(never, Err(StoreError::Conflict { .. } | StoreError::Unknown { .. })), "{never:?}");
    }
    assert_eq!(store.get(ROOMS, &a).await.unwrap(), Some(Entry { value: "removed".into(), revision: tombstone }));
    assert_eq!(store.get(ROOMS, &b).await.unwrap(), None);
}

pub async fn a_beat_goes_over_whatever_is_there(subject: &mut dyn Subject) {
    let store = subject.store();
    let of = key("heartbeat.a");
    let first = store.beat(Records::Rooms, &of, b"1").await.unwrap();
    let second = store.beat(Records::Rooms, &of, b"2").await.unwrap();
    assert!(second > first);
    let found = store.get(Records::Rooms, &of).await.unwrap().unwrap();
    assert_eq!((&found.value[..], found.revision), (&b"2"[..], second));
    let mut events = store.watch(Records::Rooms, first.into()).await.unwrap();
    assert_eq!(next(&mut events).await, changed("heartbeat.a", "2", second));
}

pub async fn values_of_a_type_are_json(subject: &mut dyn Subject) {
    let store = subject.store();
    let a = key("r.a");
    let first = create_json(&*store, ROOMS, &a, &["x", "y"]).await.unwrap();
    let read = get_json::<Vec<String>>(&*store, ROOMS, &a).await.unwrap().unwrap();
    assert_eq!((read.value, read.revision), (vec!["x".to_owned(), "y".to_owned()], first));
    update_json(&*store, ROOMS, &a, &7, first).await.unwrap();
    let error = get_json::<Vec<String>>(&*store, ROOMS, &a).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }) && error.to_string().contains("r.a"), "{error}");
    assert_eq!(get_json::<u8>(&*store, ROOMS, &key("r.b")).await.unwrap(), None);
}

pub async fn too_large_is_refused_with_the_limit(subject: &mut dyn Subject) {
    let store = subject.store();
    let largest = vec![b'x'; bus::VALUE_BYTES];
    let longest = "k".repeat(256);
    let revision = store.create(ROOMS, &key(&longest), &largest).await.unwrap();
    assert_eq!(store.get(ROOMS, &key(&longest)).await.unwrap().unwrap().value, largest);
    let too_large = vec![b'x'; bus::VALUE_BYTES + 1];
    let limit = bus::VALUE_BYTES.to_string();
    for error in [
        store.create(ROOMS, &key("r.a"), &too_large).await.unwrap_err(),
        store.update(ROOMS, &key(&longest), &too_large, revision).await.unwrap_err(),
        store.append(&too_large).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Refused { .. }) && error.to_string().contains(&limit), "{error}");
    }
    assert_eq!(store.get(ROOMS, &key("r.a")).await.unwrap(), None);
}

pub async fn a_scan_goes_by_whole_tokens_in_pages(subject: &mut dyn Subject) {
    let store = subject.store();
    let prefix: Prefix = "member".parse().unwrap();
    for other in ["member", "members.x", "membe.r", "zoo"] {
        create(&*store, other, "other").await;
    }
    let mut expected = Vec::new();
    for number in 0..25 {
        let name = format!("member.{}.u{number}", 25 - number);
        expected.push((name.clone(), create(&*store, &name, "m").await));
    }
    let pages = async |size: usize, prefix: &Prefix| {
        let (mut found, mut pages, mut after) = (Vec::new(), 0, Some(Position(0)));
        while let Some(from) = after {
            let page = store.scan(ROOMS, prefix, from, PageSize::of(size)).await.unwrap();
            assert!(page.items.len() <= size);
            pages += 1;
            found.extend(page.items.into_iter().map(|item| (item.key.to_string(), item.entry.revision)));
            after = page.next;
        }
        (found, pages)
    };
    assert_eq!(pages(10, &prefix).await, (expected.clone(), 3));
    assert_eq!(pages(25, &prefix).await, (expected.clone(), 1), "a full page that is the last says so");
    assert_eq!(pages(100, &"member.7".parse().unwrap()).await.0.len(), 1);
    assert_eq!(pages(7, &Prefix::ALL).await.0.len(), 29);
    assert_eq!(pages(7, &"nobody".parse().unwrap()).await, (Vec::new(), 1));
    // What changes between two pages is on a later one.
    let first = store.scan(ROOMS, &prefix, Position(0), PageSize::of(10)).await.unwrap();
    let (name, revision) = &expected[0];
    let again = store.update(ROOMS, &key(name), b"changed", *revision).await.unwrap();
    let rest = store.scan(ROOMS, &prefix, first.next.unwrap(), PageSize::of(100)).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (16, None));
    let last = rest.items.last().unwrap();
    assert_eq!((last.key.as_str(), last.entry.revision), (name.as_str(), again));
}

pub async fn a_watch_tells_all_in_order_and_when_it_has_caught_up(subject: &mut dyn Subject) {
    let store = subject.store();
    let mut early = store.watch(ROOMS, Position(0)).await.unwrap();
    assert_eq!(next(&mut early).await, Event::CaughtUp, "of nothing");
    let a = create(&*store, "r.a", "1").await;
    assert_eq!(next(&mut early).await, changed("r.a", "1", a));
    let b = create(&*store, "r.b", "2").await;
    let again = store.update(ROOMS, &key("r.a"), b"3", a).await.unwrap();
    let mut late = store.watch(ROOMS, Position(0)).await.unwrap();
    assert_eq!(next(&mut late).await, changed("r.b", "2", b));
    assert_eq!(next(&mut late).await, changed("r.a", "3", again));
    assert_eq!(next(&mut late).await, Event::CaughtUp);
    let mut resumed = store.watch(ROOMS, b.into()).await.unwrap();
    assert_eq!(next(&mut resumed).await, changed("r.a", "3", again));
    assert_eq!(next(&mut resumed).await, Event::CaughtUp);
    let mut current = store.watch(ROOMS, again.into()).await.unwrap();
    assert_eq!(next(&mut current).await, Event::CaughtUp);
    store.create(Records::Users, &key("elsewhere"), b"x").await.unwrap();
    let c = create(&*store, "r.c", "4").await;
    for events in [&mut late, &mut resumed, &mut current] {
        assert_eq!(next(events).await, changed("r.c", "4", c));
    }
    assert_eq!(next(&mut early).await, changed("r.b", "2", b));
    let ahead = Position(c.get() + 1);
    let error = store.watch(ROOMS, ahead).await.err().expect("a gap");
    assert_eq!(error, StoreError::Gap { operation: error_operation(&error), after: ahead, last: c.into() });
}

fn error_operation(error: &StoreError) -> unibus_store::Operation {
    match error {
        StoreError::Gap { operation, .. } => operation.clone(),
        other => panic!("no gap: {other}"),
    }
}

pub async fn a_watch_misses_nothing_while_many_write(subject: &mut dyn Subject) {
    const WRITERS: usize = 4;
    const KEYS: usize = 25;
    let store = subject.store();
    let writer = |number: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for at in 0..KEYS {
                let name = format!("w{number}.k{at}");
                let revision = create(&*store, &name, "first").await;
                store.update(ROOMS, &key(&name), b"last", revision).await.unwrap();
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    // Begun amid the writing, at different times.
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(store.watch(ROOMS, Position(0)).await.unwrap());
    }
    for mut events in watches {
        let mut last = BTreeMap::new();
        let (mut position, mut caught_up) = (0, 0);
        while caught_up == 0 || last.len() < WRITERS * KEYS || last.values().any(|value| value != "last") {
            match next(&mut events).await {
                Event::CaughtUp => caught_up += 1,
                Event::Changed(Keyed { key, entry }) => {
                    assert!(entry.revision.get() > position, "{} after {position}", entry.revision);
                    position = entry.revision.get();
                    last.insert(key, entry.value);
                }
            }
        }
        assert_eq!(caught_up, 1);
    }
    for result in join_all(writers).await {
        result.unwrap();
    }
}

pub async fn a_nonce_has_one_winner(subject: &mut dyn Subject) {
    for logged in [false, true] {
        let note = |nonce: String| {
            let (store, nonce) = (subject.store(), key(&format!("{nonce}-{logged}")));
            async move {
                let noted = if logged {
                    store.log_nonce("magnus:8470", &nonce).await
                } else {
                    store.insert_nonce(&nonce).await
                };
                noted.unwrap()
            }
        };
        for round in 0..5 {
            let outcomes = join_all((0..50).map(|_| tokio::spawn(note(format!("f00d.n{round}"))))).await;
            let fresh = outcomes.into_iter().filter(|outcome| *outcome.as_ref().unwrap() == Nonce::Fresh).count();
            assert_eq!(fresh, 1, "round {round}");
        }
        assert_eq!(note("beef.n0".to_owned()).await, Nonce::Fresh, "of another key");
        subject.crash().await;
        let store = subject.store();
        let again = key(&format!("f00d.n0-{logged}"));
        let again =
            if logged { store.log_nonce("magnus:8470", &again).await } else { store.insert_nonce(&again).await };
        assert_eq!(again.unwrap(), Nonce::Replayed, "also after a restart");
    }
}

pub async fn the_audit_log_keeps_its_order(subject: &mut dyn Subject) {
    let store = subject.store();
    let none = store.audit(Position(0), PageSize::of(5)).await.unwrap();
    assert_eq!((none.items.len(), none.next), (0, None));
    let mut expected = Vec::new();
    for number in 0..10 {
        let record = format!("record {}", number / 2);
        let sequence = store.append(record.as_bytes()).await.unwrap();
        expected.push(Entry { value: record.into(), revision: sequence });
    }
    assert!(expected.is_sorted_by_key(|entry| entry.revision), "equal records are records of their own");
    let page = store.audit(Position(0), PageSize::of(7)).await.unwrap();
    assert_eq!(page.items, expected[..7]);
    let rest = store.audit(page.next.unwrap(), PageSize::of(7)).await.unwrap();
    assert_eq!((rest.items.as_slice(), rest.next), (&expected[7..], None));
    let many = join_all((0..40).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { (store.append(format!("m{number}").as_bytes()).await.unwrap(), number) })
    }))
    .await;
    let many: BTreeMap<Revision, i32> = many.into_iter().map(Result::unwrap).collect();
    assert_eq!(many.len(), 40, "no sequence twice");
    let page = store.audit(expected[9].revision.into(), PageSize::of(100)).await.unwrap();
    let found: Vec<_> = page.items.into_iter().map(|entry| (entry.revision, entry.value)).collect();
    let said: Vec<_> = many.into_iter().map(|(sequence, number)| (sequence, format!("m{number}").into())).collect();
    assert_eq!(found, said);
}

pub async fn counters_lose_no_update(subject: &mut dyn Subject) {
    let unknown = count(&subject.store(), 16, 12).await;
    assert_eq!(unknown, 0, "all was well");
}

/// `tasks` add one `times` each, by compare-and-set; nothing is lost, nothing is counted twice. Returns how many additions
/// nobody knows of: each of them was made once or never.
pub async fn count(store: &Arc<dyn Store>, tasks: usize, times: usize) -> usize {
    let counter = key("counter");
    create_json(&**store, ROOMS, &counter, &0).await.unwrap();
    let task = |_| {
        let (store, counter) = (store.clone(), counter.clone());
        tokio::spawn(async move {
            let (mut written, mut unknown) = (Vec::new(), 0);
            while written.len() + unknown < times {
                let Ok(read) = get_json::<usize>(&*store, ROOMS, &counter).await else { continue };
                let Entry { value, revision } = read.unwrap();
                match update_json(&*store, ROOMS, &counter, &(value + 1), revision).await {
                    Ok(revision) => written.push((revision, value + 1)),
                    Err(StoreError::Unknown { .. }) => unknown += 1,
                    Err(StoreError::Conflict { .. } | StoreError::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            (written, unknown)
        })
    };
    let (mut written, mut unknown) = (BTreeMap::new(), 0);
    for task in join_all((0..tasks).map(task)).await {
        let (of_task, unknown_to_task) = task.unwrap();
        written.extend(of_task);
        unknown += unknown_to_task;
    }
    // Two that were told of the same number would have overwritten each other.
    assert!(written.values().is_sorted_by(|one, next| one < next), "{written:?}");
    assert_eq!(written.len() + unknown, tasks * times, "a revision was given twice");
    let total = get_json::<usize>(&**store, ROOMS, &counter).await.unwrap().unwrap().value;
    assert!((written.len()..=tasks * times).contains(&total), "{total}, and {} were acknowledged", written.len());
    unknown
}

pub async fn what_was_acknowledged_survives_a_crash(subject: &mut dyn Subject) {
    let store = subject.store();
    let mut written = Vec::new();
    for number in 0..20 {
        let name = format!("r.n{number}");
        written.push((name.clone(), create(&*store, &name, "kept").await));
    }
    let recorded = store.append(b"kept").await.unwrap();
    subject.crash().await;
    let store = subject.store();
    for (name, revision) in &written {
        let kept = store.get(ROOMS, &key(name)).await.unwrap();
        assert_eq!(kept, Some(Entry { value: "kept".into(), revision: *revision }), "{name}");
    }
    assert_eq!(store.audit(Position(0), PageSize::of(9)).await.unwrap().items[0].revision, recorded);
    let (_, last) = written.last().unwrap();
    let mut events = store.watch(ROOMS, written[17].1.into()).await.unwrap();
    assert_eq!(next(&mut events).await, changed("r.n18", "kept", written[18].1));
    assert_eq!(next(&mut events).await, changed("r.n19", "kept", *last));
    assert_eq!(next(&mut events).await, Event::CaughtUp);
    let after = store.update(ROOMS, &key("r.n0"), b"new", written[0].1).await.unwrap();
    assert!(after > *last, "revisions go on where they were");
    assert_eq!(next(&mut events).await, changed("r.n0", "new", after));
}
