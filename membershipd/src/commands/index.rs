//! `rooms_by_member`: in which rooms somebody is or to which he is invited. Derived from the memberships, and never asked where
//! something is decided.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::domain::{Handle, Membership, RecordKey, RoomId, Schema};
use crate::store::{Records, Store, StoreError, create_json, get_json, update_json};

/// Attempts at an entry that others keep changing too; each of them writes what is true.
const CONTENTION: usize = 16;

/// An entry: whether he is in the room or invited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Indexed {
    /// How to read this.
    pub schema: Schema<1>,
    /// Whether [`crate::domain::MemberState::is_present`] holds for the membership.
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
