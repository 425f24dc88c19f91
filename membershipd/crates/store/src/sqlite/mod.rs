//! The store in one SQLite file: for a node on its own.

mod blobs;
mod care;
mod file;
mod history;
mod open;
mod statements;
mod worker;

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use self::statements::{Found, Verdict, Write};
use self::worker::{Fate, Job, Question, Tips, Worker};
use super::contract::{Answer, Entry, Event, Events, Keyed, Nonce, Page, PageSize, Revision, Store, check_size};
use super::error::{Operation, StoreError};
use super::watch::Position;
use unibus_core::bus::{self, Bucket};
use unibus_core::key::{Key, Prefix, Records};

pub use self::blobs::BlobRow;
pub use self::file::{NewFile, NewFileError};
pub use self::open::OpenError;

/// Bytes of a page (SQLite's default, which the file keeps).
const PAGE: u64 = 4096;

/// Tells the time in milliseconds since 1970, by which nonces age.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The store in one file. All work is done on two threads of its own; dropping the store waits for what they have begun.
pub struct SqliteStore {
    // Closed first, so that watches end.
    writer: Worker<Job>,
    reader: Worker<Question>,
    tips: [watch::Receiver<()>; Records::ALL.len()],
    clock: Clock,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store in `path`, or makes one there, with mode 0600. Blocks while it reads the file. Refuses what another
    /// process has, others can read, is no store, or is a newer one.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, OpenError> {
        Self::open_within(path, clock, bus::STORE_BYTES / PAGE)
    }

    fn open_within(path: &Path, clock: Clock, pages: u64) -> Result<Self, OpenError> {
        let opened = open::open(path, pages)?;
        let lock = Arc::new(opened.lock);
        let (senders, tips) = Tips::new();
        let io = |source| OpenError::Io { doing: "cannot start the threads of", path: path.to_owned(), source };
        let writer = worker::writer(opened.writer, senders, lock.clone()).map_err(io)?;
        let reader = worker::reader(opened.reader, lock).map_err(io)?;
        Ok(Self { writer, reader, tips, clock })
    }

    async fn write(&self, operation: &Operation, write: Write) -> Result<Verdict, StoreError> {
        let fate = match self.send(write).await {
            Ok(verdict) => return Ok(verdict),
            Err(fate) => fate,
        };
        let operation = operation.clone();
        Err(match fate {
            Fate::NotDone(why) => StoreError::Unavailable { operation, why },
            Fate::Unknown(why) => StoreError::Unknown { operation, why },
        })
    }

    async fn send(&self, write: Write) -> Result<Verdict, Fate> {
        let closed = || Fate::NotDone("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        let jobs = self.writer.jobs().ok_or_else(closed)?;
        let deadline = Instant::now() + bus::STORE_BUDGET;
        match timeout_at(deadline, jobs.send(Job { write, reply })).await {
            Ok(sent) => sent.map_err(|_| closed())?,
            Err(_) => return Err(Fate::NotDone("the disk is too slow: too much is waiting for it".to_owned())),
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Fate::Unknown("the store was closed meanwhile".to_owned())),
            Err(_) => Err(Fate::Unknown("the disk did not answer in time".to_owned())),
        }
    }

    async fn put(
        &self,
        operation: Operation,
        bucket: Records,
        key: &Key,
        value: &[u8],
        expected: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        check_size(&operation, value)?;
        let write = Write::Put { bucket, key: key.clone(), value: value.to_vec(), expected };
        let verdict = self.write(&operation, write).await?;
        written(operation, verdict)
    }

    /// The last revision of a bucket; 0 where nothing was ever written.
    pub async fn last(&self, bucket: Records) -> Result<u64, StoreError> {
        let last = move |connection: &Connection| statements::last(connection, bucket.bucket());
        self.read(&Operation::on("read", bucket.bucket()), last).await
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: &Operation,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(self.reader.jobs(), operation, question).await
    }
}

impl Store for SqliteStore {
    fn get<'a>(&'a self, bucket: Records, key: &'a Key) -> Answer<'a, Option<Entry>> {
        async move {
            let operation = Operation::at("read", bucket.bucket(), key);
            let key = key.clone();
            let found = self.read(&operation, move |connection| statements::get(connection, bucket, &key)).await?;
            Ok(found.map(|(revision, value)| Entry { value: value.into(), revision }))
        }
        .boxed()
    }

    fn written_at<'a>(&'a self, _: Records, _: &'a Key) -> Answer<'a, Option<i64>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn create<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision> {
        self.put(Operation::at("create", bucket.bucket(), key), bucket, key, value, None).boxed()
    }

    fn update<'a>(
        &'a self,
        bucket: Records,
        key: &'a Key,
        value: &'a [u8],
        expected: Revision,
    ) -> Answer<'a, Revision> {
        self.put(Operation::at("update", bucket.bucket(), key), bucket, key, value, Some(expected)).boxed()
    }

    fn beat<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision> {
        async move {
            let operation = Operation::at("beat in", bucket.bucket(), key);
            check_size(&operation, value)?;
            let write = Write::Beat { bucket, key: key.clone(), value: value.to_vec() };
            let unknown = || StoreError::Unknown {
                operation: operation.clone(),
                why: "the disk did not answer in time".to_owned(),
            };
            let beaten = timeout(bus::HEARTBEAT_ROUND, self.write(&operation, write)).await;
            written(operation.clone(), beaten.map_err(|_| unknown())??)
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
            let (prefix, limit) = (prefix.clone(), size.get() + 1);
            let scan = move |connection: &Connection| statements::scan(connection, bucket, &prefix, after.0, limit);
            let found = self.read(&operation, scan).await?;
            let items = found.into_iter().map(|found| keyed(&operation, found)).collect::<Result<Vec<_>, _>>()?;
            Ok(page(items, size, |item| item.entry.revision))
        }
        .boxed()
    }

    fn watch(&self, bucket: Records, after: Position) -> Answer<'_, Events> {
        async move {
            let operation = Operation::on("watch", bucket.bucket());
            let gone = |why: &str| StoreError::Unavailable { operation: operation.clone(), why: why.to_owned() };
            let tips = Records::ALL.iter().zip(&self.tips).find(|(of, _)| **of == bucket);
            let mut tip = tips.map(|(_, tip)| tip.clone()).ok_or_else(|| gone("nobody watches it"))?;
            // From here on whatever is committed is told of; what was before is read.
            tip.mark_unchanged();
            let last = move |connection: &Connection| statements::last(connection, bucket.bucket());
            let last = Position(self.read(&operation, last).await?);
            if last < after {
                return Err(StoreError::Gap { operation, after, last });
            }
            let reader = self.reader.jobs().ok_or_else(|| gone("the store is closed"))?.downgrade();
            let telling = Telling {
                operation,
                bucket,
                reader,
                tip,
                position: after,
                last,
                caught_up: false,
                ready: VecDeque::new(),
            };
            Ok(stream::unfold(Some(telling), |telling| async move {
                let mut telling = telling?;
                let told = telling.next().await;
                let rest = told.is_ok().then_some(telling);
                Some((told, rest))
            })
            .boxed())
        }
        .boxed()
    }

    fn append<'a>(&'a self, record: &'a [u8]) -> Answer<'a, Revision> {
        async move {
            let operation = Operation::on("append to", Bucket::Audit);
            check_size(&operation, record)?;
            let verdict = self.write(&operation, Write::Append { record: record.to_vec() }).await?;
            written(operation, verdict)
        }
        .boxed()
    }

    fn audit(&self, after: Position, size: PageSize) -> Answer<'_, Page<Entry>> {
        async move {
            let operation = Operation::on("read", Bucket::Audit);
            let limit = size.get() + 1;
            let found = self.read(&operation, move |connection| statements::audit(connection, after.0, limit)).await?;
            let items = found.into_iter().map(|(revision, value)| Entry { value: value.into(), revision }).collect();
            Ok(page(items, size, |entry| entry.revision))
        }
        .boxed()
    }

    fn insert_nonce<'a>(&'a self, nonce: &'a Key) -> Answer<'a, Nonce> {
        async move {
            let operation = Operation::at("insert into", Bucket::Nonces, nonce);
            let write = Write::Nonce { nonce: nonce.clone(), now_ms: (self.clock)() };
            match self.write(&operation, write).await? {
                Verdict::Taken => Ok(Nonce::Fresh),
                _ => Ok(Nonce::Replayed),
            }
        }
        .boxed()
    }

    /// One process has the file alone, whatever the authority.
    fn log_nonce<'a>(&'a self, _: &'a str, nonce: &'a Key) -> Answer<'a, Nonce> {
        self.insert_nonce(nonce)
    }
}

/// A watch: what is to be told next, and where to look when there is nothing.
struct Telling {
    operation: Operation,
    bucket: Records,
    // A watch does not keep the store open.
    reader: mpsc::WeakSender<Question>,
    tip: watch::Receiver<()>,
    position: Position,
    /// What it has to reach to have caught up.
    last: Position,
    caught_up: bool,
    ready: VecDeque<Keyed>,
}

impl Telling {
    async fn next(&mut self) -> Result<Event, StoreError> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                self.position = next.entry.revision.into();
                return Ok(Event::Changed(next));
            }
            if !self.caught_up && self.position >= self.last {
                self.caught_up = true;
                return Ok(Event::CaughtUp);
            }
            let (bucket, after) = (self.bucket, self.position.0);
            let scan = move |connection: &Connection| {
                statements::scan(connection, bucket, &Prefix::ALL, after, PageSize::MOST)
            };
            let found = ask(self.reader.upgrade().as_ref(), &self.operation, scan).await?;
            if found.is_empty() && !self.caught_up {
                let (operation, last) = (self.operation.clone(), self.last.0);
                let why = format!("the entry of revision {last} is not there");
                return Err(StoreError::Unreadable { operation, why });
            }
            if found.is_empty() {
                let closed = |_| StoreError::Unavailable {
                    operation: self.operation.clone(),
                    why: "the store was closed".to_owned(),
                };
                self.tip.changed().await.map_err(closed)?;
            }
            self.ready = found.into_iter().map(|found| keyed(&self.operation, found)).collect::<Result<_, _>>()?;
        }
    }
}

async fn ask<T: Send + 'static>(
    reader: Option<&mpsc::Sender<Question>>,
    operation: &Operation,
    question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    ask_within(bus::STORE_BUDGET, reader, operation, question).await
}

async fn ask_within<T: Send + 'static>(
    patience: Duration,
    reader: Option<&mpsc::Sender<Question>>,
    operation: &Operation,
    question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let unavailable = |why: String| StoreError::Unavailable { operation: operation.clone(), why };
    let reader = reader.ok_or_else(|| unavailable("the store is closed".to_owned()))?;
    let (reply, answer) = oneshot::channel();
    let question: Question = Box::new(move |connection| {
        // Whoever no longer waits needs no answer.
        let _ = reply.send(question(connection));
    });
    let asked = async {
        reader.send(question).await.ok()?;
        answer.await.ok()
    };
    match timeout(patience, asked).await {
        Ok(Some(Ok(found))) => Ok(found),
        Ok(Some(Err(error))) => Err(match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Unreadable { operation: operation.clone(), why: error.to_string() }
            }
            _ => unavailable(error.to_string()),
        }),
        Ok(None) => Err(unavailable("the store is closed".to_owned())),
        Err(_) => Err(unavailable("the disk did not answer in time".to_owned())),
    }
}

fn written(operation: Operation, verdict: Verdict) -> Result<Revision, StoreError> {
    match verdict {
        Verdict::Written(revision) => Ok(revision),
        Verdict::Conflict(current) => Err(StoreError::Conflict { operation, current }),
        Verdict::Taken | Verdict::Replayed => {
            Err(StoreError::Unknown { operation, why: "the answer to another question".to_owned() })
        }
    }
}

fn keyed(operation: &Operation, found: Found) -> Result<Keyed, StoreError> {
    let Found { key, revision, value } = found;
    let unreadable =
        |error| StoreError::Unreadable { operation: operation.clone(), why: format!("revision {revision}: {error}") };
    let key = key.parse().map_err(unreadable)?;
    Ok(Keyed { key, entry: Entry { value: value.into(), revision } })
}

/// A page of what was asked for with one more than fits.
fn page<T>(mut items: Vec<T>, size: PageSize, revision: impl Fn(&T) -> Revision) -> Page<T> {
    let more = items.len() > size.get();
    items.truncate(size.get());
    let next = items.last().filter(|_| more).map(|last| revision(last).into());
    Page { items, next }
}

#[cfg(test)]
mod tests;
