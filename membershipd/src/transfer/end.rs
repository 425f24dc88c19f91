//! An end of a copy: what can be read a page at a time, and written where nothing is.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::blobs::BlobEnd;
use super::error::TransferError;
use super::messages::Messages;
use unibus_api_types::control::Part;
use unibus_core::bus::{self};
use unibus_store::{
    Entry, Event, Key, Keyed, Operation, PageSize, Position, Prefix, Records, Revision, SqliteStore, Store, StoreError,
};

/// Bytes of keys and values that go together at most, unless a single one is larger.
pub const BATCH_BYTES: usize = 1 << 20;
/// Entries that are asked for one by one, before the rest is watched: what a quiet round finds.
const FEW: usize = 32;
/// Entries that are written at once: the store puts them into as few syncs as it can.
const AT_ONCE: usize = 64;

/// What is copied: an entry, or a record of the audit log, which has no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its key.
    pub key: Option<Key>,
    /// Its value.
    pub value: Bytes,
    /// Its revision, or its number in the log.
    pub revision: Revision,
}

impl Item {
    fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, |key| key.as_str().len()) + self.value.len()
    }
}

/// Some items of a part, oldest change first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// The items.
    pub items: Vec<Item>,
    /// Where to go on; none: there is no more.
    pub next: Option<Position>,
}

impl Items {
    /// As many of `items` as go together; `next` is where it goes on after all of them.
    pub fn cut(items: Vec<Item>, next: Option<Position>) -> Self {
        let fit = together(&items);
        let mut items = items;
        let more = fit < items.len();
        items.truncate(fit);
        let next = if more { items.last().map(|last| last.revision.into()) } else { next };
        Self { items, next }
    }
}

/// How many of the first items go together: at least one.
pub(super) fn together(items: &[Item]) -> usize {
    let mut bytes = 0usize;
    let fit = items.iter().take_while(|item| {
        bytes = bytes.saturating_add(item.bytes());
        bytes <= BATCH_BYTES
    });
    fit.count().max(1).min(items.len())
}

/// What became of an item that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Put {
    /// It is there now.
    Written,
    /// There was an entry already.
    There,
}

/// An answer that takes its time.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, TransferError>>;

/// One of the two ends.
pub trait End: Send + Sync {
    /// Items of `part` changed after `after`.
    fn read(&self, part: Part, after: Position) -> Answer<'_, Items>;

    /// Writes items that together are at most [`BATCH_BYTES`] long, each where there is no entry; records at the end of the log,
    /// in their order.
    fn write(&self, part: Part, items: Vec<Item>) -> Answer<'_, Vec<Put>>;

    /// What was said in its rooms.
    fn messages(&self) -> &dyn Messages;
    /// Its attachments; none: it has no place for any.
    fn blobs(&self) -> Option<&dyn BlobEnd> {
        None
    }
}

/// A store that is at hand, and the messages beside it.
#[derive(Clone)]
pub struct OfStore {
    store: Arc<dyn Store>,
    messages: Arc<dyn Messages>,
    blobs: Option<Arc<dyn BlobEnd>>,
}

impl OfStore {
    /// `store`, of whose rooms `messages` are.
    pub fn new(store: Arc<dyn Store>, messages: Arc<dyn Messages>) -> Self {
        Self { store, messages, blobs: None }
    }

    /// The same, with its attachments.
    pub fn with_blobs(self, blobs: Arc<dyn BlobEnd>) -> Self {
        Self { blobs: Some(blobs), ..self }
    }

    /// A file, in which all is.
    pub fn file(file: Arc<SqliteStore>) -> Self {
        Self { store: file.clone(), messages: file.clone(), blobs: Some(file) }
    }
}

impl End for OfStore {
    fn read(&self, part: Part, after: Position) -> Answer<'_, Items> {
        async move {
            let (items, next) = match part {
                Part::Records(records) => self.entries(records, after).await?,
                Part::Audit => {
                    let page = self.store.audit(after, PageSize::of(PageSize::MOST)).await?;
                    let item = |entry: Entry| Item { key: None, value: entry.value, revision: entry.revision };
                    (page.items.into_iter().map(item).collect(), page.next)
                }
            };
            Ok(Items::cut(items, next))
        }
        .boxed()
    }

    fn blobs(&self) -> Option<&dyn BlobEnd> {
        self.blobs.as_deref()
    }

    fn write(&self, part: Part, items: Vec<Item>) -> Answer<'_, Vec<Put>> {
        async move {
            match part {
                Part::Records(records) => {
                    let puts = stream::iter(items).map(|item| self.put(records, item)).buffered(AT_ONCE);
                    puts.collect::<Vec<_>>().await.into_iter().collect()
                }
                Part::Audit => {
                    let mut puts = Vec::with_capacity(items.len());
                    for item in items {
                        self.store.append(&item.value).await?;
                        puts.push(Put::Written);
                    }
                    Ok(puts)
                }
            }
        }
        .boxed()
    }

    fn messages(&self) -> &dyn Messages {
        &*self.messages
    }
}

impl OfStore {
    /// A few entries are scanned; of many the rest is watched, which a cluster tells a hundred times as fast.
    async fn entries(&self, records: Records, after: Position) -> Result<(Vec<Item>, Option<Position>), TransferError> {
        let item = |Keyed { key, entry }| Item { key: Some(key), value: entry.value, revision: entry.revision };
        let page = self.store.scan(records, &Prefix::ALL, after, PageSize::of(FEW)).await?;
        let mut items: Vec<Item> = page.items.into_iter().map(item).collect();
        let Some(next) = page.next else { return Ok((items, None)) };
        let mut bytes: usize = items.iter().map(Item::bytes).sum();
        let mut events = self.store.watch(records, next).await?;
        while bytes <= BATCH_BYTES {
            let broke = |why: &str| StoreError::Unavailable {
                operation: Operation::on("watch", records.bucket()),
                why: why.to_owned(),
            };
            let told = timeout(bus::STORE_BUDGET, events.next()).await.map_err(|_| broke("nothing arrives"))?;
            match told.ok_or_else(|| broke("the watch ended"))?? {
                Event::CaughtUp => return Ok((items, None)),
                Event::Changed(keyed) => {
                    let item = item(keyed);
                    bytes = bytes.saturating_add(item.bytes());
                    items.push(item);
                }
            }
        }
        let next = items.last().map(|last| last.revision.into());
        Ok((items, next))
    }

    async fn put(&self, records: Records, item: Item) -> Result<Put, TransferError> {
        let Some(key) = item.key else { return Err(TransferError::nameless(Part::Records(records))) };
        match self.store.create(records, &key, &item.value).await {
            Ok(_) => Ok(Put::Written),
            Err(StoreError::Conflict { .. }) => Ok(Put::There),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bytes: usize, revision: u64) -> Item {
        Item { key: None, value: vec![0; bytes].into(), revision: Revision::new(revision).unwrap() }
    }

    #[test]
    fn what_goes_together_is_bounded_and_never_nothing() {
        let whole = Items::cut(vec![item(1, 1), item(2, 2)], None);
        assert_eq!((whole.items.len(), whole.next), (2, None));
        let cut = Items::cut(vec![item(BATCH_BYTES, 3), item(1, 7)], Some(Position(9)));
        assert_eq!((cut.items.len(), cut.next), (1, Some(Position(3))));
        assert_eq!(Items::cut(vec![item(BATCH_BYTES + 1, 3)], Some(Position(3))).items.len(), 1);
        assert_eq!(Items::cut(Vec::new(), None), Items { items: Vec::new(), next: None });
    }

    #[test]
    fn parts_have_names() {
        for part in Part::ALL {
            assert_eq!(Part::try_from(String::from(part)), Ok(part));
        }
        assert!(Part::try_from("UNIBUS_nonces".to_owned()).is_err());
        assert_eq!(Part::ALL.len(), Records::ALL.len() + 1, "all that has versions, and the log");
    }
}
