//! The store on JetStream: entries as messages, revisions as sequences, on whichever engine the daemon is linked to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::watch as channel;

use super::buckets::PAUSE;
use super::contract::{Answer, Entry, Event, Events, Keyed, Nonce, Page, PageSize, Revision, Store, check_size};
use super::error::{Operation, Standing, StoreError};
use super::nonce_log::NonceLog;
use super::watch::{self, Position, Watch};
use super::write::{self, WriteError};
use crate::link::Link;
use unibus_core::bus::{self, Bucket};
use unibus_core::key::{Key, Prefix, Records};

/// With this header other clients mark what they delete. Nobody deletes here.
const FOREIGN: &str = "KV-Operation";
/// Key under which all records of the audit log are: it is one sequence.
const RECORD: &str = "record";

/// The store on JetStream. Each call uses the link of its moment; without one everything is `Unavailable`.
#[derive(Debug, Clone)]
pub struct KvStore {
    link: channel::Receiver<Option<Arc<Link>>>,
    nonces: Arc<NonceLog>,
}

impl KvStore {
    /// A store that works through `link`, as it comes and goes.
    pub fn new(link: channel::Receiver<Option<Arc<Link>>>) -> Self {
        // One that does not know yet that the level was raised, or is at the point of noting an entry, has no lease then.
        Self::noting_both_ways_for(link, bus::revocation_bound() + bus::STORE_BUDGET)
    }

    /// The same, where no other process notes nonces as entries alone after `both_ways`, counted from when this one learns that they are logged.
    pub fn noting_both_ways_for(link: channel::Receiver<Option<Arc<Link>>>, both_ways: Duration) -> Self {
        Self { link, nonces: Arc::new(NonceLog::new(both_ways)) }
    }

    fn link(&self, operation: &Operation) -> Result<Arc<Link>, StoreError> {
        let why = || "there is no session with the engine".to_owned();
        let unavailable = || StoreError::Unavailable { operation: operation.clone(), why: why() };
        self.link.borrow().clone().ok_or_else(unavailable)
    }

    async fn put(
        &self,
        operation: Operation,
        bucket: Records,
        key: &Key,
        value: &[u8],
        expected: u64,
    ) -> Result<Revision, StoreError> {
        check_size(&operation, value)?;
        let link = self.link(&operation)?;
        match write::put(&link, bucket.bucket(), key.as_str(), value, expected).await {
            Ok(sequence) => numbered(operation, sequence),
            Err(WriteError::Conflict) => {
                let current = standing(&link, bucket.bucket(), key, expected).await;
                Err(StoreError::Conflict { operation, current })
            }
            Err(error) => Err(failed(&operation, &error)),
        }
    }

    /// Messages of `bucket` on subjects that fit `wildcard`, one after the other from its leader.
    async fn page(
        &self,
        operation: &Operation,
        bucket: Bucket,
        wildcard: &str,
        after: Position,
        size: PageSize,
    ) -> Result<Page<StreamMessage>, StoreError> {
        let link = self.link(operation)?;
        let deadline = Instant::now() + bus::STORE_BUDGET;
        let mut items: Vec<StreamMessage> = Vec::new();
        let mut last = after;
        loop {
            let from = last.0.saturating_add(1);
            match asked_again(&link, deadline, || next_message(&link, bucket, wildcard, from)).await {
                Ok(None) => return Ok(Page { items, next: None }),
                Ok(Some(_)) if items.len() == size.get() => return Ok(Page { items, next: Some(last) }),
                Ok(Some(message)) => {
                    last = Position(message.sequence);
                    items.push(message);
                }
                Err(why) => return Err(StoreError::Unavailable { operation: operation.clone(), why }),
            }
        }
    }
}

impl Store for KvStore {
    fn get<'a>(&'a self, bucket: Records, key: &'a Key) -> Answer<'a, Option<Entry>> {
        async move {
            let operation = Operation::at("read", bucket.bucket(), key);
            let link = self.link(&operation)?;
            let look = || async {
                write::look(&link, bucket.bucket(), key.as_str())
                    .await
                    .map_err(|_| "its leader does not answer".to_owned())
            };
            match asked_again(&link, Instant::now() + bus::STORE_BUDGET, look).await {
                Ok(found) => found.map(|message| entry(&operation, message)).transpose(),
                Err(why) => Err(StoreError::Unavailable { operation, why }),
            }
        }
        .boxed()
    }

    fn written_at<'a>(&'a self, bucket: Records, key: &'a Key) -> Answer<'a, Option<i64>> {
        async move {
            let operation = Operation::at("read", bucket.bucket(), key);
            let link = self.link(&operation)?;
            let unavailable = |error: WriteError| failed(&operation, &error);
            let found = write::look(&link, bucket.bucket(), key.as_str()).await.map_err(unavailable)?;
            Ok(found.map(|message| message.time.unix_timestamp().saturating_mul(1000)))
        }
        .boxed()
    }

    fn create<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision> {
        self.put(Operation::at("create", bucket.bucket(), key), bucket, key, value, 0).boxed()
    }

    fn update<'a>(
        &'a self,
        bucket: Records,
        key: &'a Key,
        value: &'a [u8],
        expected: Revision,
    ) -> Answer<'a, Revision> {
        self.put(Operation::at("update", bucket.bucket(), key), bucket, key, value, expected.get()).boxed()
    }

    fn beat<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision> {
        async move {
            let operation = Operation::at("beat in", bucket.bucket(), key);
            let link = self.link(&operation)?;
            let once = write::put_once(&link, bucket.bucket(), key.as_str(), value, bus::HEARTBEAT_ROUND);
            match once.await {
                Ok(sequence) => numbered(operation, sequence),
                Err(error) => Err(failed(&operation, &error)),
            }
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
            let operation = Operation::on("scan", bucket.bucket());
            let Page { items, next } = self.page(&operation, bucket.bucket(), &prefix.wildcard(), after, size).await?;
            let items =
                items.into_iter().map(|message| keyed(&operation, bucket, message)).collect::<Result<_, _>>()?;
            Ok(Page { items, next })
        }
        .boxed()
    }

    fn watch(&self, bucket: Records, after: Position) -> Answer<'_, Events> {
        async move {
            let operation = Operation::on("watch", bucket.bucket());
            let link = self.link(&operation)?;
            let unavailable = |why| StoreError::Unavailable { operation: operation.clone(), why };
            let stream = link.jetstream.get_stream(bucket.bucket().stream()).await;
            let stream = stream.map_err(|error| unavailable(format!("its leader does not answer: {error}")))?;
            let last = Position(stream.cached_info().state.last_sequence);
            if last < after {
                return Err(StoreError::Gap { operation, after, last });
            }
            let opened = watch::open(&link, bucket.bucket(), after).await;
            let (watch, pending) = opened.map_err(|error| unavailable(format!("{error:#}")))?;
            Ok(events(operation, bucket, watch, last, pending))
        }
        .boxed()
    }

    fn append<'a>(&'a self, record: &'a [u8]) -> Answer<'a, Revision> {
        async move {
            let operation = Operation::on("append to", Bucket::Audit);
            check_size(&operation, record)?;
            let link = self.link(&operation)?;
            let appended = write::append(&link, Bucket::Audit, RECORD, record).await;
            let sequence = appended.map_err(|error| failed(&operation, &error))?;
            numbered(operation, sequence)
        }
        .boxed()
    }

    fn audit(&self, after: Position, size: PageSize) -> Answer<'_, Page<Entry>> {
        async move {
            let operation = Operation::on("read", Bucket::Audit);
            let Page { items, next } = self.page(&operation, Bucket::Audit, RECORD, after, size).await?;
            let items = items.into_iter().map(|message| entry(&operation, message)).collect::<Result<_, _>>()?;
            Ok(Page { items, next })
        }
        .boxed()
    }

    fn insert_nonce<'a>(&'a self, nonce: &'a Key) -> Answer<'a, Nonce> {
        async move {
            let operation = Operation::at("insert into", Bucket::Nonces, nonce);
            let link = self.link(&operation)?;
            match write::put(&link, Bucket::Nonces, nonce.as_str(), &[], 0).await {
                Ok(_) => Ok(Nonce::Fresh),
                Err(WriteError::Conflict) => Ok(Nonce::Replayed),
                Err(error) => Err(failed(&operation, &error)),
            }
        }
        .boxed()
    }

    fn begin_log(&self) {
        self.nonces.begin();
    }

    fn log_nonce<'a>(&'a self, authority: &'a str, nonce: &'a Key) -> Answer<'a, Nonce> {
        async move {
            let link = self.link(&Operation::at("insert into", Bucket::NonceLog, nonce))?;
            self.nonces.note(&link, authority, nonce).await
        }
        .boxed()
    }
}

/// Asks in short attempts, as requests right after a leader died are never answered.
pub async fn asked_again<T, F: Future<Output = Result<T, String>>>(
    link: &Link,
    deadline: Instant,
    ask: impl Fn() -> F,
) -> Result<T, String> {
    loop {
        match ask().await {
            Err(_) if !link.lost.is_cancelled() && Instant::now() + PAUSE < deadline => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

pub(crate) async fn next_message(
    link: &Link,
    bucket: Bucket,
    wildcard: &str,
    from: u64,
) -> Result<Option<StreamMessage>, String> {
    let stream = link.jetstream.get_stream_no_info(bucket.stream()).await.map_err(|error| error.to_string())?;
    let subject = format!("{}{wildcard}", bucket.key_prefix());
    match stream.raw_message_builder().sequence(from).next_by_subject(subject).send().await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(format!("its leader does not answer: {error}")),
    }
}

/// The revision that stood in the way, by the word of a leader that knows of it.
async fn standing(link: &Link, bucket: Bucket, key: &Key, expected: u64) -> Standing {
    match write::get(link, bucket, key.as_str()).await {
        Ok(None) if expected > 0 => Standing::Absent,
        Ok(Some((_, now))) if now != expected => Revision::new(now).map_or(Standing::NotSaid, Standing::At),
        _ => Standing::NotSaid,
    }
}

/// `watch` as events. It has caught up with `last`, or with what was `pending` when it began.
fn events(operation: Operation, bucket: Records, watch: Watch, last: Position, pending: u64) -> Events {
    struct Telling {
        watch: Watch,
        ready: VecDeque<Event>,
        caught_up: bool,
    }
    let caught_up = pending == 0;
    let ready = caught_up.then_some(Event::CaughtUp).into_iter().collect();
    let telling = Some(Telling { watch, ready, caught_up });
    stream::unfold((operation, telling), move |(operation, telling)| async move {
        let mut telling = telling?;
        if let Some(event) = telling.ready.pop_front() {
            return Some((Ok(event), (operation, Some(telling))));
        }
        let told = match telling.watch.next().await {
            Ok(message) => {
                if !telling.caught_up && (message.pending == 0 || message.revision >= last.0) {
                    telling.caught_up = true;
                    telling.ready.push_back(Event::CaughtUp);
                }
                delivered(&operation, bucket, message)
            }
            Err(error) => Err(StoreError::Unavailable { operation: operation.clone(), why: format!("{error:#}") }),
        };
        let rest = told.is_ok().then_some(telling);
        Some((told, (operation, rest)))
    })
    .boxed()
}

fn delivered(operation: &Operation, bucket: Records, message: watch::Entry) -> Result<Event, StoreError> {
    let revision = revision(operation, message.revision)?;
    let headers = message.inner.headers.as_ref();
    ours(operation, revision, headers)?;
    let key = parse(operation, bucket, revision, &message.key)?;
    let value = message.inner.payload.clone();
    Ok(Event::Changed(Keyed { key, entry: Entry { value, revision } }))
}

fn keyed(operation: &Operation, bucket: Records, message: StreamMessage) -> Result<Keyed, StoreError> {
    let subject = message.subject.clone();
    let entry = entry(operation, message)?;
    let key = subject.strip_prefix(&bucket.bucket().key_prefix()).unwrap_or_default();
    Ok(Keyed { key: parse(operation, bucket, entry.revision, key)?, entry })
}

fn entry(operation: &Operation, message: StreamMessage) -> Result<Entry<Bytes>, StoreError> {
    let revision = revision(operation, message.sequence)?;
    ours(operation, revision, Some(&message.headers))?;
    Ok(Entry { value: message.payload, revision })
}

fn parse(operation: &Operation, bucket: Records, revision: Revision, key: &str) -> Result<Key, StoreError> {
    key.parse().map_err(|error| StoreError::Unreadable {
        operation: operation.clone(),
        why: format!("revision {revision} of {}: {error}", bucket.bucket().name()),
    })
}

fn ours(operation: &Operation, revision: Revision, headers: Option<&async_nats::HeaderMap>) -> Result<(), StoreError> {
    if headers.is_some_and(|headers| headers.get(FOREIGN).is_some()) {
        let why = format!("revision {revision} is the mark of a deletion, which no membershipd makes");
        return Err(StoreError::Unreadable { operation: operation.clone(), why });
    }
    Ok(())
}

fn revision(operation: &Operation, sequence: u64) -> Result<Revision, StoreError> {
    let why = || "an entry without a sequence".to_owned();
    Revision::new(sequence).ok_or_else(|| StoreError::Unreadable { operation: operation.clone(), why: why() })
}

/// The revision that a write was acknowledged with.
fn numbered(operation: Operation, sequence: u64) -> Result<Revision, StoreError> {
    let why = || "the engine acknowledged it without a sequence".to_owned();
    Revision::new(sequence).ok_or_else(|| StoreError::Unknown { operation, why: why() })
}

fn failed(operation: &Operation, error: &WriteError) -> StoreError {
    let operation = operation.clone();
    match error {
        WriteError::Unknown => StoreError::Unknown { operation, why: "no answer from the cluster".to_owned() },
        WriteError::Unavailable => {
            StoreError::Unavailable { operation, why: "the cluster has no leader for it now".to_owned() }
        }
        WriteError::Refused(why) => StoreError::Unavailable { operation, why: format!("the engine refused: {why}") },
        WriteError::Conflict => StoreError::Conflict { operation, current: Standing::NotSaid },
    }
}
