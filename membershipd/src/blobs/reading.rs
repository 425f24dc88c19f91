//! An attachment piece by piece, and compared with its name before the last of them.

use bytes::Bytes;
use futures::Stream;
use sha2::{Digest, Sha256};

use super::error::BlobError;
use super::record::BlobRecord;
use super::stream::Blobs;
use unibus_api_types::BlobId;

/// How far it has been read.
struct Reading {
    blobs: Blobs,
    record: BlobRecord,
    /// Where the next chunk is looked for.
    from: u64,
    chunks: u64,
    bytes: u64,
    hash: Sha256,
}

/// The pieces of the attachment with this `record`, each at most as long as a chunk. One that is damaged ends with an error in
/// the place of its last piece, so that it never looks complete.
pub fn read(blobs: Blobs, record: BlobRecord) -> impl Stream<Item = Result<Bytes, BlobError>> + Send {
    let reading = Reading { blobs, record, from: 1, chunks: 0, bytes: 0, hash: Sha256::new() };
    futures::stream::try_unfold(reading, |mut reading| async move {
        if reading.chunks == reading.record.chunks {
            return Ok(None);
        }
        let chunk = reading.next().await?;
        Ok(Some((chunk, reading)))
    })
}

impl Reading {
    async fn next(&mut self) -> Result<Bytes, BlobError> {
        let Some((chunk, sequence)) = self.blobs.chunk(self.record.body, self.from).await? else {
            return Err(damaged(format!("there are {} of {} chunks", self.chunks, self.record.chunks)));
        };
        self.from = sequence.saturating_add(1);
        self.chunks += 1;
        self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.hash.update(&chunk);
        if self.chunks == self.record.chunks {
            self.complete()?;
        }
        Ok(chunk)
    }

    fn complete(&mut self) -> Result<(), BlobError> {
        let digest = BlobId::new(std::mem::take(&mut self.hash).finalize().into());
        if self.bytes != self.record.bytes {
            return Err(damaged(format!("it has {} bytes instead of {}", self.bytes, self.record.bytes)));
        }
        if digest != self.record.name.id {
            return Err(damaged("its digest is another one".to_owned()));
        }
        Ok(())
    }
}

fn damaged(why: String) -> BlobError {
    BlobError::Damaged { why }
}
