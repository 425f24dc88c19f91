//! What who is in a room no more is told about it: who ended the membership, and when.
//!
//! It stands in the problem that says that the caller is not in the room, and it is of the caller's own membership alone.

use super::handler::Denied;
use super::problem::Problem;
use super::shared::Shared;
use unibus_api_types::bodies::EndedMembership;
use unibus_core::domain::{Author, Denial, Handle, MemberState, Membership, Records as _, RoomId};
use unibus_core::key::{Key, Records};
use unibus_core::view::member_key;

/// The problem of a denied request, with how the caller's own membership ended, where that is why.
pub(super) async fn explained(shared: &Shared, denied: &Denied) -> Problem {
    let problem = Problem::from(denied.why);
    let Some(room) = denied.named.room.as_ref().filter(|_| matches!(denied.why, Denial::NotMember | Denial::Banned))
    else {
        return problem;
    };
    let caller = &denied.who.handle;
    let Some(ended) = shared.gate.view(|view| view.membership(room, caller).and_then(ended)) else { return problem };
    // Without the time it is told all the same: the store may be busy electing a leader.
    let at_ms = written_at(shared, room, caller).await;
    Problem { ended: Some(Box::new(EndedMembership { at_ms, ..ended })), ..problem }
}

/// How a membership ended; none: it has not.
fn ended(membership: &Membership) -> Option<EndedMembership> {
    let Membership { room, handle, state, by, .. } = membership;
    if !matches!(state, MemberState::Removed | MemberState::Banned) {
        return None;
    }
    let by = Some(by.clone()).filter(|by| *by != Author::User(handle.clone()));
    Some(EndedMembership { room: room.clone(), state: *state, by, at_ms: None })
}

async fn written_at(shared: &Shared, room: &RoomId, handle: &Handle) -> Option<i64> {
    let key: Key = member_key(room, handle).parse().ok()?;
    shared.store.written_at(Records::Members, &key).await.ok().flatten()
}
