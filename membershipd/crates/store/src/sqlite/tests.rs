//! What only the file can show: its privacy, its lock, its version, and how its errors are told apart.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use super::open::SCHEMA_VERSION;
use super::worker::carry_out;
use super::*;
use crate::error::Standing;
use crate::scratch::Dir;
use unibus_core::private_file::{self, PrivateFileError};

fn db(dir: &Dir) -> PathBuf {
    dir.path().join("store.db")
}

fn clock() -> Clock {
    Arc::new(|| 0)
}

fn key(key: &str) -> Key {
    key.parse().unwrap()
}

fn refusal(dir: &Dir) -> OpenError {
    SqliteStore::open(&db(dir), clock()).expect_err("it was opened")
}

/// The file without the store around it, as a newer or foreign program sees it.
fn raw(dir: &Dir) -> Connection {
    Connection::open(db(dir)).unwrap()
}

#[tokio::test]
async fn every_file_is_private_from_the_first_byte_and_stays_so() {
    let dir = Dir::new();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    store.create(Records::Users, &key("a"), b"1").await.unwrap();
    let mut names = Vec::new();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["store.db", "store.db-shm", "store.db-wal", "store.db.lock"]);
    drop(store);
    fs::set_permissions(db(&dir), Permissions::from_mode(0o640)).unwrap();
    let error = refusal(&dir);
    assert!(matches!(error, OpenError::Private(PrivateFileError::Exposed { mode: 0o640, .. })), "{error}");
}

#[tokio::test]
async fn a_second_opening_is_refused_until_the_first_is_over() {
    let dir = Dir::new();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    let error = refusal(&dir);
    assert!(matches!(error, OpenError::InUse(_)) && error.to_string().contains("remedy"), "{error}");
    let mut events = store.watch(Records::Users, Position(0)).await.unwrap();
    drop(store);
    let _again = SqliteStore::open(&db(&dir), clock()).expect("at once");
    assert_eq!(events.next().await.unwrap(), Ok(Event::CaughtUp), "it knew of that already");
    let last = events.next().await.unwrap();
    assert!(matches!(last, Err(StoreError::Unavailable { .. })), "a watch ends with its store: {last:?}");
    assert!(events.next().await.is_none());
}

#[test]
fn newer_foreign_and_torn_stores_are_refused_untouched() {
    let dir = Dir::new();
    drop(SqliteStore::open(&db(&dir), clock()).unwrap());
    raw(&dir).pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    let before = fs::read(db(&dir)).unwrap();
    let error = refusal(&dir);
    assert!(matches!(error, OpenError::Newer { found, .. } if found == SCHEMA_VERSION + 1), "{error}");
    assert_eq!(fs::read(db(&dir)).unwrap(), before);

    raw(&dir).pragma_update(None, "application_id", 7).unwrap();
    assert!(matches!(refusal(&dir), OpenError::Foreign(_)));
    fs::write(db(&dir), b"no database, but long enough to have a header".repeat(100)).unwrap();
    assert!(matches!(refusal(&dir), OpenError::Sqlite { doing: "cannot read", .. }));

    fs::remove_file(db(&dir)).unwrap();
    private_file::create(&dir.path().join("store.db-wal"), b"left").unwrap();
    let error = refusal(&dir);
    assert!(matches!(&error, OpenError::Orphaned { log } if log.ends_with("store.db-wal")), "{error}");
    assert!(!db(&dir).exists());
}

#[tokio::test]
async fn a_file_from_before_messages_is_taken_as_it_is() {
    let dir = Dir::new();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    store.create(Records::Users, &key("a"), b"1").await.unwrap();
    drop(store);
    raw(&dir).execute_batch("DROP TABLE history; PRAGMA user_version = 1").unwrap();
    for _ in 0..2 {
        let store = SqliteStore::open(&db(&dir), clock()).unwrap();
        assert_eq!(store.get(Records::Users, &key("a")).await.unwrap().unwrap().value, "1");
        assert!(store.rooms_with_messages().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_full_disk_changes_nothing_and_reading_goes_on() {
    let dir = Dir::new();
    let store = SqliteStore::open_within(&db(&dir), clock(), 40).unwrap();
    store.create(Records::Users, &key("small"), b"1").await.unwrap();
    let full = store.create(Records::Users, &key("large"), &vec![7; 256 << 10]).await.unwrap_err();
    assert!(matches!(&full, StoreError::Unavailable { why, .. } if why.contains("full")), "{full}");
    assert_eq!(store.get(Records::Users, &key("large")).await.unwrap(), None);
    assert_eq!(store.get(Records::Users, &key("small")).await.unwrap().unwrap().value, "1");
    let next = store.create(Records::Users, &key("next"), b"2").await.unwrap();
    assert_eq!(next.get(), 2, "what was not done took no revision");
}

#[tokio::test]
async fn the_oldest_records_of_a_full_audit_log_make_way() {
    let dir = Dir::new();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    for record in [&b"1"[..], b"22", b"333"] {
        store.append(record).await.unwrap();
    }
    let most = Bucket::Audit.max_bytes().unwrap();
    let nearly = format!("UPDATE sequences SET last = 4, bytes = {} WHERE bucket = 'UNIBUS_audit'", most - 1);
    raw(&dir).execute_batch(&nearly).unwrap();
    assert_eq!(store.append(b"4").await.unwrap().get(), 5, "there was room for one byte");
    let left = async || {
        let page = store.audit(Position(0), PageSize::of(9)).await.unwrap();
        page.items.into_iter().map(|entry| (entry.revision.get(), entry.value)).collect::<Vec<_>>()
    };
    assert_eq!(left().await.len(), 4);
    assert_eq!(store.append(b"55").await.unwrap().get(), 6);
    assert_eq!(store.append(b"6").await.unwrap().get(), 7);
    let kept = [(3, "333"), (5, "4"), (6, "55"), (7, "6")].map(|(sequence, record)| (sequence, record.into()));
    assert_eq!(
        left().await,
        kept,
        "two made way for two bytes, as the first had but one, and what was left over did for the next"
    );
    store.create(Records::Users, &key("a"), b"1").await.unwrap();
}

#[tokio::test]
async fn a_writer_that_another_program_locks_out_has_done_nothing() {
    let dir = Dir::new();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    let other = raw(&dir);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = store.create(Records::Users, &key("a"), b"1").await.unwrap_err();
    assert!(matches!(&busy, StoreError::Unavailable { why, .. } if why.contains("locked")), "{busy}");
    other.execute_batch("ROLLBACK").unwrap();
    store.create(Records::Users, &key("a"), b"1").await.unwrap();
}

#[test]
fn only_an_error_of_the_commit_itself_is_unknown() {
    let dir = Dir::new();
    drop(SqliteStore::open(&db(&dir), clock()).unwrap());
    let mut connection = raw(&dir);
    // A constraint that is looked at when the transaction ends, and one at once.
    let traps = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER at_commit AFTER INSERT ON entries WHEN NEW.key = 'commit' BEGIN INSERT INTO child VALUES (1); END;
        CREATE TRIGGER at_once BEFORE INSERT ON entries WHEN NEW.key = 'once' BEGIN SELECT RAISE(ABORT, 'trap'); END;";
    connection.execute_batch(traps).unwrap();
    let put = |name: &str, expected| Write::Put { bucket: Records::Users, key: key(name), value: vec![1], expected };
    let revision = Revision::new(1);

    let fates = carry_out(&mut connection, [put("a", None), put("commit", None), put("a", None)].iter());
    assert!(matches!(&fates[..2], [Err(Fate::Unknown(_)), Err(Fate::Unknown(_))]), "{fates:?}");
    assert!(matches!(&fates[2], Err(Fate::NotDone(_))), "a conflict wrote nothing, whatever it was with: {fates:?}");
    assert!(connection.is_autocommit(), "nothing is left open");

    let fates = carry_out(&mut connection, [put("a", None), put("once", None)].iter());
    assert!(fates.iter().all(|fate| matches!(fate, Err(Fate::NotDone(_)))), "{fates:?}");
    let fates = carry_out(&mut connection, [put("a", None), put("a", revision), put("a", revision)].iter());
    let second = Revision::new(2).unwrap();
    let expected =
        [Verdict::Written(revision.unwrap()), Verdict::Written(second), Verdict::Conflict(Standing::At(second))];
    assert_eq!(fates, expected.map(Ok), "changes of one commit see each other");
}

#[test]
fn the_file_itself_refuses_what_the_store_never_does() {
    let dir = Dir::new();
    drop(SqliteStore::open(&db(&dir), clock()).unwrap());
    let mut connection = raw(&dir);
    let put = Write::Put { bucket: Records::Users, key: key("a"), value: vec![1], expected: None };
    let done = carry_out(&mut connection, [put, Write::Append { record: vec![2] }].iter());
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    for forbidden in [
        "DELETE FROM entries",
        "UPDATE entries SET value = x'00'",
        "UPDATE entries SET key = 'b', revision = 9",
        "DELETE FROM sequences",
        "UPDATE sequences SET last = 0",
        "UPDATE sequences SET last = 9, bytes = 0",
        "DELETE FROM audit",
        "UPDATE audit SET record = x'00'",
    ] {
        assert!(connection.execute_batch(forbidden).is_err(), "{forbidden}");
    }
}

#[tokio::test]
async fn a_nonce_is_remembered_for_its_time_and_goes_afterwards() {
    let dir = Dir::new();
    let now = Arc::new(AtomicI64::new(1_000_000));
    let told = now.clone();
    let store = SqliteStore::open(&db(&dir), Arc::new(move || told.load(Ordering::Relaxed))).unwrap();
    let age = i64::try_from(Bucket::Nonces.max_age().as_millis()).unwrap();
    let insert = async |name: &str| store.insert_nonce(&key(name)).await.unwrap();
    assert_eq!(
        [insert("n").await, insert("n").await, insert("m").await],
        [Nonce::Fresh, Nonce::Replayed, Nonce::Fresh]
    );
    now.fetch_add(age, Ordering::Relaxed);
    assert_eq!(insert("n").await, Nonce::Replayed);
    now.fetch_add(-2 * age, Ordering::Relaxed);
    assert_eq!(insert("n").await, Nonce::Replayed, "a clock that is set back forgets nothing");
    now.fetch_add(2 * age + 1, Ordering::Relaxed);
    assert_eq!(insert("n").await, Nonce::Fresh);
    let left = |connection: &Connection| connection.query_row("SELECT count(*) FROM nonces", [], |row| row.get(0));
    let left: i64 = store.read(&Operation::on("count", Bucket::Nonces), left).await.unwrap();
    assert_eq!(left, 1, "the outdated one is gone");
}

#[tokio::test]
async fn a_store_that_was_cut_back_is_noticed_by_a_watch() {
    let dir = Dir::new();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    store.create(Records::Users, &key("a"), b"1").await.unwrap();
    drop(store);
    raw(&dir).execute_batch("DROP TRIGGER entries_stay; DELETE FROM entries").unwrap();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    let mut events = store.watch(Records::Users, Position(0)).await.unwrap();
    let said = events.next().await.unwrap();
    assert!(matches!(said, Err(StoreError::Unreadable { .. })), "{said:?}");
}

#[tokio::test]
async fn a_settled_file_has_everything_by_itself() {
    let dir = Dir::new();
    let store = SqliteStore::open(&db(&dir), clock()).unwrap();
    store.create(Records::Users, &key("a"), b"1").await.unwrap();
    store.settle().await.unwrap();
    let alone = dir.path().join("alone.db");
    private_file::create(&alone, &fs::read(db(&dir)).unwrap()).unwrap();
    let copy = SqliteStore::open(&alone, clock()).unwrap();
    assert!(copy.get(Records::Users, &key("a")).await.unwrap().is_some());
    assert_eq!(fs::metadata(dir.path().join("store.db-wal")).unwrap().len(), 0);
    copy.check().await.unwrap();
}
