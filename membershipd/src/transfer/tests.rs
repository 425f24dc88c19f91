//! Copies between files, with ends that are changed, broken off or written to by others meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;

use super::*;
use crate::domain::{Role, SignPub, State, User};
use crate::store::{Key, Position, Records, SqliteStore, Store, StoreError};
use crate::view::{claim_key, heartbeat_key, user_key};

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
            OfStore(self.store.clone()).read(part, after).await
        }
        .boxed()
    }

    fn write(&self, part: Part, items: Vec<Item>) -> Answer<'_, Vec<Put>> {
        async move { OfStore(self.store.clone()).write(part, items).await }.boxed()
    }
}

fn nothing(_: Part) -> futures::future::BoxFuture<'static, ()> {
    std::future::ready(()).boxed()
}

async fn content(store: &Arc<SqliteStore>) -> Content {
    Content::of(&OfStore(store.clone()), true).await.unwrap()
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
    let silent = copy_out(&OfStore(store), &path, Duration::from_millis(300)).await;
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
    let broken = Breaking { to: OfStore(to.clone()), left: AtomicUsize::new(2) };
    let source = OfStore(from.clone());
    assert!(matches!(copy_in(&source, &broken, |_, _| {}).await, Err(TransferError::Store(_))));
    let half = content(&to).await.len();
    assert!(0 < half && half < content(&from).await.len());
    let mut told = Vec::new();
    let carried = copy_in(&source, &OfStore(to.clone()), |there, all| told.push((there, all))).await.unwrap();
    assert_eq!(carried.written, content(&from).await.len() - half);
    assert_eq!(told.last(), Some(&(9, 9)));
    assert_eq!((content(&to).await, carried.content.sha256()), (content(&from).await, content(&from).await.sha256()));
    assert_eq!(copy_in(&source, &OfStore(to.clone()), |_, _| {}).await.unwrap().written, 0);

    // Whatever else is there is named, and nothing is written.
    add(&*to, "eve").await;
    add(&*from, "dave").await;
    let before = content(&to).await;
    let refused = copy_in(&source, &OfStore(to.clone()), |_, _| {}).await.unwrap_err();
    assert!(refused.to_string().contains("user.eve of UNIBUS_users"), "{refused}");
    assert!(refused.to_string().contains("record 4 of UNIBUS_audit"), "another log: {refused}");
    assert_eq!(content(&to).await, before);
    let nothing = copy_in(&OfStore(place.store("none")), &OfStore(to), |_, _| {}).await.unwrap_err();
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
    let changed = copy_in(&OfStore(from.clone()), &Beating { store: to.clone(), before }, |_, _| {}).await.unwrap_err();
    assert!(matches!(&changed, TransferError::Changed(of) if of.len() == 3), "{changed}");

    from.create(Records::Users, &key("tent.blue"), b"{}").await.unwrap();
    let (empty, nothing) = (place.store("empty"), nothing);
    let target = Beating { store: empty.clone(), before: nothing };
    let strange = copy_in(&OfStore(from), &target, |_, _| {}).await.unwrap_err();
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
            let operation = crate::store::Operation::on("create", part.bucket());
            Err(StoreError::Unavailable { operation, why: "broken off".to_owned() }.into())
        }
        .boxed()
    }
}
