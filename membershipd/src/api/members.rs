//! Members of rooms over the API: invited, joined, removed, banned.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body;
use super::call::{Call, Reply, Target};
use super::outcome::{self, Passed};
use super::paging::{InRoom, Paging, cursor};
use super::problem::Refuse as _;
use super::problem::{self, Problem};
use super::shared::Shared;
use crate::domain::{
    Author, Command, Denial, Handle, MemberState, Membership, Record, Records as _, RoomId, RoomRole, User,
};
use crate::view::Versioned;
use unibus_api_types::problem::Kind;

/// How a user stands to a room. Its revision is the ETag of the answer where there is one membership in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Member)]
pub(super) struct MemberBody {
    /// The room.
    #[schema(value_type = String)]
    room: RoomId,
    /// The user.
    #[schema(value_type = String)]
    handle: Handle,
    /// `owner`, `moderator`, `member` or `reader`; of who is not in the room, the role that he had.
    #[schema(value_type = String)]
    role: RoomRole,
    /// `invited`, `joined`, `removed` or `banned`.
    #[schema(value_type = String)]
    state: MemberState,
    /// Who made the last change: a handle, or `root@` and a node.
    #[schema(value_type = String)]
    changed_by: Author,
    /// What If-Match names, in quotes, for a change of this very record.
    revision: u64,
}

impl MemberBody {
    fn of(membership: Membership, revision: u64) -> Self {
        let Membership { schema: _, room, handle, role, state, by } = membership;
        Self { room, handle, role, state, changed_by: by, revision }
    }
}

/// A page of members.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Members)]
pub(super) struct MembersBody {
    members: Vec<MemberBody>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A role in a room.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MemberRole)]
pub(super) struct RoleBody {
    /// `owner`, `moderator`, `member` or `reader`.
    #[schema(value_type = String)]
    role: RoomRole,
}

/// What a change of a membership came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangedMember {
    member: MemberBody,
    #[serde(flatten)]
    passed: Passed,
}

/// What a request to invite somebody comes to.
pub(super) fn invite(_: &User, target: &Target, body: &[u8]) -> Result<Command, Problem> {
    let RoleBody { role } = body::json(body)?;
    Ok(Command::Invite(target.user()?.clone(), role))
}

/// What a request to give a role comes to.
pub(super) fn set_role(_: &User, target: &Target, body: &[u8]) -> Result<Command, Problem> {
    let RoleBody { role } = body::json(body)?;
    Ok(Command::SetRole(target.user()?.clone(), role))
}

/// What a request to end a membership comes to: who ends his own leaves.
pub(super) fn end(caller: &User, target: &Target, _: &[u8]) -> Result<Command, Problem> {
    let handle = target.user()?;
    Ok(if *handle == caller.handle { Command::Leave } else { Command::Remove(handle.clone()) })
}

/// What a request to accept an invitation comes to. Nobody accepts for another.
pub(super) fn accept(caller: &User, target: &Target, _: &[u8]) -> Result<Command, Problem> {
    if *target.user()? == caller.handle { Ok(Command::Accept) } else { Err(Denial::NotOneself.into()) }
}

/// What a request to ban somebody comes to.
pub(super) fn ban(_: &User, target: &Target, _: &[u8]) -> Result<Command, Problem> {
    target.user().cloned().map(Command::Ban)
}

/// What a request to lift a ban comes to.
pub(super) fn unban(_: &User, target: &Target, _: &[u8]) -> Result<Command, Problem> {
    target.user().cloned().map(Command::Unban)
}

/// Who is in a room, invited or banned. Whoever was removed or left is not shown.
pub(super) async fn list(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let paging: Paging<InRoom> = call.page()?;
    let room = call.target.room()?;
    let (members, next) = shared.gate.view(|view| {
        let after = |m: &&Membership| paging.after.as_ref().is_none_or(|InRoom(after)| m.handle > *after);
        let there = |m: &&Membership| m.state != MemberState::Removed;
        let mut rest =
            view.members(room).filter(after).filter(there).filter_map(|m| view.versioned_membership(room, &m.handle));
        let shown: Vec<&Versioned<Membership>> = rest.by_ref().take(paging.size.get()).collect();
        let last = shown.last().filter(|_| rest.next().is_some());
        let next = last.map(|last| cursor(&InRoom(last.value.handle.clone())));
        (shown.into_iter().map(|m| MemberBody::of(m.value.clone(), m.revision)).collect(), next)
    });
    Reply::json(&MembersBody { members, next })
}

/// How one user stands to a room.
pub(super) async fn show(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let (room, handle) = (call.target.room()?, call.target.user()?);
    let found = shared.gate.view(|view| view.versioned_membership(room, handle).cloned());
    let missing = || Kind::NOT_FOUND.because(format!("'{handle}' has never been in the room, nor invited to it"));
    let Versioned { value, revision } = found.ok_or_else(missing)?;
    Ok(Reply::json(&MemberBody::of(value, revision))?.at(revision))
}

/// Changes a membership.
pub(super) async fn carry_out(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let outcome = outcome::of(&shared, &call).await?;
    let passed = Passed::of(&outcome);
    let (Some(Record::Membership(membership)), Some(revision)) = (outcome.value, outcome.revision) else {
        // Nothing was written, and the lease ended before it could be said what is there.
        return Err(problem::no_lease());
    };
    let revision = revision.get();
    Ok(Reply::json(&ChangedMember { member: MemberBody::of(membership, revision), passed })?.at(revision))
}
