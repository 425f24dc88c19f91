//! An attachment carried over from a copy: its pieces come one by one from whoever keeps count of them, and are read back before it
//! becomes visible.

use futures::TryStreamExt;

use bytes::Bytes;

use super::error::BlobError;
use super::name::{BlobName, Body};
use super::reading::read;
use super::record::BlobRecord;
use super::stream::Blobs;
use unibus_core::bus::{BLOB_CHUNK_BYTES, Bucket};
use unibus_core::domain::Handle;
use unibus_store::{WriteError, append, put};

impl Blobs {
    /// The first piece of `name` at or after the sequence `from`, with its own; none: there is no more, or it was removed.
    pub async fn piece(&self, name: &BlobName, from: u64) -> Result<Option<(Bytes, u64)>, BlobError> {
        match self.find(name).await? {
            // A sequence is 1 at least.
            Some(record) => self.chunk(record.body, from.max(1)).await,
            None => Ok(None),
        }
    }

    /// Writes a piece of `name`, in the order of pieces; `upload` is random and the same for all of them.
    pub async fn carry_piece(&self, name: &BlobName, upload: [u8; 16], piece: &[u8]) -> Result<(), BlobError> {
        if piece.len() > BLOB_CHUNK_BYTES {
            return Err(BlobError::Damaged { why: format!("a piece of it has more than {BLOB_CHUNK_BYTES} bytes") });
        }
        self.admit(u64::try_from(piece.len()).unwrap_or(u64::MAX)).await?;
        let link = self.link("write to")?;
        let written = append(&link, Bucket::Blobs, &Body::new(name, upload).key(), piece).await;
        written.map(drop).map_err(|error| BlobError::of_write("write to", error))
    }

    /// Reads back what was written with `upload`, and makes it visible if it is what `name` says.
    pub async fn carry_over(
        &self,
        name: &BlobName,
        by: &Handle,
        at_ms: i64,
        bytes: u64,
        upload: [u8; 16],
        chunks: u64,
    ) -> Result<(), BlobError> {
        let body = Body::new(name, upload);
        let record = BlobRecord { name: name.clone(), by: by.clone(), at_ms, bytes, chunks, body };
        let whole = read(self.clone(), record.clone()).try_for_each(|_| std::future::ready(Ok(()))).await;
        if let Err(error) = whole {
            self.discard(body).await?;
            return Err(error);
        }
        if chunks == 0 {
            return Err(BlobError::Damaged { why: "it has no bytes".to_owned() });
        }
        let json = record.to_json().map_err(|why| BlobError::Damaged { why })?;
        let link = self.link("add to")?;
        match put(&link, Bucket::Blobs, &name.key(), &json, 0).await {
            Ok(_) => Ok(()),
            // What is there is compared afterwards.
            Err(WriteError::Conflict) => self.discard(body).await,
            Err(error) => Err(BlobError::of_write("add to", error)),
        }
    }
}
