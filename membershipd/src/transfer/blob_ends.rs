//! Attachments in the bucket of an engine, and in a file.

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};

use super::blobs::{BlobEnd, Kept, Piece};
use super::end::Answer;
use super::error::TransferError;
use crate::blobs::{BlobName, Blobs};
use unibus_core::bus::Bucket;
use unibus_core::random;
use unibus_store::{Operation, SqliteStore, StoreError};

/// Attachments of a page.
const PAGE: usize = 200;
/// Records that are asked for at once.
const AT_ONCE: usize = 16;

impl BlobEnd for Blobs {
    fn list(&self, after: Option<BlobName>) -> Answer<'_, Vec<Kept>> {
        async move {
            let names = self.names().await?;
            let mut rest = names.into_iter().filter(|name| after.as_ref().is_none_or(|after| name > after));
            loop {
                let page: Vec<BlobName> = rest.by_ref().take(PAGE).collect();
                let last = page.len() < PAGE;
                let found = stream::iter(page).map(|name| async move { self.find(&name).await }).buffered(AT_ONCE);
                let found: Vec<_> = found.collect::<Vec<_>>().await.into_iter().collect::<Result<_, _>>()?;
                let kept: Vec<Kept> = found
                    .into_iter()
                    .flatten()
                    .map(|record| Kept { name: record.name, by: record.by, at_ms: record.at_ms, bytes: record.bytes })
                    .collect();
                // A page of which all were removed meanwhile is not the end.
                if last || !kept.is_empty() {
                    return Ok(kept);
                }
            }
        }
        .boxed()
    }

    fn read<'a>(&'a self, name: &'a BlobName, from: u64) -> Answer<'a, Option<Piece>> {
        async move {
            let piece = self.piece(name, from).await?;
            Ok(piece.map(|(bytes, sequence)| Piece { bytes, next: sequence.saturating_add(1) }))
        }
        .boxed()
    }

    fn upload(&self) -> Result<[u8; 16], TransferError> {
        random()
    }

    fn write<'a>(&'a self, name: &'a BlobName, upload: [u8; 16], piece: Bytes) -> Answer<'a, ()> {
        async move { Ok(self.carry_piece(name, upload, &piece).await?) }.boxed()
    }

    fn commit<'a>(&'a self, kept: &'a Kept, upload: [u8; 16], pieces: u64) -> Answer<'a, ()> {
        async move {
            let Kept { name, by, at_ms, bytes } = kept;
            Ok(self.carry_over(name, by, *at_ms, *bytes, upload, pieces).await?)
        }
        .boxed()
    }
}

impl BlobEnd for SqliteStore {
    fn list(&self, after: Option<BlobName>) -> Answer<'_, Vec<Kept>> {
        async move {
            let found = self.blobs(after.map(|name| (name.room.to_string(), name.id.to_string())), PAGE).await?;
            let unreadable = |error: unibus_core::domain::InvalidValue| TransferError::NotUnderstood(error.to_string());
            let kept = |(room, sha256, by, at_ms, bytes): (String, String, String, i64, u64)| {
                let name =
                    BlobName { room: room.parse().map_err(unreadable)?, id: sha256.parse().map_err(unreadable)? };
                Ok(Kept { name, by: by.parse().map_err(unreadable)?, at_ms, bytes })
            };
            found.into_iter().map(kept).collect()
        }
        .boxed()
    }

    fn read<'a>(&'a self, name: &'a BlobName, from: u64) -> Answer<'a, Option<Piece>> {
        async move {
            let bytes = self.blob_piece(&name.room, name.id.to_string(), from).await?;
            Ok(bytes.map(|bytes| Piece { bytes: bytes.into(), next: from + 1 }))
        }
        .boxed()
    }

    fn upload(&self) -> Result<[u8; 16], TransferError> {
        Err(finished())
    }

    fn write<'a>(&'a self, _: &'a BlobName, _: [u8; 16], _: Bytes) -> Answer<'a, ()> {
        async move { Err(finished()) }.boxed()
    }

    fn commit<'a>(&'a self, _: &'a Kept, _: [u8; 16], _: u64) -> Answer<'a, ()> {
        async move { Err(finished()) }.boxed()
    }
}

/// A number that no other upload has.
pub fn random() -> Result<[u8; 16], TransferError> {
    Ok(random::bytes().map_err(|error| StoreError::Unavailable {
        operation: Operation::on("write to", Bucket::Blobs),
        why: error.to_string(),
    })?)
}

/// A file is written in one go (`NewFile`), and then only read.
fn finished() -> TransferError {
    TransferError::NotUnderstood("nothing is carried into a file that is there".to_owned())
}
