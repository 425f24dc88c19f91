//! Rooms over the API.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body;
use super::call::{Call, Reply, Target};
use super::outcome::{self, Passed};
use super::paging::cursor;
use super::problem::Refuse as _;
use super::problem::{self, Problem};
use super::shared::Shared;
use crate::commands::Outcome;
use crate::domain::{
    Action, Author, Command, MemberState, Policy, Record, Records as _, Resource, Role, Room, RoomId, RoomRole,
    RoomState, Subject, User, decide,
};
use crate::view::{Versioned, View};
use unibus_api_types::problem::Kind;

/// What holds for the messages of a room.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Policy)]
pub(super) struct PolicyBody {
    /// Messages are sealed with the room's key.
    encrypt: bool,
    /// Messages are kept, and served to members as history.
    persist: bool,
    /// Messages are signed by their sender.
    sign: bool,
}

impl From<Policy> for PolicyBody {
    fn from(Policy { encrypt, persist, sign }: Policy) -> Self {
        Self { encrypt, persist, sign }
    }
}

impl From<PolicyBody> for Policy {
    fn from(PolicyBody { encrypt, persist, sign }: PolicyBody) -> Self {
        Self { encrypt, persist, sign }
    }
}

/// How the caller stands to a room.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnMembership)]
pub(super) struct OwnBody {
    /// `owner`, `moderator`, `member` or `reader`.
    #[schema(value_type = String)]
    role: RoomRole,
    /// `invited`, `joined`, `removed` or `banned`.
    #[schema(value_type = String)]
    state: MemberState,
}

/// A room. Its revision is the ETag of the answer where there is one room in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Room)]
pub(super) struct RoomBody {
    /// Name for ever: 1 to 64 of a-z, 0-9, '_' and '-'.
    #[schema(value_type = String)]
    id: RoomId,
    /// Members publish and subscribe it and everything below it.
    #[schema(value_type = String)]
    subject: Subject,
    policy: PolicyBody,
    /// `active` or `removed`.
    #[schema(value_type = String)]
    state: RoomState,
    /// Who made it: a handle, or `root@` and a node.
    #[schema(value_type = String)]
    created_by: Author,
    /// Who made the last change.
    #[schema(value_type = String)]
    changed_by: Author,
    /// What If-Match names, in quotes, for a change of this very record.
    revision: u64,
    /// How the caller stands to it; none: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    own: Option<OwnBody>,
}

impl RoomBody {
    fn of(room: Room, revision: u64, caller: &User, view: &View) -> Self {
        let own = view.membership(&room.id, &caller.handle);
        let own = own.map(|own| OwnBody { role: own.role, state: own.state });
        let Room { schema: _, id, subject, policy, kept: _, state, created_by, by } = room;
        Self { id, subject, policy: policy.into(), state, created_by, changed_by: by, revision, own }
    }
}

/// A page of rooms.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rooms)]
pub(super) struct RoomsBody {
    rooms: Vec<RoomBody>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A room that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRoom {
    /// `proc`, `rpc`, `room` or `agent` and 1 to 7 more tokens of a-z, 0-9, '_' and '-', separated by dots.
    subject: String,
    /// Encrypted, kept and signed, where it is left out.
    policy: Option<PolicyBody>,
}

/// What is to become of a room; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomPatch {
    /// Another subject; whoever is connected hears nothing on the old one any more.
    subject: Option<String>,
    /// Another policy, the whole of it.
    policy: Option<PolicyBody>,
}

/// What a change of a room came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedRoom {
    room: RoomBody,
    #[serde(flatten)]
    passed: Passed,
}

/// The subject, or what is wrong with it.
fn subject(text: &str) -> Result<Subject, Problem> {
    text.parse().map_err(|error: crate::domain::InvalidValue| {
        let kind = if text.contains(['*', '>']) {
            Kind::SUBJECT_WILDCARD
        } else if text.starts_with(['$', '_']) {
            Kind::SUBJECT_RESERVED
        } else {
            Kind::BAD_SUBJECT
        };
        kind.because(error.to_string())
    })
}

/// What a request to make a room comes to.
pub(super) fn create(_: &User, _: &Target, body: &[u8]) -> Result<Command, Problem> {
    let NewRoom { subject: text, policy } = body::json(body)?;
    Ok(Command::CreateRoom(subject(&text)?, policy.map_or(Policy::CONVERSATION, Policy::from)))
}

/// What a request to change a room comes to.
pub(super) fn change(_: &User, _: &Target, body: &[u8]) -> Result<Command, Problem> {
    let RoomPatch { subject: text, policy } = body::json(body)?;
    if text.is_none() && policy.is_none() {
        return Err(Kind::BAD_JSON.because("name a subject, a policy, or both"));
    }
    Ok(Command::ChangeRoom(text.as_deref().map(subject).transpose()?, policy.map(Policy::from)))
}

/// What a request to remove a room comes to.
pub(super) fn remove(_: &User, _: &Target, _: &[u8]) -> Result<Command, Problem> {
    Ok(Command::RemoveRoom)
}

/// The rooms that the caller may read.
pub(super) async fn list(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let paging = call.page()?;
    let caller = &call.caller;
    let (rooms, next) = shared.gate.view(|view| {
        let after = |id: &&RoomId| paging.after.as_ref().is_none_or(|after| *id > after);
        let may = |id: &&RoomId| decide(Some(caller), Action::ReadRoom, Resource::Room(id), view).is_allow();
        // Both are in the order of the ids.
        let ids: Box<dyn Iterator<Item = &RoomId>> = match caller.role {
            Role::Admin => Box::new(view.rooms().map(|room| &room.id)),
            Role::User => Box::new(view.memberships(&caller.handle).map(|membership| &membership.room)),
        };
        let mut rest = ids.filter(after).filter(may).filter_map(|id| view.versioned_room(id));
        let shown: Vec<&Versioned<Room>> = rest.by_ref().take(paging.size.get()).collect();
        let next = shown.last().filter(|_| rest.next().is_some()).map(|last| cursor(&last.value.id));
        let body = |room: &Versioned<Room>| RoomBody::of(room.value.clone(), room.revision, caller, view);
        (shown.into_iter().map(body).collect(), next)
    });
    Reply::json(&RoomsBody { rooms, next })
}

/// One room.
pub(super) async fn show(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let id = call.target.room()?;
    let found = shared.gate.view(|view| {
        let Versioned { value, revision } = view.versioned_room(id)?.clone();
        Some(RoomBody::of(value, revision, &call.caller, view))
    });
    let body = found.ok_or_else(|| Problem::from(crate::domain::Denial::NoSuchRoom))?;
    Ok(Reply::json(&body)?.at(body.revision))
}

/// Makes a room.
pub(super) async fn make(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let outcome = outcome::of(&shared, &call).await?;
    keep_messages(&shared, &outcome).await;
    let status = if outcome.changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(changed(&shared, &call, outcome)?.status(status))
}

/// Changes or removes a room.
pub(super) async fn carry_out(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let outcome = outcome::of(&shared, &call).await?;
    keep_messages(&shared, &outcome).await;
    changed(&shared, &call, outcome)
}

/// Brings the stream of a room along, so that what is said right after the answer is kept. Where that takes too long the room is
/// made or changed all the same, and its stream follows.
async fn keep_messages(shared: &Shared, outcome: &Outcome) {
    let Some(Record::Room(room)) = &outcome.value else { return };
    if room.keeps_messages()
        && let Err(error) = shared.histories.settle(&room.id).await
    {
        tracing::warn!(room = %room.id, "messages are not kept yet as the room has it: {error}");
    }
}

fn changed(shared: &Shared, call: &Call, outcome: Outcome) -> Result<Reply, Problem> {
    let passed = Passed::of(&outcome);
    let (Some(Record::Room(room)), Some(revision)) = (outcome.value, outcome.revision) else {
        // Nothing was written, and the lease ended before it could be said what is there.
        return Err(problem::no_lease());
    };
    let room = shared.gate.view(|view| RoomBody::of(room, revision.get(), &call.caller, view));
    Ok(Reply::json(&ChangedRoom { room, passed })?.at(revision.get()))
}
