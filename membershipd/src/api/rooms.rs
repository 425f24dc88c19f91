//! Rooms over the API.

use std::sync::Arc;

use axum::http::StatusCode;

use super::body;
use super::call::{Call, Reply};
use super::outcome;
use super::paging::cursor;
use super::problem::{self, Problem};
use super::shared::Shared;
use super::target::{Bus, FutureRoom, OneRoom};
use crate::api::problem::Refuse as _;
use crate::commands::Outcome;
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::bus;
use unibus_core::domain::{
    Action, Command, FeatureLevel, Keep, Keeping, Policy, Record, Records as _, Resource, Role, Room, RoomId,
    RoomState, Subject, User, decide, own_subject,
};
use unibus_core::view::{Versioned, View};

fn body_of(room: Room, revision: u64, caller: &User, view: &View, server: Keeping) -> bodies::Room {
    let own = view.membership(&room.id, &caller.handle);
    let own = own.map(|own| bodies::OwnMembership { role: own.role, state: own.state });
    let speaks = || decide(Some(caller), Action::Publish, Resource::Subject(&room.id, &room.subject), view).is_allow();
    let kept = room.policy.persist && view.level() >= FeatureLevel::Kept && speaks();
    let keeper = kept.then(|| bodies::Keeper {
        publish: own_subject(&room.subject, &caller.handle),
        notices: bus::kept_notices(caller.handle.as_str(), room.id.as_str()),
    });
    let advice = advice(&room, view).map(str::to_owned);
    let is_kept = room.policy.persist && room.state == RoomState::Active && view.level() >= FeatureLevel::Kept;
    let keeps = is_kept.then(|| server.with(room.keep).into());
    let keep = (!room.keep.is_open()).then(|| room.keep.into());
    let Room { schema: _, id, subject, policy, kept: _, keep: _, state, created_by, by } = room;
    bodies::Room {
        id,
        subject,
        policy: policy.into(),
        state,
        created_by,
        changed_by: by,
        revision,
        own,
        keeper,
        keep,
        keeps,
        advice,
    }
}

/// What the owners of a room that an older release made should change.
fn advice(room: &Room, view: &View) -> Option<&'static str> {
    let is_unsigned = room.state == RoomState::Active && room.policy.keeps_unsigned();
    (is_unsigned && view.level() >= FeatureLevel::Kept).then_some(
        "what is said here is kept without signatures, so readers have the word of the daemons for who said it; \
         an owner should set 'sign': once it is set it cannot be unset while messages are kept",
    )
}

/// The subject, or what is wrong with it.
fn subject(text: &str) -> Result<Subject, Problem> {
    text.parse().map_err(|error: unibus_core::domain::InvalidValue| {
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
pub(super) fn create(_: &User, _: &FutureRoom, body: &[u8]) -> Result<Command, Problem> {
    let bodies::NewRoom { subject: text, policy } = body::json(body)?;
    Ok(Command::CreateRoom(subject(&text)?, policy.map_or(Policy::CONVERSATION, Policy::from)))
}

/// What a request to change a room comes to.
pub(super) fn change(_: &User, _: &OneRoom, body: &[u8]) -> Result<Command, Problem> {
    let bodies::RoomPatch { subject: text, policy, keep } = body::json(body)?;
    if text.is_none() && policy.is_none() && keep.is_none() {
        return Err(Kind::BAD_JSON.because("name a subject, a policy, or what is to be kept"));
    }
    Ok(Command::ChangeRoom(text.as_deref().map(subject).transpose()?, policy.map(Policy::from), keep.map(Keep::from)))
}

/// What a request to remove a room comes to.
pub(super) fn remove(_: &User, _: &OneRoom, _: &[u8]) -> Result<Command, Problem> {
    Ok(Command::RemoveRoom)
}

/// The rooms that the caller may read.
pub(super) async fn list(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let paging = call.page()?;
    let (caller, server) = (&call.caller, shared.terms.keeping);
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
        let body = |room: &Versioned<Room>| body_of(room.value.clone(), room.revision, caller, view, server);
        (shown.into_iter().map(body).collect(), next)
    });
    Reply::json(&bodies::Rooms { rooms, next })
}

/// One room.
pub(super) async fn show(shared: Arc<Shared>, call: Call<OneRoom>) -> Result<Reply, Problem> {
    let OneRoom(id) = &call.target;
    let found = shared.gate.view(|view| {
        let Versioned { value, revision } = view.versioned_room(id)?.clone();
        Some(body_of(value, revision, &call.caller, view, shared.terms.keeping))
    });
    let body = found.ok_or_else(|| Problem::from(unibus_core::domain::Denial::NoSuchRoom))?;
    Ok(Reply::json(&body)?.at(body.revision))
}

/// Makes a room.
pub(super) async fn make(shared: Arc<Shared>, call: Call<FutureRoom>, command: Command) -> Result<Reply, Problem> {
    let outcome = outcome::of(&shared, &call, command).await?;
    keep_messages(&shared, &outcome).await;
    let status = if outcome.changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(changed(&shared, &call.caller, outcome)?.status(status))
}

/// Changes or removes a room.
pub(super) async fn carry_out(shared: Arc<Shared>, call: Call<OneRoom>, command: Command) -> Result<Reply, Problem> {
    let outcome = outcome::of(&shared, &call, command).await?;
    keep_messages(&shared, &outcome).await;
    changed(&shared, &call.caller, outcome)
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

fn changed(shared: &Shared, caller: &User, outcome: Outcome) -> Result<Reply, Problem> {
    let passed = outcome::passed(&outcome);
    let (Some(Record::Room(room)), Some(revision)) = (outcome.value, outcome.revision) else {
        // Nothing was written, and the lease ended before it could be said what is there.
        return Err(problem::no_lease());
    };
    let room = shared.gate.view(|view| body_of(room, revision.get(), caller, view, shared.terms.keeping));
    Ok(Reply::json(&bodies::ChangedRoom { room, passed })?.at(revision.get()))
}
