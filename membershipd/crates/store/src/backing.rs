//! Where a node keeps its entries: on JetStream, or in a file of its own. Either way its view is fed from there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt;

use super::buckets;
use super::contract::{Event, Keyed, Store};
use super::error::StoreError;
use super::kv::KvStore;
use super::sqlite::SqliteStore;
use super::watch::{self, Delivered, Position};
use crate::link::Link;
use unibus_core::key::Records;

/// Pause before a watch of the file is begun anew.
const BACK_OFF: Duration = Duration::from_millis(250);

/// One of the two stores.
#[derive(Debug, Clone)]
pub enum Backing {
    /// On JetStream, replicated where there is a cluster.
    Kv(KvStore),
    /// In a file that this process alone has.
    Sqlite(Arc<SqliteStore>),
}

impl Backing {
    /// What it is for all who write to it.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Backing::Kv(store) => Arc::new(store.clone()),
            Backing::Sqlite(store) => store.clone(),
        }
    }

    /// The file; none: it is on JetStream.
    pub fn file(&self) -> Option<&Arc<SqliteStore>> {
        match self {
            Backing::Kv(_) => None,
            Backing::Sqlite(store) => Some(store),
        }
    }

    /// Makes what is missing, with so many copies. A file has been made when it was opened.
    pub async fn ensure(&self, link: &Link, copies: usize) {
        if let Backing::Kv(_) = self {
            buckets::ensure(link, copies).await;
        }
    }

    /// Leaves the store in good order before the process ends.
    pub async fn settle(&self) {
        if let Backing::Sqlite(store) = self
            && let Err(error) = store.settle().await
        {
            tracing::info!("the write-ahead log stays beside the file: {error}");
        }
    }

    /// Reads all that is in `bucket` now, oldest change first, into `apply(key, value, revision)`.
    pub async fn load(
        &self,
        link: &Link,
        bucket: Records,
        apply: impl FnMut(&str, &[u8], u64) -> Result<()>,
    ) -> Result<Position> {
        match self {
            Backing::Kv(_) => watch::load(link, bucket.bucket(), apply).await,
            Backing::Sqlite(store) => load(store, bucket, apply).await,
        }
    }

    /// Tells `apply` every change of `bucket` after `position`. Ends with an error only where `apply` does, or where there is
    /// no way on.
    pub async fn follow(
        &self,
        link: &Link,
        bucket: Records,
        position: Position,
        apply: impl FnMut(Delivered<'_>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Backing::Kv(_) => watch::follow(link, bucket.bucket(), position, apply).await,
            Backing::Sqlite(store) => follow(store, bucket, position, apply).await,
        }
    }
}

/// [`Backing::load`] from a file.
pub async fn load(
    store: &SqliteStore,
    bucket: Records,
    mut apply: impl FnMut(&str, &[u8], u64) -> Result<()>,
) -> Result<Position> {
    let mut events = store.watch(bucket, Position::default()).await?;
    let mut position = Position::default();
    while let Some(event) = events.next().await {
        match event? {
            Event::CaughtUp => return Ok(position),
            Event::Changed(Keyed { key, entry }) => {
                apply(key.as_str(), &entry.value, entry.revision.get())?;
                position = entry.revision.into();
            }
        }
    }
    bail!("the watch of {} ended before it had told everything", bucket.bucket().name())
}

/// [`Backing::follow`] of a file.
pub async fn follow(
    store: &SqliteStore,
    bucket: Records,
    mut position: Position,
    mut apply: impl FnMut(Delivered<'_>) -> Result<()>,
) -> Result<()> {
    loop {
        let broke = match store.watch(bucket, position).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Some(Ok(Event::Changed(Keyed { key, entry }))) => {
                        let revision = entry.revision.get();
                        // Asked for now: whether it was the last one then, nobody knows any more.
                        let last = match store.last(bucket).await {
                            Ok(last) => last == revision,
                            Err(error) => break error.to_string(),
                        };
                        apply(Delivered { key: key.as_str(), value: &entry.value, revision, last })?;
                        position = entry.revision.into();
                    }
                    Some(Ok(Event::CaughtUp)) => {}
                    Some(Err(error)) => break error.to_string(),
                    None => break "it ended".to_owned(),
                }
            },
            Err(error @ (StoreError::Gap { .. } | StoreError::Unreadable { .. })) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        tracing::debug!(bucket = bucket.bucket().name(), "watching anew: {broke}");
        tokio::time::sleep(BACK_OFF).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract::Revision;
    use super::super::scratch::Dir;
    use super::*;
    use unibus_core::key::Key;

    fn key(name: &str) -> Key {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn a_file_feeds_a_view_like_a_cluster_does() {
        let dir = Dir::new();
        let store = Arc::new(SqliteStore::open(&dir.path().join("db"), Arc::new(|| 0)).unwrap());
        let first = store.create(Records::Users, &key("a"), b"1").await.unwrap();
        store.create(Records::Users, &key("b"), b"2").await.unwrap();
        store.update(Records::Users, &key("a"), b"3", first).await.unwrap();
        let mut told = Vec::new();
        let position = load(&store, Records::Users, |key, value, revision| {
            told.push((key.to_owned(), value.to_vec(), revision));
            Ok(())
        });
        assert_eq!(position.await.unwrap(), Position(3));
        assert_eq!(told, [("b".to_owned(), b"2".to_vec(), 2), ("a".to_owned(), b"3".to_vec(), 3)]);
        assert_eq!(load(&store, Records::Rooms, |_, _, _| Ok(())).await.unwrap(), Position(0));

        let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let following = store.clone();
        let task = tokio::spawn(async move {
            let told = |told: Delivered<'_>| Ok(heard.send((told.revision, told.last))?);
            follow(&following, Records::Users, Position(3), told).await
        });
        store.beat(Records::Users, &key("a"), b"4").await.unwrap();
        assert_eq!(hear.recv().await, Some((4, true)));
        drop(hear);
        store.beat(Records::Users, &key("a"), b"5").await.unwrap();
        assert!(task.await.unwrap().is_err(), "whoever is told can end it");

        let gap = follow(&store, Records::Users, Revision::new(9).unwrap().into(), |_| Ok(())).await;
        assert!(gap.unwrap_err().to_string().contains("only reaches 5"));
    }
}
