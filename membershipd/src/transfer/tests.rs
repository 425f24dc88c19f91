//! Copies between files, with ends that are changed, broken off or written to by others meanwhile.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;

use super::*;
use crate::history::Readable;
use unibus_core::domain::{FeatureLevel, LevelRecord, Policy, Role, Room, RoomId, SignPub, State, User};
use unibus_core::view::{LEVEL_KEY, claim_key, heartbeat_key, room_key, user_key};
use unibus_store::{Key, Message, Position, Records, SqliteStore, Store, StoreError};

const LONG: Duration = Duration::from_secs(20);

struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("unibus-transfer-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    fn store(&self, name: &str) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.dir.join(name), Arc::new(|| 0)).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn key(name: &str) -> Key {
    name.parse().unwrap()
}

async fn add(store: &dyn Store, name: &str) {
    let pair = nkeys::KeyPair::new_user();
    let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
    let user = User { handle: name.parse().unwrap(), sign_pub, role: Role::User, state: State::Active };
    let claimed = serde_json::to_vec(&user.handle).unwrap();
    store.create(Records::Users, &key(&claim_key(&sign_pub)), &claimed).await.unwrap();
    let record = serde_json::to_vec(&user).unwrap();
    store.create(Records::Users, &key(&user_key(&user.handle)), &record).await.unwrap();
    store.append(format!("{name} was added").as_bytes()).await.unwrap();
}

async fn beat(store: &dyn Store) {
    for bucket in Records::DECIDING {
        store.beat(bucket, &key(&heartbeat_key("one")), br#"{"boot":"b","round":1}"#).await.unwrap();
    }
}

/// An end whose heart beats with every round, and which does something before each reading.
struct Beating<F> {
    store: Arc<SqliteStore>,
    before: F,
}

impl<F: Fn(Part) -> futures::future::BoxFuture<'static, ()> + Send + Sync> End for Beating<F> {
    fn read(&self, part: Part, after: Position) -> Answer<'_, Items> {
        async move {
            if part == Part::ALL[0] {
                beat(&*self.store).await;
            }
            (self.before)(part).await;
            OfStore::file(self.store.clone()).read(part, after).await
        }
        .boxed()
    }

    fn write(&self, part: Part, items: Vec<Item>) -> Answer<'_, Vec<Put>> {
        async move { OfStore::file(self.store.clone()).write(part, items).await }.boxed()
    }

    fn messages(&self) -> &dyn Messages {
        &*self.store
    }
}

fn nothing(_: Part) -> futures::future::BoxFuture<'static, ()> {
    std::future::ready(()).boxed()
}

async fn content(store: &Arc<SqliteStore>) -> Content {
    Content::of(&OfStore::file(store.clone()), true).await.unwrap()
}

#[tokio::test]
async fn what_is_changed_while_it_is_read_is_in_the_copy_as_a_whole() {
    let place = Place::new("moment");
    let store = place.store("from");
    add(&*store, "first").await;
    // The log is read last: what is written then is too late for the users of that round.
    let (writing, calls) = (store.clone(), Arc::new(AtomicUsize::new(0)));
    let before = move |part: Part| {
        let (store, calls) = (writing.clone(), calls.clone());
        async move {
            if part == Part::Audit && calls.fetch_add(1, Ordering::Relaxed) < 3 {
                add(&*store, &format!("late{}", calls.load(Ordering::Relaxed))).await;
            }
        }
        .boxed()
    };
    let from = Beating { store: store.clone(), before };
    let copied = copy_out(&from, &place.dir.join("copy"), LONG).await.unwrap();
    let copy = place.store("copy");
    assert_eq!((content(&copy).await, copied.content), (content(&store).await, content(&store).await));
    assert_eq!(content(&copy).await.counts()["UNIBUS_users"], 8, "each user with its key, and no heartbeat");
    assert_eq!(content(&copy).await.audit(), 4);
}

#[tokio::test]
async fn without_a_quiet_moment_or_a_heartbeat_there_is_no_copy() {
    let place = Place::new("busy");
    let store = place.store("from");
    add(&*store, "first").await;
    let writing = store.clone();
    let before = move |part: Part| {
        let store = writing.clone();
        async move {
            if part == Part::Audit {
                store.append(b"more").await.unwrap();
            }
        }
        .boxed()
    };
    let path = place.dir.join("copy");
    let busy = copy_out(&Beating { store: store.clone(), before }, &path, Duration::from_millis(300)).await;
    assert!(matches!(busy, Err(TransferError::Busy { .. })), "{busy:?}");
    let silent = copy_out(&OfStore::file(store), &path, Duration::from_millis(300)).await;
    assert!(silent.unwrap_err().to_string().contains("no heartbeat reached UNIBUS_users"));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_copy_goes_into_an_empty_store_only_and_can_be_begun_again() {
    let place = Place::new("in");
    let (from, to) = (place.store("from"), place.store("to"));
    for name in ["alice", "bob", "carol"] {
        add(&*from, name).await;
    }
    beat(&*from).await;
    beat(&*to).await;
    // Broken off in the middle.
    let broken = Breaking { to: OfStore::file(to.clone()), left: AtomicUsize::new(2) };
    let source = OfStore::file(from.clone());
    assert!(matches!(copy_in(&source, &broken, |_, _| {}).await, Err(TransferError::Store(_))));
    let half = content(&to).await.len();
    assert!(0 < half && half < content(&from).await.len());
    let mut told = Vec::new();
    let carried = copy_in(&source, &OfStore::file(to.clone()), |there, all| told.push((there, all))).await.unwrap();
    assert_eq!(carried.written, content(&from).await.len() - half);
    assert_eq!(told.last(), Some(&(9, 9)));
    assert_eq!((content(&to).await, carried.content.sha256()), (content(&from).await, content(&from).await.sha256()));
    assert_eq!(copy_in(&source, &OfStore::file(to.clone()), |_, _| {}).await.unwrap().written, 0);

    // Whatever else is there is named, and nothing is written.
    add(&*to, "eve").await;
    add(&*from, "dave").await;
    let before = content(&to).await;
    let refused = copy_in(&source, &OfStore::file(to.clone()), |_, _| {}).await.unwrap_err();
    assert!(refused.to_string().contains("user.eve of UNIBUS_users"), "{refused}");
    assert!(refused.to_string().contains("record 4 of UNIBUS_audit"), "another log: {refused}");
    assert_eq!(content(&to).await, before);
    let nothing = copy_in(&OfStore::file(place.store("none")), &OfStore::file(to), |_, _| {}).await.unwrap_err();
    assert!(matches!(nothing, TransferError::Nothing));
}

#[tokio::test]
async fn what_no_node_could_read_and_what_others_write_meanwhile_is_told() {
    let place = Place::new("strange");
    let (from, to) = (place.store("from"), place.store("to"));
    add(&*from, "alice").await;
    let (writing, first) = (to.clone(), AtomicUsize::new(0));
    let before = move |part: Part| {
        let late = part == Part::ALL[0] && first.fetch_add(1, Ordering::Relaxed) == 1;
        let store = writing.clone();
        async move {
            if late {
                add(&*store, "eve").await;
            }
        }
        .boxed()
    };
    let changed =
        copy_in(&OfStore::file(from.clone()), &Beating { store: to.clone(), before }, |_, _| {}).await.unwrap_err();
    assert!(matches!(&changed, TransferError::Changed(of) if of.len() == 3), "{changed}");

    from.create(Records::Users, &key("tent.blue"), b"{}").await.unwrap();
    let (empty, nothing) = (place.store("empty"), nothing);
    let target = Beating { store: empty.clone(), before: nothing };
    let strange = copy_in(&OfStore::file(from), &target, |_, _| {}).await.unwrap_err();
    assert!(strange.to_string().contains("tent.blue"), "{strange}");
    assert!(content(&empty).await.is_empty(), "not even what was understood");
}

/// An end that takes so many batches.
struct Breaking {
    to: OfStore,
    left: AtomicUsize,
}

impl End for Breaking {
    fn read(&self, part: Part, after: Position) -> Answer<'_, Items> {
        self.to.read(part, after)
    }

    fn write(&self, part: Part, mut items: Vec<Item>) -> Answer<'_, Vec<Put>> {
        async move {
            let left = self.left.load(Ordering::Relaxed).min(items.len());
            self.left.fetch_sub(left, Ordering::Relaxed);
            let more = items.split_off(left);
            let puts = self.to.write(part, items).await?;
            if more.is_empty() {
                return Ok(puts);
            }
            let operation = unibus_store::Operation::on("create", part.bucket());
            Err(StoreError::Unavailable { operation, why: "broken off".to_owned() }.into())
        }
        .boxed()
    }

    fn messages(&self) -> &dyn Messages {
        self.to.messages()
    }
}

/// Messages in memory, which are dropped on the way now and then.
#[derive(Default)]
struct Heard {
    said: Mutex<BTreeMap<RoomId, Vec<Message>>>,
    left: AtomicUsize,
}

impl Messages for Heard {
    fn rooms(&self) -> Answer<'_, Vec<RoomId>> {
        async move { Ok(self.said.lock().unwrap().keys().cloned().collect()) }.boxed()
    }

    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>> {
        async move {
            let said = self.said.lock().unwrap().get(room).cloned().unwrap_or_default();
            Ok(said.into_iter().filter(|message| message.sequence > after).take(2).collect())
        }
        .boxed()
    }

    fn keep<'a>(&'a self, room: &'a RoomId, there: u64, whole: Whole, messages: Vec<Message>) -> Answer<'a, ()> {
        async move {
            let mut said = self.said.lock().unwrap();
            let said = said.entry(room.clone()).or_default();
            assert_eq!(u64::try_from(said.len()).unwrap(), there, "in their order, and none twice");
            for message in messages {
                if self.left.load(Ordering::Relaxed) == 0 {
                    return Err(TransferError::NoMessages("broken off".to_owned()));
                }
                self.left.fetch_sub(1, Ordering::Relaxed);
                let sequence = u64::try_from(said.len()).unwrap() + 1;
                said.push(Message { sequence, ..message });
            }
            assert!(
                said.iter().map(|message| crate::history::restored_bytes(room, message)).sum::<u64>() <= whole.bytes
            );
            Ok(())
        }
        .boxed()
    }
}

fn message(sequence: u64, text: &str) -> Message {
    let at_ms = 1_000 + i64::try_from(sequence).unwrap();
    Message { sequence, at_ms, subject: "room.hall".to_owned(), frame: text.to_owned().into() }
}

async fn add_room(store: &dyn Store, id: &str) -> Room {
    let subject = format!("room.{id}").parse().unwrap();
    let room = Room::new(id.parse().unwrap(), subject, Policy::CONVERSATION, "alice".parse().unwrap());
    let record = serde_json::to_vec(&room).unwrap();
    store.create(Records::Rooms, &key(&room_key(&room.id)), &record).await.unwrap();
    room
}

#[tokio::test]
async fn what_was_said_goes_along_in_its_order_and_only_once() {
    let place = Place::new("said");
    let store = place.store("from");
    add(&*store, "alice").await;
    let hall = add_room(&*store, "hall").await.id;
    let attic = add_room(&*store, "attic").await;
    let of = |sequences: &[u64]| sequences.iter().map(|n| message(*n, &format!("text {n}"))).collect::<Vec<_>>();
    let heard = Arc::new(Heard::default());
    let nowhere: RoomId = "nowhere".parse().unwrap();
    for (room, sequences) in [(&hall, &[3u64, 4, 7, 8, 9][..]), (&attic.id, &[1]), (&nowhere, &[1])] {
        heard.said.lock().unwrap().insert(room.clone(), of(sequences));
    }
    // While it is read, a room goes and something is said.
    let (writing, talking, calls) = (store.clone(), heard.clone(), Arc::new(AtomicUsize::new(0)));
    let (gone, hall_too) = (attic.removed("alice".parse().unwrap()), hall.clone());
    let before = move |part: Part| {
        let (store, heard, calls, gone, hall) =
            (writing.clone(), talking.clone(), calls.clone(), gone.clone(), hall_too.clone());
        async move {
            if part == Part::Audit && calls.fetch_add(1, Ordering::Relaxed) == 0 {
                let (key, record) = (key(&room_key(&gone.id)), serde_json::to_vec(&gone).unwrap());
                let was = store.get(Records::Rooms, &key).await.unwrap().unwrap().revision;
                store.update(Records::Rooms, &key, &record, was).await.unwrap();
                heard.said.lock().unwrap().get_mut(&hall).unwrap().push(message(10, "late"));
            }
        }
        .boxed()
    };
    let from = Talking { end: Beating { store: store.clone(), before }, messages: heard };
    let copied = copy_out(&from, &place.dir.join("copy"), LONG).await.unwrap();
    let copy = place.store("copy");
    assert_eq!(content(&copy).await, copied.content);
    assert_eq!((copied.content.messages(), copied.content.counts()["UNIBUS_history"]), (6, 6), "of the hall alone");

    // Into another store, broken off in between; what is there already is left alone.
    let (to, said) = (place.store("to"), Arc::new(Heard { left: AtomicUsize::new(3), ..Heard::default() }));
    let target = OfStore::new(to.clone(), said.clone());
    let broken = copy_in(&OfStore::file(copy.clone()), &target, |_, _| {}).await.unwrap_err();
    assert!(broken.to_string().contains("broken off"), "{broken}");
    assert_eq!(Content::of(&target, false).await.unwrap().counts()["UNIBUS_members"], 0, "nobody is in the rooms yet");
    said.left.store(100, Ordering::Relaxed);
    let carried = copy_in(&OfStore::file(copy.clone()), &target, |_, _| {}).await.unwrap();
    assert_eq!(carried.content.sha256(), copied.content.sha256());
    let told: Vec<_> = said.said.lock().unwrap()[&hall].iter().map(|m| (m.at_ms, m.frame.clone())).collect();
    let expected = of(&[3, 4, 7, 8, 9]).into_iter().chain([message(10, "late")]).map(|m| (m.at_ms, m.frame));
    assert_eq!(told, expected.collect::<Vec<_>>());

    // Something else was said there: that is another copy's.
    said.said.lock().unwrap().get_mut(&hall).unwrap()[1].at_ms += 1;
    let refused = copy_in(&OfStore::file(copy), &target, |_, _| {}).await.unwrap_err();
    assert!(refused.to_string().contains("room hall of UNIBUS_history"), "{refused}");
}

/// Messages of which those of one room cannot be read, and one of another.
struct Broken(Arc<Heard>);

impl Messages for Broken {
    fn rooms(&self) -> Answer<'_, Vec<RoomId>> {
        self.0.rooms()
    }

    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>> {
        async move {
            if room.as_str() == "attic" && after >= 2 {
                return Err(TransferError::NoMessages("no engine answers".to_owned()));
            }
            self.0.said(room, after).await
        }
        .boxed()
    }

    fn readable<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Readable> {
        async move {
            let messages = self.said(room, after).await?;
            let reached = messages.last().map_or(after, |last| last.sequence);
            let (unreadable, messages) =
                messages.into_iter().partition::<Vec<_>, _>(|message| room.as_str() == "hall" && message.sequence == 2);
            let unreadable = unreadable.into_iter().map(|message| message.sequence).collect();
            Ok(Readable { messages, unreadable, reached, damaged: None })
        }
        .boxed()
    }

    fn keep<'a>(&'a self, _: &'a RoomId, _: u64, _: Whole, _: Vec<Message>) -> Answer<'a, ()> {
        async move { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn what_is_damaged_in_rooms_is_left_out_of_a_copy_and_named() {
    let place = Place::new("damaged");
    let store = place.store("from");
    add(&*store, "alice").await;
    let heard = Arc::new(Heard::default());
    for id in ["hall", "attic", "cellar"] {
        let room = add_room(&*store, id).await.id;
        heard.said.lock().unwrap().insert(room, (1..=4).map(|n| message(n, &format!("text {n}"))).collect());
    }
    let before = |_: Part| async {}.boxed();
    let from = Talking { end: Beating { store: store.clone(), before }, messages: Arc::new(Broken(heard)) };
    let copied = copy_out(&from, &place.dir.join("copy"), LONG).await.unwrap();
    assert_eq!(copied.content.messages(), 3 + 2 + 4);
    let words = copied.missing.words();
    assert_eq!(
        words[0],
        "room attic: with nothing after 2: the messages of rooms could not be copied: no engine answers"
    );
    assert_eq!(words[1..], ["room hall: without 2, which cannot be read"]);
    assert_eq!(content(&place.store("copy")).await, copied.content);
}

/// Messages that are marked by how many there are, and how often a room is read.
struct Marked(Arc<Heard>, AtomicUsize);

impl Messages for Marked {
    fn rooms(&self) -> Answer<'_, Vec<RoomId>> {
        self.0.rooms()
    }

    fn marked(&self) -> Answer<'_, BTreeMap<RoomId, Option<String>>> {
        async move {
            let said = self.0.said.lock().unwrap();
            Ok(said.iter().map(|(room, messages)| (room.clone(), Some(messages.len().to_string()))).collect())
        }
        .boxed()
    }

    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.said(room, after)
    }

    fn keep<'a>(&'a self, _: &'a RoomId, _: u64, _: Whole, _: Vec<Message>) -> Answer<'a, ()> {
        async move { Ok(()) }.boxed()
    }
}

#[tokio::test]
async fn rooms_in_which_nothing_was_said_are_not_read_again_while_a_quiet_moment_is_looked_for() {
    let place = Place::new("marked");
    let store = place.store("from");
    add(&*store, "alice").await;
    let heard = Arc::new(Heard::default());
    for id in ["hall", "attic"] {
        let room = add_room(&*store, id).await.id;
        heard.said.lock().unwrap().insert(room, vec![message(1, "one")]);
    }
    // Something is changed in the first two rounds, and after the first one something is said in one of the rooms.
    let (writing, talking, calls) = (store.clone(), heard.clone(), Arc::new(AtomicUsize::new(0)));
    let before = move |part: Part| {
        let (store, heard, calls) = (writing.clone(), talking.clone(), calls.clone());
        async move {
            if part != Part::Audit {
                return;
            }
            let round = calls.fetch_add(1, Ordering::Relaxed);
            if round < 3 {
                add(&*store, &format!("late{round}")).await;
            }
            if round == 1 {
                heard.said.lock().unwrap().get_mut(&"hall".parse::<RoomId>().unwrap()).unwrap().push(message(2, "two"));
            }
        }
        .boxed()
    };
    let messages = Arc::new(Marked(heard, AtomicUsize::new(0)));
    let from = Talking { end: Beating { store: store.clone(), before }, messages: messages.clone() };
    let copied = copy_out(&from, &place.dir.join("copy"), LONG).await.unwrap();
    assert_eq!(copied.content.messages(), 3);
    // Each is read to its end once: a message, and that there is no more; and so is what was said later.
    assert_eq!(messages.1.load(Ordering::Relaxed), 2 * 2 + 2);
}

/// An end with the messages of another.
struct Talking<E, M> {
    end: E,
    messages: Arc<M>,
}

impl<E: End, M: Messages> End for Talking<E, M> {
    fn read(&self, part: Part, after: Position) -> Answer<'_, Items> {
        self.end.read(part, after)
    }

    fn write(&self, part: Part, items: Vec<Item>) -> Answer<'_, Vec<Put>> {
        self.end.write(part, items)
    }

    fn messages(&self) -> &dyn Messages {
        &*self.messages
    }
}

#[tokio::test]
async fn a_copy_has_the_feature_level_and_a_release_that_cannot_do_it_carries_nothing_in() {
    FeatureLevel::Kept.assume_highest();
    let place = Place::new("level");
    let (from, to) = (place.store("from"), place.store("to"));
    add(&*from, "first").await;
    let level = serde_json::to_vec(&LevelRecord::new(FeatureLevel::Kept)).unwrap();
    from.create(Records::Rooms, &key(LEVEL_KEY), &level).await.unwrap();
    let (source, target) = (OfStore::file(from), OfStore::file(to.clone()));
    FeatureLevel::Captured.assume_highest();
    let refused = copy_in(&source, &target, |_, _| ()).await.unwrap_err();
    assert!(matches!(refused, TransferError::NotUnderstood(_)), "{refused}");
    assert!(to.get(Records::Rooms, &key(LEVEL_KEY)).await.unwrap().is_none());
    FeatureLevel::Kept.assume_highest();
    copy_in(&source, &target, |_, _| ()).await.unwrap();
    assert_eq!(to.get(Records::Rooms, &key(LEVEL_KEY)).await.unwrap().unwrap().value, level);
}
