//! The stream behind the attachments: what is in it, and how it is read and purged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, State};
use bytes::Bytes;
use futures::TryStreamExt;
use tokio::sync::watch;

use super::error::BlobError;
use super::name::{BlobName, Body, CHUNKS, RECORDS};
use super::record::BlobRecord;
use unibus_core::bus::{self, Bucket};
use unibus_store::link::Link;
use unibus_store::{Operation, StoreError, asked_again, look};

/// The part of the bucket that uploads may fill, in hundredths: the rest is for what is being added at this moment on other
/// nodes, and for chunks that nobody has swept yet.
const FILLED: u64 = 80;
/// Attachments of all rooms together. All their names are looked through for a list or a sweep, 200 bytes each.
const BLOBS_MOST: u64 = 20_000;

/// The attachments, through whichever engine the daemon is linked to.
#[derive(Debug, Clone)]
pub struct Blobs {
    link: watch::Receiver<Option<Arc<Link>>>,
    /// Bytes that uploads under way on this node may still bring.
    pub(super) expected: Arc<AtomicU64>,
}

/// What the attachments take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all messages.
    pub bytes: u64,
    /// Keys: one for the record of each attachment and one for its chunks.
    pub keys: u64,
}

impl Usage {
    /// Whether `more` bytes may be added.
    fn admits(self, more: u64, most: u64) -> Result<(), BlobError> {
        let fill = most / 100 * FILLED;
        if self.bytes.saturating_add(more) > fill {
            return Err(BlobError::Full { why: format!("{} of {fill} bytes are in use", self.bytes) });
        }
        if self.keys / 2 >= BLOBS_MOST {
            return Err(BlobError::Full { why: format!("there are {BLOBS_MOST} of them") });
        }
        Ok(())
    }
}

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) record: BlobRecord,
    pub(super) sequence: u64,
}

impl Blobs {
    /// Attachments that are reached through `link`, as it comes and goes.
    pub fn new(link: watch::Receiver<Option<Arc<Link>>>) -> Self {
        Self { link, expected: Arc::default() }
    }

    pub(super) fn link(&self, verb: &'static str) -> Result<Arc<Link>, BlobError> {
        let link = self.link.borrow().clone();
        link.ok_or_else(|| BlobError::unavailable(verb, "there is no session with the engine"))
    }

    /// What is known of `name`; none: there is no such attachment.
    pub async fn find(&self, name: &BlobName) -> Result<Option<BlobRecord>, BlobError> {
        Ok(self.found(name).await?.map(|found| found.record))
    }

    pub(super) async fn found(&self, name: &BlobName) -> Result<Option<Found>, BlobError> {
        let Some(message) = self.last(&name.key()).await? else { return Ok(None) };
        let record = BlobRecord::read(name, &message.payload).map_err(|why| StoreError::Unreadable {
            operation: Operation::on("read", Bucket::Blobs),
            why: format!("message {}: {why}", message.sequence),
        })?;
        Ok(Some(Found { record, sequence: message.sequence }))
    }

    /// The last message under `key`.
    pub(super) async fn last(&self, key: &str) -> Result<Option<StreamMessage>, BlobError> {
        let link = self.link("read")?;
        let ask = || async { look(&link, Bucket::Blobs, key).await.map_err(|_| SILENT.to_owned()) };
        let asked = asked_again(&link, Instant::now() + bus::STORE_BUDGET, ask).await;
        asked.map_err(|why| BlobError::unavailable("read", why))
    }

    /// The first chunk of `body` at or after the sequence `from`, with its own; none: there is no more.
    pub(super) async fn chunk(&self, body: Body, from: u64) -> Result<Option<(Bytes, u64)>, BlobError> {
        let link = self.link("read")?;
        let subject = format!("{}{}", Bucket::Blobs.key_prefix(), body.key());
        let ask = || async {
            let stream = link.jetstream.get_stream_no_info(Bucket::Blobs.stream()).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let found = stream.raw_message_builder().sequence(from).next_by_subject(subject.as_str()).send().await;
            match found {
                Ok(message) => Ok(Some((message.payload, message.sequence))),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(format!("{SILENT}: {error}")),
            }
        };
        let asked = asked_again(&link, Instant::now() + bus::STORE_BUDGET, ask).await;
        asked.map_err(|why| BlobError::unavailable("read", why))
    }

    /// What all attachments take together, by the word of the stream's leader.
    pub async fn usage(&self) -> Result<Usage, BlobError> {
        let link = self.link("read")?;
        let ask = || async {
            let stream = link.jetstream.get_stream(Bucket::Blobs.stream()).await.map_err(|error| error.to_string())?;
            let State { bytes, subjects_count, .. } = stream.cached_info().state;
            Ok(Usage { bytes, keys: subjects_count })
        };
        let asked = asked_again(&link, Instant::now() + bus::STORE_BUDGET, ask).await;
        asked.map_err(|why: String| BlobError::unavailable("read", why))
    }

    /// Refuses where `more` bytes are too much, those that are on their way counted.
    pub(super) async fn admit(&self, more: u64) -> Result<(), BlobError> {
        let coming = self.expected.load(Ordering::Relaxed);
        let most = Bucket::Blobs.max_bytes().unwrap_or(u64::MAX);
        self.usage().await?.admits(more.saturating_add(coming), most)
    }

    /// The names of all attachments, in their order.
    pub async fn names(&self) -> Result<BTreeSet<BlobName>, BlobError> {
        let keys = self.keys(RECORDS).await?;
        Ok(keys.keys().filter_map(|key| BlobName::of_key(key)).collect())
    }

    /// All chunks that there are, by the upload that they came with.
    pub(super) async fn bodies(&self) -> Result<BTreeSet<Body>, BlobError> {
        Ok(self.keys(CHUNKS).await?.keys().filter_map(|key| Body::of_key(key)).collect())
    }

    /// Keys that begin with `prefix`, and how many messages each has.
    async fn keys(&self, prefix: &str) -> Result<BTreeMap<String, usize>, BlobError> {
        let link = self.link("list")?;
        let ask = || async {
            let stream = link.jetstream.get_stream_no_info(Bucket::Blobs.stream()).await;
            let stream = stream.map_err(|error| error.to_string())?;
            let before = Bucket::Blobs.key_prefix();
            let subjects = stream.info_with_subjects(format!("{before}{prefix}>")).await;
            let subjects = subjects.map_err(|error| error.to_string())?;
            let all: Vec<(String, usize)> = subjects.try_collect().await.map_err(|error| error.to_string())?;
            let key = |(subject, count): (String, usize)| Some((subject.strip_prefix(&before)?.to_owned(), count));
            Ok(all.into_iter().filter_map(key).collect())
        };
        let asked = asked_again(&link, Instant::now() + bus::STORE_BUDGET, ask).await;
        asked.map_err(|why: String| BlobError::unavailable("list", why))
    }

    /// Removes `name` for whoever asks later; says what it was, or that there is no such attachment. Chunks that are left when
    /// this breaks off are swept.
    pub async fn remove(&self, name: &BlobName) -> Result<Option<BlobRecord>, BlobError> {
        let Some(Found { record, sequence }) = self.found(name).await? else { return Ok(None) };
        // No further: somebody may add it again at this moment.
        self.purge(&name.key(), Some(sequence)).await?;
        if let Err(error) = self.discard(record.body).await {
            tracing::info!("the chunks of an attachment that was removed are left to the sweep: {error}");
        }
        Ok(Some(record))
    }

    /// Removes chunks.
    pub(super) async fn discard(&self, body: Body) -> Result<(), BlobError> {
        self.purge(&body.key(), None).await
    }

    /// Purges the messages under `key`, up to the sequence `last`, and that one too. Repeating is safe.
    async fn purge(&self, key: &str, last: Option<u64>) -> Result<(), BlobError> {
        let link = self.link("remove from")?;
        let subject = format!("{}{key}", Bucket::Blobs.key_prefix());
        let ask = || async {
            let stream = link.jetstream.get_stream_no_info(Bucket::Blobs.stream()).await;
            let purge = stream.map_err(|error| error.to_string())?.purge().filter(subject.as_str());
            let purged = match last {
                // It purges what comes before the sequence it is given.
                Some(last) => purge.sequence(last.saturating_add(1)).await,
                None => purge.await,
            };
            purged.map(drop).map_err(|error| error.to_string())
        };
        let asked = asked_again(&link, Instant::now() + bus::STORE_BUDGET, ask).await;
        // It may have been purged, or may still be.
        let operation = Operation::on("remove from", Bucket::Blobs);
        asked.map_err(|why| StoreError::Unknown { operation, why }.into())
    }
}

const SILENT: &str = "its leader does not answer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_stop_while_there_is_room_for_what_is_under_way() {
        let used = |bytes, keys| Usage { bytes, keys };
        assert!(used(700, 4).admits(100, 1_000).is_ok());
        let full = used(701, 4).admits(100, 1_000).unwrap_err();
        assert_eq!(full, BlobError::Full { why: "701 of 800 bytes are in use".to_owned() });
        assert!(used(u64::MAX, 4).admits(100, 1_000).is_err());
        assert!(used(0, 2 * BLOBS_MOST - 1).admits(1, 1_000).is_ok());
        assert!(used(0, 2 * BLOBS_MOST).admits(1, 1_000).is_err());
    }

    #[tokio::test]
    async fn without_an_engine_nothing_is_said_to_be_there_or_not() {
        let blobs = Blobs::new(watch::channel(None).1);
        let error = blobs.names().await.unwrap_err();
        assert!(matches!(error, BlobError::Store(StoreError::Unavailable { .. })), "{error}");
    }
}
