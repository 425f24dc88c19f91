//! Attachments in a copy: each is whole or not there, and none is ever written over.
//!
//! What they hold never changes under its name, so the ends are compared by names, by who added them and when, and the bytes are
//! compared with the name wherever they arrive.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::end::{Answer, End};
use super::error::TransferError;
use super::missing::Missing;
use super::stream::CopyTarget;
use crate::blobs::{BlobId, BlobName};
use unibus_core::domain::Handle;

/// An attachment, as both ends know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is called.
    pub name: BlobName,
    /// Who added it.
    pub by: Handle,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it is, in bytes.
    pub bytes: u64,
}

/// A piece of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes.
    pub bytes: Bytes,
    /// Where the next one is.
    pub next: u64,
}

/// Attachments at an end.
pub trait BlobEnd: Send + Sync {
    /// Some attachments, in the order of their names, after this one; empty: there are no more.
    fn list(&self, after: Option<BlobName>) -> Answer<'_, Vec<Kept>>;

    /// The piece of an attachment at `from`, 0 at first; none: there is no more.
    fn read<'a>(&'a self, name: &'a BlobName, from: u64) -> Answer<'a, Option<Piece>>;

    /// A random number, which tells an attempt to write an attachment from others.
    fn upload(&self) -> Result<[u8; 16], TransferError>;

    /// Keeps a piece, in the order of pieces, of an attachment that is not there yet.
    fn write<'a>(&'a self, name: &'a BlobName, upload: [u8; 16], piece: Bytes) -> Answer<'a, ()>;

    /// Makes an attachment of so many pieces of `upload` visible, whose bytes must be those of its name.
    fn commit<'a>(&'a self, kept: &'a Kept, upload: [u8; 16], pieces: u64) -> Answer<'a, ()>;
}

/// The attachments of an end, by name; none where it has no place for any.
pub(super) async fn all(end: &dyn End) -> Result<BTreeMap<BlobName, Kept>, TransferError> {
    match end.blobs() {
        Some(blobs) => listed(blobs).await,
        None => Ok(BTreeMap::new()),
    }
}

/// All attachments, by name.
pub(super) async fn listed(blobs: &dyn BlobEnd) -> Result<BTreeMap<BlobName, Kept>, TransferError> {
    let mut all = BTreeMap::new();
    loop {
        let after = all.last_key_value().map(|(name, _): (&BlobName, _)| name.clone());
        let some = blobs.list(after).await?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some.into_iter().map(|kept| (kept.name.clone(), kept)));
    }
}

/// Reads the attachments that `from` has beside those in `have` into `file`, and takes out of it what `from` has no more. Says
/// whether anything was changed.
pub(super) async fn round(
    from: &dyn End,
    file: &mut dyn CopyTarget,
    have: &mut BTreeMap<BlobName, Kept>,
    missing: &mut Missing,
) -> Result<bool, TransferError> {
    let Some(blobs) = from.blobs() else { return Ok(false) };
    let now = all(from).await?;
    let before = have.len();
    for kept in have.values().filter(|kept| now.get(&kept.name) != Some(kept)) {
        file.forget_blob(&kept.name)?;
    }
    have.retain(|name, kept| now.get(name) == Some(kept));
    let mut changed = have.len() != before;
    let wanted = |kept: &Kept| !have.contains_key(&kept.name) && !missing.has_attachment(&kept.name.object());
    for kept in now.into_values().filter(wanted).collect::<Vec<_>>() {
        changed = true;
        match copied(blobs, file, &kept).await? {
            Read::Whole => drop(have.insert(kept.name.clone(), kept)),
            // It was removed while it was read; the next round says.
            Read::Gone => file.forget_blob(&kept.name)?,
            Read::Damaged => {
                file.forget_blob(&kept.name)?;
                missing.attachment(kept.name.object());
            }
        }
    }
    Ok(changed)
}

/// What became of an attachment that was read.
enum Read {
    Whole,
    Gone,
    Damaged,
}

async fn copied(blobs: &dyn BlobEnd, file: &mut dyn CopyTarget, kept: &Kept) -> Result<Read, TransferError> {
    file.blob(kept)?;
    let (mut from, mut number, mut hash) = (0, 0, Sha256::new());
    while let Some(Piece { bytes, next }) = blobs.read(&kept.name, from).await? {
        hash.update(&bytes);
        file.blob_piece(&kept.name, number, &bytes)?;
        (from, number) = (next, number + 1);
    }
    if BlobId::new(hash.finalize().into()) == kept.name.id {
        return Ok(Read::Whole);
    }
    let there = blobs.list(before(&kept.name)).await?.iter().any(|there| there == kept);
    Ok(if there { Read::Damaged } else { Read::Gone })
}

/// Where a list begins that has `name` first, if it is there. Names are sorted as their parts are.
fn before(name: &BlobName) -> Option<BlobName> {
    let mut sha256 = name.id.sha256();
    for byte in sha256.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            return Some(BlobName { room: name.room.clone(), id: BlobId::new(sha256) });
        }
    }
    None
}

/// Refuses attachments at `to` that `source` does not have just so.
pub(super) fn refuse_foreign(
    source: &BTreeMap<BlobName, Kept>,
    there: &BTreeMap<BlobName, Kept>,
) -> Result<(), TransferError> {
    let foreign: Vec<String> = beyond(there, source);
    if foreign.is_empty() { Ok(()) } else { Err(TransferError::OtherBlobs(foreign)) }
}

/// Writes the attachments of `from` that `to` does not have; then compares. Says how many were written.
pub(super) async fn carry(from: &dyn End, to: &dyn End) -> Result<usize, TransferError> {
    let source = all(from).await?;
    let (Some(reading), false) = (from.blobs(), source.is_empty()) else { return Ok(0) };
    let Some(writing) = to.blobs() else {
        return Err(TransferError::OtherBlobs(source.keys().map(BlobName::object).collect()));
    };
    let there = all(to).await?;
    refuse_foreign(&source, &there)?;
    let written = write_missing(reading, writing, &source, &there).await?;
    let now = all(to).await?;
    let differ = [beyond(&now, &source), beyond(&source, &now)].concat();
    if differ.is_empty() { Ok(written) } else { Err(TransferError::OtherBlobs(differ)) }
}

/// Writes what `source` has and `there` has not. Says how many that were.
pub(super) async fn write_missing(
    reading: &dyn BlobEnd,
    writing: &dyn BlobEnd,
    source: &BTreeMap<BlobName, Kept>,
    there: &BTreeMap<BlobName, Kept>,
) -> Result<usize, TransferError> {
    let mut written = 0;
    for kept in source.values().filter(|kept| !there.contains_key(&kept.name)) {
        let (upload, mut at, mut pieces) = (writing.upload()?, 0, 0);
        while let Some(Piece { bytes, next }) = reading.read(&kept.name, at).await? {
            writing.write(&kept.name, upload, bytes).await?;
            (at, pieces) = (next, pieces + 1);
        }
        writing.commit(kept, upload, pieces).await?;
        written += 1;
    }
    Ok(written)
}

/// What `one` has that `other` has not, or has otherwise.
fn beyond(one: &BTreeMap<BlobName, Kept>, other: &BTreeMap<BlobName, Kept>) -> Vec<String> {
    let differs = one.values().filter(|kept| other.get(&kept.name) != Some(kept));
    differs.map(|kept| kept.name.object()).collect()
}

impl From<crate::blobs::BlobError> for TransferError {
    fn from(error: crate::blobs::BlobError) -> Self {
        match error {
            crate::blobs::BlobError::Store(error) => error.into(),
            error => TransferError::NotUnderstood(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_before_one_is_the_last_that_is_smaller() {
        let name = |last: [u8; 2]| {
            let mut sha256 = [0; 32];
            sha256[30..].copy_from_slice(&last);
            BlobName { room: "hall".parse().unwrap(), id: BlobId::new(sha256) }
        };
        assert_eq!(before(&name([1, 0])), Some(name([0, 255])));
        assert_eq!(before(&name([0, 9])), Some(name([0, 8])));
        assert_eq!(before(&name([0, 0])), None, "from the beginning");
    }
}
