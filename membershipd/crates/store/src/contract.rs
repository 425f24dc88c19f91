//! The store: what the daemon asks of whatever keeps its entries, whoever that is.
//!
//! The trait is object-safe: which store it is, a flag says at start, and tests put one in between that fails on purpose; a
//! type parameter for that would go through every layer above. The box that each call costs is nothing beside a replicated
//! or synced write.

use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use super::error::{Operation, StoreError};
use super::watch::Position;
use unibus_core::bus;
use unibus_core::key::{Key, Prefix, Records};

/// A number that every change of an entry makes larger, and that no two changes in a bucket share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(NonZeroU64);

impl Revision {
    /// The revision with this number; 0 is none.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// Its number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Revision> for Position {
    fn from(revision: Revision) -> Self {
        Position(revision.get())
    }
}

/// A value and the revision that a change of it must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T = Bytes> {
    /// The value. That of something removed is its tombstone: there is no delete.
    pub value: T,
    /// Its revision.
    pub revision: Revision,
}

/// An entry and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// Its key.
    pub key: Key,
    /// The entry.
    pub entry: Entry,
}

/// Some of the entries that were asked for, oldest change first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; none: there is no more.
    pub next: Option<Position>,
}

/// How many entries a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(usize);

impl PageSize {
    /// The most that a page may have.
    pub const MOST: usize = 500;

    /// `entries`, but at least 1 and at most [`Self::MOST`].
    pub fn of(entries: usize) -> Self {
        Self(entries.clamp(1, Self::MOST))
    }

    /// The number of entries.
    pub fn get(self) -> usize {
        self.0
    }
}

/// What a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry was written.
    Changed(Keyed),
    /// All that was there when the watch began has been told. Said once.
    CaughtUp,
}

/// What became of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonce {
    /// It was never seen within its time, and is remembered now.
    Fresh,
    /// It was used before.
    Replayed,
}

/// An answer that takes its time.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The events of a watch. The first error is its last word.
pub type Events = BoxStream<'static, Result<Event, StoreError>>;

/// Entries by key in buckets, each changed by compare-and-set alone.
///
/// - What was answered with a revision survives the crash of the process, and, as far as the disk keeps what it synced, of
///   the machine. In a cluster it survives whatever leaves a majority of the copies.
/// - `Conflict`, `Unavailable` and `Refused` mean: certainly not done, now or later. `Unknown` means that nobody knows, and it
///   may still be done later.
/// - A read may show what was current a moment ago, even in a healthy store. Only a compare-and-set proves that it still was.
/// - Every answer comes within [`bus::STORE_BUDGET`] and a little.
/// - A future that is dropped leaves what it was asked for undone, done, or to be done: as `Unknown`.
pub trait Store: fmt::Debug + Send + Sync {
    /// The entry `key` of `bucket`, if there is one.
    fn get<'a>(&'a self, bucket: Records, key: &'a Key) -> Answer<'a, Option<Entry>>;

    /// When the entry `key` was written as it is, milliseconds since 1970, by the clock of the engine that led its stream then; none:
    /// there is no such entry, or the store keeps no times. After a restore it is the time of that.
    fn written_at<'a>(&'a self, bucket: Records, key: &'a Key) -> Answer<'a, Option<i64>>;

    /// Writes an entry that never was; a tombstone is one that was.
    fn create<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision>;

    /// Replaces the entry that still has the revision `expected`.
    fn update<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8], expected: Revision)
    -> Answer<'a, Revision>;

    /// Writes a sign of life of this process under `key`, whatever was there, in one attempt that takes
    /// [`bus::HEARTBEAT_ROUND`] at most. Nobody else writes that key, so there is nothing to compare with.
    fn beat<'a>(&'a self, bucket: Records, key: &'a Key, value: &'a [u8]) -> Answer<'a, Revision>;

    /// Entries last changed after `after`, in the order of their changes. What is changed between two pages is on a later one,
    /// again if need be: nothing is missed. For a whole bucket a watch is quicker.
    fn scan<'a>(
        &'a self,
        bucket: Records,
        prefix: &'a Prefix,
        after: Position,
        size: PageSize,
    ) -> Answer<'a, Page<Keyed>>;

    /// Every entry changed after `after`, in the order of the changes, for as long as somebody listens. A value that was
    /// replaced before it could be told may be left out; the last value of a key never is. What the watch cannot tell for
    /// certain it reports as an error, after which it ends; whoever begins anew then pauses first.
    fn watch(&self, bucket: Records, after: Position) -> Answer<'_, Events>;

    /// Adds a record to the end of the audit log; the revision is its number there. Records are never changed.
    fn append<'a>(&'a self, record: &'a [u8]) -> Answer<'a, Revision>;

    /// Records of the audit log after `after`, in their order.
    fn audit(&self, after: Position, size: PageSize) -> Answer<'_, Page<Entry>>;

    /// Remembers a nonce for as long as [`unibus_core::bus::Bucket::max_age`] says. Of all who insert it within that time one is
    /// told `Fresh`, at most: where the outcome is unknown, nobody.
    fn insert_nonce<'a>(&'a self, nonce: &'a Key) -> Answer<'a, Nonce>;

    /// Remembers a nonce of a request to `authority`, which has one spelling, as long, and told to one as well. Where many requests come to
    /// an authority that one node has alone this costs far less. In a cluster whose nodes all know it it takes the place of
    /// [`Self::insert_nonce`], after which no node may go back.
    fn log_nonce<'a>(&'a self, authority: &'a str, nonce: &'a Key) -> Answer<'a, Nonce>;

    /// From now on nonces are logged: a store that has to note them both ways for a while begins to count that.
    fn begin_log(&self) {}
}

/// Refuses values that not every store could take.
pub(super) fn check_size(operation: &Operation, value: &[u8]) -> Result<(), StoreError> {
    if value.len() <= bus::VALUE_BYTES {
        return Ok(());
    }
    let why = format!("the value has {} bytes, and at most {} can be stored", value.len(), bus::VALUE_BYTES);
    Err(StoreError::Refused { operation: operation.clone(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded() {
        assert_eq!([0, 1, 7, usize::MAX].map(|n| PageSize::of(n).get()), [1, 1, 7, PageSize::MOST]);
    }

    #[test]
    fn there_is_no_revision_zero() {
        assert_eq!(Revision::new(0), None);
        assert_eq!(Revision::new(3).map(Position::from), Some(Position(3)));
    }
}
