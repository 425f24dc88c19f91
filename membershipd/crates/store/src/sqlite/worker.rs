//! The threads behind the file: one writes, many changes to a commit; one reads. SQLite blocks, the runtime must not.

use std::io;
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::statements::{self, Verdict, Write};
use unibus_core::key::Records;

/// Changes that share one commit at most. Each commit is synced, and that is what takes the time.
const BATCH: usize = 64;
/// Jobs that may wait for a thread; who comes later waits for a place.
const WAITING: usize = 256;

/// Why a change was not made, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Certainly not made.
    NotDone(String),
    /// Perhaps made: the commit failed, and may be found in the log all the same when the file is next opened.
    Unknown(String),
}

/// A change and who waits for it.
pub(super) struct Job {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Verdict, Fate>>,
}

/// A question and the way back to who asked, in one.
pub(super) type Question = Box<dyn FnOnce(&Connection) + Send>;

/// A thread and the way to it. Dropping it waits until the thread has closed its connection, so that the file can be opened
/// again at once.
pub(super) struct Worker<T> {
    jobs: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    fn spawn(name: &str, run: impl FnOnce(mpsc::Receiver<T>) + Send + 'static) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel(WAITING);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(receiver))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Where jobs go; none: it is being closed.
    pub(super) fn jobs(&self) -> Option<&mpsc::Sender<T>> {
        self.jobs.as_ref()
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the store had panicked");
        }
    }
}

/// Says which buckets have changed. The values are read again by whoever is told, so nothing can be missed on the way.
#[derive(Debug)]
pub(super) struct Tips([watch::Sender<()>; Records::ALL.len()]);

impl Tips {
    /// One sender a bucket, and what listens to them.
    pub(super) fn new() -> (Self, [watch::Receiver<()>; Records::ALL.len()]) {
        let tips = Self(Records::ALL.map(|_| watch::Sender::new(())));
        let listening = tips.0.each_ref().map(watch::Sender::subscribe);
        (tips, listening)
    }

    fn changed(&self, jobs: &[Job]) {
        for (bucket, tip) in Records::ALL.iter().zip(&self.0) {
            if jobs.iter().any(|job| job.write.bucket() == Some(*bucket)) {
                tip.send_replace(());
            }
        }
    }
}

/// Starts the thread that writes. With `held` it gives the right to the file back.
pub(super) fn writer(mut connection: Connection, tips: Tips, held: impl Send + 'static) -> io::Result<Worker<Job>> {
    Worker::spawn("store-writer", move |mut jobs: mpsc::Receiver<Job>| {
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            let outcomes = carry_out(&mut connection, batch.iter().map(|job| &job.write));
            // Also where the outcome is unknown: whoever watches reads what there is.
            tips.changed(&batch);
            for (job, outcome) in batch.drain(..).zip(outcomes) {
                // Whoever no longer waits took it for unknown.
                let _ = job.reply.send(outcome);
            }
            if !connection.is_autocommit() {
                tracing::error!("a transaction could not be taken back; the store is closed");
                break;
            }
        }
        drop(connection);
        drop(held);
    })
}

/// Starts the thread that reads.
pub(super) fn reader(connection: Connection, held: impl Send + 'static) -> io::Result<Worker<Question>> {
    Worker::spawn("store-reader", move |mut questions: mpsc::Receiver<Question>| {
        while let Some(question) = questions.blocking_recv() {
            question(&connection);
        }
        drop(connection);
        drop(held);
    })
}

/// Makes changes in one transaction. Where it fails before its commit, none is made; where the commit fails, nobody knows.
pub(super) fn carry_out<'a>(
    connection: &mut Connection,
    writes: impl ExactSizeIterator<Item = &'a Write>,
) -> Vec<Result<Verdict, Fate>> {
    let count = writes.len();
    let none = |error: rusqlite::Error| vec![Err(Fate::NotDone(error.to_string())); count];
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => return none(error),
    };
    let verdicts = writes.map(|write| statements::apply(&transaction, write)).collect::<Result<Vec<_>, _>>();
    let verdicts = match verdicts {
        Ok(verdicts) => verdicts,
        Err(error) => return none(error),
    };
    match transaction.commit() {
        Ok(()) => verdicts.into_iter().map(Ok).collect(),
        Err(error) => {
            // What changed nothing is certain; but it may have been decided on what is now unknown.
            let fate = |verdict: Verdict| if verdict.changes() { Fate::Unknown } else { Fate::NotDone };
            verdicts.into_iter().map(|verdict| Err(fate(verdict)(error.to_string()))).collect()
        }
    }
}
