//! A store that fails on purpose, once, at a chosen call: for tests of what stands on a store.
//!
//! It is compiled for the crate's own tests and with the feature `fault-injection`, which the tests of the whole program use;
//! a release has none of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::contract::{Answer, Entry, Event, Events, Keyed, Nonce, Page, PageSize, Revision, Store};
use super::error::{Operation, StoreError};
use super::watch::Position;
use unibus_core::bus::Bucket;
use unibus_core::key::{Key, Prefix, Records};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Certainly not done, and said so. Also of a read.
    Error,
    /// No answer, and not done either. A watch begins, and breaks before it says anything.
    Timeout,
    /// Done, but the answer is lost.
    LostAnswer,
    /// No answer; it is done after all, right before the next call.
    Late,
    /// A read shows the entries as they were before their last change; a watch has caught up without the last one.
    Stale,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 5] = [Fault::Error, Fault::Timeout, Fault::LostAnswer, Fault::Late, Fault::Stale];

    /// Whether a call can fail like this.
    pub fn concerns(self, call: &Operation) -> bool {
        match (call.verb, self) {
            (WATCH, Fault::Error | Fault::Timeout | Fault::Stale) => true,
            (READ | SCAN, Fault::Error | Fault::Stale) => true,
            (CREATE | UPDATE | BEAT | APPEND | INSERT, fault) => fault != Fault::Stale,
            _ => false,
        }
    }
}

const READ: &str = "read";
const SCAN: &str = "scan";
const WATCH: &str = "watch";
const BEAT: &str = "beat in";
const CREATE: &str = "create";
const UPDATE: &str = "update";
const APPEND: &str = "append to";
const INSERT: &str = "insert into";

#[derive(Default)]
struct State {
    armed: bool,
    plan: Option<(usize, Fault)>,
    fired: bool,
    calls: Vec<Operation>,
    before: HashMap<(Records, Key), Option<Entry>>,
    last: HashMap<Records, Revision>,
    late: Option<BoxFuture<'static, ()>>,
}

/// A store that passes everything on, and fails where it was told to.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// A store over `inner` that does not fail yet. It remembers what it writes over, so what is to be shown stale has to be
    /// written through it.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// From here on calls are counted, and the one with number `plan.0`, from 0, fails.
    pub fn arm(&self, plan: Option<(usize, Fault)>) {
        let mut state = self.state();
        state.armed = true;
        state.plan = plan;
    }

    /// The calls counted so far.
    pub fn calls(&self) -> Vec<Operation> {
        self.state().calls.clone()
    }

    /// Whether the fault has happened.
    pub fn fired(&self) -> bool {
        self.state().fired
    }

    /// The store behind, for a look at the truth: once everything has landed that was under way.
    pub async fn truth(&self) -> Arc<dyn Store> {
        self.settle().await;
        self.inner.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn settle(&self) {
        let late = self.state().late.take();
        if let Some(late) = late {
            late.await;
        }
    }

    async fn begin(&self, call: &Operation) -> Option<Fault> {
        self.settle().await;
        let mut state = self.state();
        if !state.armed {
            return None;
        }
        let fault = state.plan.filter(|(at, _)| *at == state.calls.len()).map(|(_, fault)| fault);
        state.calls.push(call.clone());
        state.fired |= fault.is_some();
        fault
    }

    async fn write<T: 'static>(
        &self,
        call: Operation,
        change: impl FnOnce(Arc<dyn Store>) -> BoxFuture<'static, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let fault = self.begin(&call).await;
        let change = change(self.inner.clone());
        match fault {
            None | Some(Fault::Stale) => return change.await,
            Some(Fault::Error) => return Err(injected(call)),
            Some(Fault::Timeout) => {}
            Some(Fault::LostAnswer) => drop(change.await),
            Some(Fault::Late) => self.state().late = Some(change.map(drop).boxed()),
        }
        Err(StoreError::Unknown { operation: call, why: "injected: no answer".to_owned() })
    }

    async fn put(
        &self,
        call: Operation,
        (bucket, key): (Records, &Key),
        change: impl FnOnce(Arc<dyn Store>) -> BoxFuture<'static, Result<Revision, StoreError>>,
    ) -> Result<Revision, StoreError> {
        let before = self.inner.get(bucket, key).await?;
        let written = self.write(call, change).await?;
        let mut state = self.state();
        state.before.insert((bucket, key.clone()), before);
        state.last.insert(bucket, written);
        Ok(written)
    }

    /// `key` as it was before its last change; nothing where that is not known.
    fn before(&self, bucket: Records, key: &Key) -> Option<Entry> {
        self.state().before.get(&(bucket, key.clone())).cloned().flatten()
    }
}

fn injected(operation: Operation) -> StoreError {
    StoreError::Unavailable { operation, why: "injected".to_owned() }
}

impl Store for FaultyStore {
    fn get<'a>(&'a self, bucket: Records, key: &'a Key) -> Answer<'a, Option<Entry>> {
        async move {
            let call = Operation::at(READ, bucket.bucket(), key);
            match self.begin(&call).await {
                None => self.inner.get(bucket, key).await,
                Some(Fault::Stale) => Ok(self.before(bucket, key)),
                Some(_) => Err(injected(call)),
            }
        }
        .boxed()
    }

    fn written_at<'a>(&'a self, bucket: Records, key: &'a Key) -> Answer<'a, Option<i64>> {
        self.inner.written_at(bucket, key)
    }

    fn create<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision> {
        async move {
            let call = Operation::at(CREATE, bucket.bucket(), key);
            let (of, value) = (key.clone(), value.to_vec());
            let change = move |store: Arc<dyn Store>| async move { store.create(bucket, &of, &value).await }.boxed();
            self.put(call, (bucket, key), change).await
        }
        .boxed()
    }

    fn update<'a>(
        &'a self,
        bucket: Records,
        key: &'a Key,
        value: &'a [u8],
        expected: Revision,
    ) -> Answer<'a, Revision> {
        async move {
            let call = Operation::at(UPDATE, bucket.bucket(), key);
            let (of, value) = (key.clone(), value.to_vec());
            let change =
                move |store: Arc<dyn Store>| async move { store.update(bucket, &of, &value, expected).await }.boxed();
            self.put(call, (bucket, key), change).await
        }
        .boxed()
    }

    fn beat<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision> {
        async move {
            let call = Operation::at(BEAT, bucket.bucket(), key);
            let (of, value) = (key.clone(), value.to_vec());
            let change = move |store: Arc<dyn Store>| async move { store.beat(bucket, &of, &value).await }.boxed();
            self.put(call, (bucket, key), change).await
        }
        .boxed()
    }

    fn scan<'a>(
        &'a self,
        bucket: Records,
        prefix: &'a Prefix,
        after: Position,
        size: PageSize,
    ) -> Answer<'a, Page<Keyed>> {
        async move {
            let call = Operation::on(SCAN, bucket.bucket());
            match self.begin(&call).await {
                None => self.inner.scan(bucket, prefix, after, size).await,
                Some(Fault::Stale) => {
                    let mut page = self.inner.scan(bucket, prefix, after, size).await?;
                    let before = |Keyed { key, .. }| self.before(bucket, &key).map(|entry| Keyed { key, entry });
                    page.items = page.items.into_iter().filter_map(before).collect();
                    page.items.retain(|item| Position::from(item.entry.revision) > after);
                    page.items.sort_by_key(|item| item.entry.revision);
                    Ok(page)
                }
                Some(_) => Err(injected(call)),
            }
        }
        .boxed()
    }

    fn watch(&self, bucket: Records, after: Position) -> Answer<'_, Events> {
        async move {
            let call = Operation::on(WATCH, bucket.bucket());
            match self.begin(&call).await {
                None => self.inner.watch(bucket, after).await,
                Some(Fault::Stale) => {
                    let last = self.state().last.get(&bucket).copied();
                    Ok(lagging(self.inner.watch(bucket, after).await?, last))
                }
                Some(Fault::Timeout) => Ok(stream::iter([Err(injected(call))]).boxed()),
                Some(_) => Err(injected(call)),
            }
        }
        .boxed()
    }

    fn append<'a>(&'a self, record: &'a [u8]) -> Answer<'a, Revision> {
        let record = record.to_vec();
        let change = move |store: Arc<dyn Store>| async move { store.append(&record).await }.boxed();
        self.write(Operation::on(APPEND, Bucket::Audit), change).boxed()
    }

    fn audit(&self, after: Position, size: PageSize) -> Answer<'_, Page<Entry>> {
        async move {
            let call = Operation::on(READ, Bucket::Audit);
            match self.begin(&call).await {
                None => self.inner.audit(after, size).await,
                Some(Fault::Stale) => {
                    let mut page = self.inner.audit(after, size).await?;
                    page.items.pop();
                    Ok(page)
                }
                Some(_) => Err(injected(call)),
            }
        }
        .boxed()
    }

    fn insert_nonce<'a>(&'a self, nonce: &'a Key) -> Answer<'a, Nonce> {
        let call = Operation::at(INSERT, Bucket::Nonces, nonce);
        let nonce = nonce.clone();
        let change = move |store: Arc<dyn Store>| async move { store.insert_nonce(&nonce).await }.boxed();
        self.write(call, change).boxed()
    }

    fn log_nonce<'a>(&'a self, authority: &'a str, nonce: &'a Key) -> Answer<'a, Nonce> {
        let call = Operation::at(INSERT, Bucket::NonceLog, nonce);
        let (authority, nonce) = (authority.to_owned(), nonce.clone());
        let change = move |store: Arc<dyn Store>| async move { store.log_nonce(&authority, &nonce).await }.boxed();
        self.write(call, change).boxed()
    }
}

/// `events` with what was written at `last` or later told only after it is said to have caught up.
fn lagging(events: Events, last: Option<Revision>) -> Events {
    let held: Vec<Result<Event, StoreError>> = Vec::new();
    let telling = events.scan((false, held), move |(caught_up, held), event| {
        let told = match &event {
            Ok(Event::CaughtUp) => {
                *caught_up = true;
                std::iter::once(event).chain(held.drain(..)).collect()
            }
            Ok(Event::Changed(new)) if !*caught_up && last.is_some_and(|last| new.entry.revision >= last) => {
                held.push(event);
                Vec::new()
            }
            _ => vec![event],
        };
        std::future::ready(Some(stream::iter(told)))
    });
    telling.flatten().boxed()
}

/// What a scenario went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Calls that it makes when nothing fails.
    pub calls: Vec<Operation>,
    /// Each call by its number, and how it failed.
    pub runs: Vec<(usize, Fault)>,
}

/// Carries `scenario` out once as it is, and once for every call that it makes and every way in which that can fail. Each time
/// `prepare` begins with a `fresh` store. The error names the call and the fault under which it came up, or was not reached.
pub async fn under_every_fault(
    fresh: impl AsyncFn() -> Arc<dyn Store>,
    prepare: impl AsyncFn(&dyn Store) -> Result<(), StoreError>,
    scenario: impl AsyncFn(Arc<FaultyStore>) -> Result<(), String>,
) -> Result<Coverage, String> {
    let run = async |plan: Option<(usize, Fault)>| {
        let store = Arc::new(FaultyStore::new(fresh().await));
        prepare(store.as_ref()).await.map_err(|error| format!("cannot prepare: {error}"))?;
        store.arm(plan);
        scenario(store.clone()).await.map(|()| store)
    };
    let calls = run(None).await.map_err(|why| format!("without a fault: {why}"))?.calls();
    let mut runs = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        for fault in Fault::ALL.into_iter().filter(|fault| fault.concerns(call)) {
            let under = |why: String| format!("{fault:?} at call {number} ({call}): {why}");
            let store = run(Some((number, fault))).await.map_err(under)?;
            if !store.fired() || store.calls().get(number) != Some(call) {
                return Err(under("was not reached; the scenario has to make the same calls each time".to_owned()));
            }
            runs.push((number, fault));
        }
    }
    Ok(Coverage { calls, runs })
}

#[cfg(test)]
mod tests;
