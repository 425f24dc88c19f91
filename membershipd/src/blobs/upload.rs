//! Adding an attachment: chunks as they come, the digest over them, and the record last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::error::BlobError;
use super::name::{BlobName, Body};
use super::record::BlobRecord;
use super::stream::{Blobs, Found};
use unibus_api_types::BlobId;
use unibus_core::bus::{BLOB_CHUNK_BYTES, Bucket};
use unibus_core::domain::Handle;
use unibus_store::{WriteError, append, put};

/// An upload under way. It holds one chunk at most. Dropped in the middle, it leaves what it has written to the sweep.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    name: BlobName,
    body: Body,
    rest: BytesMut,
    hash: Sha256,
    bytes: u64,
    chunks: u64,
    _reserved: Reserved,
}

/// What an upload came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// What is there now.
    pub record: BlobRecord,
    /// False where it was there already.
    pub changed: bool,
}

/// Bytes that are counted as taken until the upload ends.
#[derive(Debug)]
struct Reserved {
    expected: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.expected.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Upload {
    /// Begins to add `name`, which has `bytes` bytes, where there is room for them; `entropy` is random.
    pub async fn begin(blobs: &Blobs, name: BlobName, bytes: u64, entropy: [u8; 16]) -> Result<Self, BlobError> {
        blobs.admit(bytes).await?;
        blobs.expected.fetch_add(bytes, Ordering::Relaxed);
        let reserved = Reserved { expected: blobs.expected.clone(), bytes };
        let body = Body::new(&name, entropy);
        let (rest, hash) = (BytesMut::new(), Sha256::new());
        Ok(Self { blobs: blobs.clone(), name, body, rest, hash, bytes: 0, chunks: 0, _reserved: reserved })
    }

    /// Adds a piece of any length. Chunks that it completes are acknowledged by a quorum when this returns.
    pub async fn push(&mut self, mut piece: Bytes) -> Result<(), BlobError> {
        while !piece.is_empty() {
            let fits = (BLOB_CHUNK_BYTES - self.rest.len()).min(piece.len());
            self.rest.extend_from_slice(piece.get(..fits).unwrap_or_default());
            piece.advance(fits);
            if self.rest.len() == BLOB_CHUNK_BYTES {
                self.write().await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), BlobError> {
        let link = self.blobs.link("write to")?;
        let chunk = std::mem::take(&mut self.rest);
        // One after the other: their order is that of their sequences.
        let written = append(&link, Bucket::Blobs, &self.body.key(), &chunk).await;
        written.map_err(|error| BlobError::of_write("write to", error))?;
        self.hash.update(&chunk);
        self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.chunks += 1;
        Ok(())
    }

    /// Makes the attachment visible, by whom and when (milliseconds since 1970), if the bytes are those of its name and `still`
    /// says so at the last moment. Where it is not, nothing of it stays. After an error that is unknown it may come to be there.
    pub async fn finish<E: From<BlobError>>(
        mut self,
        by: Handle,
        at_ms: i64,
        still: impl FnOnce() -> Result<(), E>,
    ) -> Result<Added, E> {
        match self.commit(by, at_ms, still).await {
            // Its record may still land, and would then be without its chunks.
            Err((error, true)) => Err(error),
            Err((error, false)) => {
                self.discard().await;
                Err(error)
            }
            Ok(added) => {
                if !added.changed {
                    self.discard().await;
                }
                Ok(added)
            }
        }
    }

    /// The error, and whether it may have been done all the same.
    async fn commit<E: From<BlobError>>(
        &mut self,
        by: Handle,
        at_ms: i64,
        still: impl FnOnce() -> Result<(), E>,
    ) -> Result<Added, (E, bool)> {
        let certain = |error: BlobError| (E::from(error), false);
        if !self.rest.is_empty() {
            self.write().await.map_err(certain)?;
        }
        let digest = BlobId::new(self.hash.clone().finalize().into());
        if digest != self.name.id || self.chunks == 0 {
            return Err(certain(BlobError::OtherDigest));
        }
        let (name, body) = (self.name.clone(), self.body);
        let record = BlobRecord { name, by, at_ms, bytes: self.bytes, chunks: self.chunks, body };
        let json = record.to_json().map_err(|why| certain(BlobError::Damaged { why }))?;
        still().map_err(|error| (error, false))?;
        let link = self.blobs.link("add to").map_err(certain)?;
        match put(&link, Bucket::Blobs, &self.name.key(), &json, 0).await {
            Ok(_) => Ok(Added { record, changed: true }),
            // Somebody else was faster with the same bytes.
            Err(WriteError::Conflict) => match self.blobs.found(&self.name).await.map_err(certain)? {
                Some(Found { record, .. }) => Ok(Added { record, changed: false }),
                None => Err(certain(BlobError::unavailable("add to", "it was added and removed by others meanwhile"))),
            },
            Err(error) => {
                let error = BlobError::of_write("add to", error);
                let unknown = error.is_unknown();
                Err((E::from(error), unknown))
            }
        }
    }

    /// Gives it up, and removes what was written of it.
    pub async fn discard(self) {
        if self.chunks == 0 && self.rest.is_empty() {
            return;
        }
        // Also what an attempt of unknown outcome may have left.
        if let Err(error) = self.blobs.discard(self.body).await {
            tracing::info!("the chunks of an upload that was given up are left to the sweep: {error}");
        }
    }
}
