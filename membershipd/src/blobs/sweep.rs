//! What nobody needs is removed: attachments of rooms that are gone for good, and chunks of uploads that never ended.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::error::BlobError;
use super::name::{BlobName, Body, Owner};
use super::stream::Blobs;
use unibus_core::bus::BLOB_ORPHAN;
use unibus_core::domain::RoomId;

/// What a sweep has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Attachments of removed rooms.
    pub attachments: usize,
    /// Uploads that never ended.
    pub uploads: usize,
}

/// Sweeps once, at `now`; `removed` says of which rooms there is a tombstone.
pub async fn sweep(blobs: &Blobs, removed: impl Fn(&RoomId) -> bool, now: OffsetDateTime) -> Result<Swept, BlobError> {
    let mut swept = Swept::default();
    // In this order: what is added between the two looks has its chunks in neither or its name in the second.
    let bodies = blobs.bodies().await?;
    let mut names = blobs.names().await?;
    let (gone, stay): (BTreeSet<_>, BTreeSet<_>) = names.into_iter().partition(|name| removed(&name.room));
    for name in gone {
        swept.attachments += usize::from(blobs.remove(&name).await?.is_some());
    }
    names = stay;
    for suspect in suspects(&bodies, &names) {
        let needed = match suspect {
            Suspect { name: None, .. } => false,
            Suspect { name: Some(name), body } => blobs.find(name).await?.is_some_and(|record| record.body == body),
        };
        if !needed && is_old(blobs, suspect.body, now).await? {
            blobs.discard(suspect.body).await?;
            swept.uploads += 1;
        }
    }
    Ok(swept)
}

/// Whether nothing was added to it for as long as no upload takes.
async fn is_old(blobs: &Blobs, body: Body, now: OffsetDateTime) -> Result<bool, BlobError> {
    let last = blobs.last(&body.key()).await?;
    // By the engine's clock, which may be another one's: a node's clock is off by less than the age is long.
    Ok(last.is_some_and(|last| now - last.time > BLOB_ORPHAN))
}

/// Chunks that may be nobody's.
#[derive(Debug, PartialEq, Eq)]
struct Suspect<'a> {
    body: Body,
    /// The attachment that has these chunks or others; none: nobody has them.
    name: Option<&'a BlobName>,
}

/// Of all chunks those that may be nobody's. An attachment has its own chunks, so the only ones of an owner need no look.
fn suspects<'a>(bodies: &BTreeSet<Body>, names: &'a BTreeSet<BlobName>) -> Vec<Suspect<'a>> {
    let owners: BTreeMap<Owner, &BlobName> = names.iter().map(|name| (name.owner(), name)).collect();
    let mut uploads: BTreeMap<Owner, usize> = BTreeMap::new();
    bodies.iter().for_each(|body| *uploads.entry(body.owner).or_default() += 1);
    let suspect = |body: &Body| match owners.get(&body.owner) {
        None => Some(Suspect { body: *body, name: None }),
        Some(_) if uploads.get(&body.owner) == Some(&1) => None,
        Some(name) => Some(Suspect { body: *body, name: Some(name) }),
    };
    bodies.iter().filter_map(suspect).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_api_types::BlobId;

    #[test]
    fn the_only_chunks_of_an_attachment_are_its_own() {
        let name = |room: &str| BlobName { room: room.parse().unwrap(), id: BlobId::of(b"x") };
        let (sound, twice, left) = (name("a"), name("b"), name("c"));
        let body = |name: &BlobName, upload| Body::new(name, [upload; 16]);
        let bodies = BTreeSet::from([body(&sound, 1), body(&twice, 1), body(&twice, 2), body(&left, 1)]);
        let names = BTreeSet::from([sound, twice.clone()]);
        let found: BTreeSet<_> = suspects(&bodies, &names).iter().map(|s| (s.body, s.name)).collect();
        let wanted = [(body(&twice, 1), Some(&twice)), (body(&twice, 2), Some(&twice)), (body(&left, 1), None)];
        assert_eq!(found, BTreeSet::from(wanted));
    }
}
