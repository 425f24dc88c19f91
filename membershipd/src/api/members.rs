//! Members of rooms over the API: invited, joined, removed, banned.

use std::sync::Arc;

use super::body;
use super::call::{Call, Reply};
use super::outcome;
use super::paging::{InRoom, Paging, cursor};
use super::problem::{self, Problem};
use super::shared::Shared;
use super::target::{OneMember, OneRoom};
use crate::api::problem::Refuse as _;
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Command, Denial, MemberState, Membership, Record, Records as _, User};
use unibus_core::view::Versioned;

fn body_of(membership: Membership, revision: u64) -> bodies::Member {
    let Membership { schema: _, room, handle, role, state, by, reconnects: _ } = membership;
    bodies::Member { room, handle, role, state, changed_by: by, revision }
}

/// What a request to invite somebody comes to.
pub(super) fn invite(_: &User, target: &OneMember, body: &[u8]) -> Result<Command, Problem> {
    let bodies::MemberRole { role } = body::json(body)?;
    Ok(Command::Invite(target.handle.clone(), role))
}

/// What a request to give a role comes to.
pub(super) fn set_role(_: &User, target: &OneMember, body: &[u8]) -> Result<Command, Problem> {
    let bodies::MemberRole { role } = body::json(body)?;
    Ok(Command::SetRole(target.handle.clone(), role))
}

/// What a request to end a membership comes to: who ends his own leaves.
pub(super) fn end(caller: &User, target: &OneMember, _: &[u8]) -> Result<Command, Problem> {
    let OneMember { handle, .. } = target;
    Ok(if *handle == caller.handle { Command::Leave } else { Command::Remove(handle.clone()) })
}

/// What a request to accept an invitation comes to. No user accepts for another. Without a body the caller's connections are ended.
pub(super) fn accept(caller: &User, target: &OneMember, body: &[u8]) -> Result<Command, Problem> {
    let bodies::Acceptance { keep_connections } =
        if body.is_empty() { bodies::Acceptance::default() } else { body::json(body)? };
    if target.handle == caller.handle {
        Ok(Command::Accept { keep_connections })
    } else {
        Err(Denial::NotOneself.into())
    }
}

/// What a request to ban somebody comes to.
pub(super) fn ban(_: &User, target: &OneMember, _: &[u8]) -> Result<Command, Problem> {
    Ok(Command::Ban(target.handle.clone()))
}

/// What a request to lift a ban comes to.
pub(super) fn unban(_: &User, target: &OneMember, _: &[u8]) -> Result<Command, Problem> {
    Ok(Command::Unban(target.handle.clone()))
}

/// Who is in a room, invited or banned. Whoever was removed or left is not shown.
pub(super) async fn list(shared: Arc<Shared>, call: Call<OneRoom>) -> Result<Reply, Problem> {
    let paging: Paging<InRoom> = call.page()?;
    let OneRoom(room) = &call.target;
    let (members, next) = shared.gate.view(|view| {
        let after = |m: &&Membership| paging.after.as_ref().is_none_or(|InRoom(after)| m.handle > *after);
        let there = |m: &&Membership| m.state != MemberState::Removed;
        let mut rest =
            view.members(room).filter(after).filter(there).filter_map(|m| view.versioned_membership(room, &m.handle));
        let shown: Vec<&Versioned<Membership>> = rest.by_ref().take(paging.size.get()).collect();
        let last = shown.last().filter(|_| rest.next().is_some());
        let next = last.map(|last| cursor(&InRoom(last.value.handle.clone())));
        (shown.into_iter().map(|m| body_of(m.value.clone(), m.revision)).collect(), next)
    });
    Reply::json(&bodies::Members { members, next })
}

/// How one user stands to a room.
pub(super) async fn show(shared: Arc<Shared>, call: Call<OneMember>) -> Result<Reply, Problem> {
    let OneMember { room, handle } = &call.target;
    let found = shared.gate.view(|view| view.versioned_membership(room, handle).cloned());
    let missing = || Kind::NOT_FOUND.because(format!("'{handle}' has never been in the room, nor invited to it"));
    let Versioned { value, revision } = found.ok_or_else(missing)?;
    Ok(Reply::json(&body_of(value, revision))?.at(revision))
}

/// Changes a membership.
pub(super) async fn carry_out(shared: Arc<Shared>, call: Call<OneMember>, command: Command) -> Result<Reply, Problem> {
    let outcome = outcome::of(&shared, &call, command).await?;
    let passed = outcome::passed(&outcome);
    let (Some(Record::Membership(membership)), Some(revision)) = (outcome.value, outcome.revision) else {
        // Nothing was written, and the lease ended before it could be said what is there.
        return Err(problem::no_lease());
    };
    let revision = revision.get();
    Ok(Reply::json(&bodies::ChangedMember { member: body_of(membership, revision), passed })?.at(revision))
}
