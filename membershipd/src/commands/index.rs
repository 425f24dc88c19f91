//! `rooms_by_member`: in which rooms somebody is or to which he is invited. Derived from the memberships, and never asked where
//! something is decided.

use std::collections::BTreeSet;

use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::keys;
use unibus_core::domain::{Handle, Membership, RecordKey, RoomId, Schema};
use unibus_core::view::View;
use unibus_store::{Event, Keyed, Operation, Position, Records, Store, StoreError, create_json, get_json, update_json};

/// Attempts at an entry that others keep changing too; each of them writes what is true.
const CONTENTION: usize = 16;

/// An entry: whether he is in the room or invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Indexed {
    /// How to read this.
    pub schema: Schema<1>,
    /// Whether [`unibus_core::domain::MemberState::is_present`] holds for the membership.
    pub present: bool,
}

/// Makes the entry agree with the membership. Says whether it had to be written.
///
/// The entry is read before the membership and written at the revision that was read. So of two who do this at once the one
/// who writes last has read what was true after the other's membership was written.
pub(super) async fn update(store: &dyn Store, handle: &Handle, room: &RoomId) -> Result<bool, StoreError> {
    let key = keys::index_key(handle, room)?;
    let source = keys::key(&RecordKey::Membership(room.clone(), handle.clone()))?;
    let mut last = None;
    for _ in 0..CONTENTION {
        let entry = get_json::<Indexed>(store, Records::RoomsByMember, &key).await?;
        let membership = get_json::<Membership>(store, Records::Members, &source).await?;
        let wanted = Indexed { schema: Schema, present: membership.is_some_and(|m| m.value.state.is_present()) };
        let written = match entry {
            Some(entry) if entry.value == wanted => return Ok(false),
            None if !wanted.present => return Ok(false),
            Some(entry) => update_json(store, Records::RoomsByMember, &key, &wanted, entry.revision).await,
            None => create_json(store, Records::RoomsByMember, &key, &wanted).await,
        };
        match written {
            Ok(_) => return Ok(true),
            // One of unknown outcome is made again in the same way, and read back.
            Err(error @ (StoreError::Conflict { .. } | StoreError::Unknown { .. })) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(false), Err)
}

/// Who is in which room, or invited to it.
pub(super) type Pairs = BTreeSet<(Handle, RoomId)>;

/// Those that the index should have, as `view` knows the memberships.
pub(super) fn wanted(view: &View) -> Pairs {
    let present = view.all_memberships().filter(|m| m.state.is_present());
    present.map(|m| (m.handle.clone(), m.room.clone())).collect()
}

/// Those that it has.
pub(super) async fn entries(store: &dyn Store) -> Result<Pairs, StoreError> {
    let bucket = Records::RoomsByMember;
    let mut entries = Pairs::new();
    let mut events = store.watch(bucket, Position::default()).await?;
    while let Some(event) = events.next().await.transpose()? {
        let Event::Changed(Keyed { key, entry }) = event else { return Ok(entries) };
        let operation = Operation::at("read", bucket.bucket(), &key);
        let of = keys::indexed(&key).ok_or_else(|| StoreError::Unreadable {
            operation: operation.clone(),
            why: "no such kind of entry; a newer membershipd may have written it".to_owned(),
        })?;
        if entry.json::<Indexed>(&operation)?.value.present {
            entries.insert(of);
        } else {
            entries.remove(&of);
        }
    }
    let operation = Operation::on("watch", bucket.bucket());
    Err(StoreError::Unavailable { operation, why: "the watch ended".to_owned() })
}

/// Makes the entries agree with the memberships where the two sides differ; says how many had to be written. The sides may be old:
/// both are read again for each, as somebody may be about to write the same.
pub(super) async fn agree(store: &dyn Store, entries: &Pairs, wanted: &Pairs) -> Result<usize, StoreError> {
    let mut written = 0;
    for (handle, room) in wanted.symmetric_difference(entries) {
        written += usize::from(update(store, handle, room).await?);
    }
    Ok(written)
}
