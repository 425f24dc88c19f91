//! Claims after the fact, in the documents that decide at the level of the cluster: released when no room can use the subject any more, and looked after when a release took too much.

use super::keys;
use unibus_core::domain::{ClaimError, Claims, ClaimsKey, FeatureLevel, RecordKey, Room, RoomId, RoomState, Subject};
use unibus_store::{Entry, Operation, Records, Revision, Store, StoreError, get_json, update_json};

/// Attempts at a document that others keep changing too.
const CONTENTION: usize = 64;

/// Whether the record of the room names the subject as its own.
fn names(room: Option<&Room>, subject: &Subject) -> bool {
    room.is_some_and(|room| room.state == RoomState::Active && room.subject == *subject)
}

async fn room(store: &dyn Store, id: &RoomId) -> Result<Option<Room>, StoreError> {
    let entry = get_json::<Room>(store, Records::Rooms, &keys::key(&RecordKey::Room(id.clone()))?).await?;
    Ok(entry.map(|entry| entry.value))
}

async fn claims(store: &dyn Store, of: ClaimsKey) -> Result<Option<Entry<Claims>>, StoreError> {
    get_json::<Claims>(store, Records::Rooms, &keys::key(&RecordKey::Claims(of))?).await
}

/// A document that is to be changed. A frozen one is not: its claims are on their way into small documents.
async fn open_claims(store: &dyn Store, of: ClaimsKey) -> Result<Option<Entry<Claims>>, StoreError> {
    let found = claims(store, of).await?;
    if found.as_ref().is_some_and(|claims| claims.value.is_frozen()) {
        let operation = Operation::on("change claims in", Records::Rooms.bucket());
        return Err(StoreError::Unavailable { operation, why: ClaimError::Frozen.to_string() });
    }
    Ok(found)
}

/// Whether the room has the claim on `subject`; otherwise the revision of a document in which it has not.
pub(super) async fn is_held(
    store: &dyn Store,
    level: FeatureLevel,
    id: &RoomId,
    subject: &Subject,
) -> Result<Result<(), Option<Revision>>, StoreError> {
    Ok(match claims(store, ClaimsKey::deciding(subject, level)).await? {
        Some(claims) if claims.value.holder(subject) == Some(id) => Ok(()),
        other => Err(other.map(|claims| claims.revision)),
    })
}

/// Releases the claim of a room on `subject`, unless its record names the subject, or there is no record. Says at which
/// revision the document is without it, where it did. Call it when no node honours any more that the room had the subject.
pub(super) async fn release(
    store: &dyn Store,
    level: FeatureLevel,
    id: &RoomId,
    subject: &Subject,
) -> Result<Option<Revision>, StoreError> {
    let mut last = None;
    for _ in 0..CONTENTION {
        let Some(claims) = open_claims(store, ClaimsKey::deciding(subject, level)).await? else { return Ok(None) };
        let record = room(store, id).await?;
        // Without a record the room is still being made; what was never made gets its tombstone first.
        if claims.value.holder(subject) != Some(id) || record.is_none() || names(record.as_ref(), subject) {
            return Ok(None);
        }
        match write(store, &claims.value.release(subject, id), claims.revision).await {
            Ok(revision) => {
                // The room may have gone back to the subject since its record was read, and found the claim in place. It looks
                // after its record is written, we look after the release: one of the two sees the other.
                if names(room(store, id).await?.as_ref(), subject) {
                    return claim(store, level, id, subject).await.map(|_| None);
                }
                return Ok(Some(revision));
            }
            Err(error @ (StoreError::Conflict { .. } | StoreError::Unknown { .. })) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(None), Err)
}

/// Claims `subject` for a room whose record names it, where it lost the claim. Says whether it has it now: another room may
/// have taken it.
pub(super) async fn claim(
    store: &dyn Store,
    level: FeatureLevel,
    id: &RoomId,
    subject: &Subject,
) -> Result<bool, StoreError> {
    let mut last = None;
    for _ in 0..CONTENTION {
        let Some(claims) = open_claims(store, ClaimsKey::deciding(subject, level)).await? else { return Ok(false) };
        if !names(room(store, id).await?.as_ref(), subject) {
            return Ok(false);
        }
        let Ok(claimed) = claims.value.claim(subject, id) else { return Ok(false) };
        if claimed == claims.value {
            return Ok(true);
        }
        match write(store, &claimed, claims.revision).await {
            Ok(_) => return Ok(true),
            Err(error @ (StoreError::Conflict { .. } | StoreError::Unknown { .. })) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(false), Err)
}

async fn write(store: &dyn Store, claims: &Claims, expected: Revision) -> Result<Revision, StoreError> {
    update_json(store, Records::Rooms, &keys::key(&RecordKey::Claims(claims.key()))?, claims, expected).await
}
