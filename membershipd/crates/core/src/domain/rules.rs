//! The rules: who may do what, over the few facts that matter. The one place where they stand.
//!
//! `decide` looks the facts up and asks here; so does `loss`, over all actions, to see what a change takes away.

use super::action::Action;
use super::member::{MemberState, RoomRole, Standing};
use super::room::{Policy, RoomState};
use super::subject::Space;
use super::user::{Role, State};

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No user has this key.
    #[error("unknown key")]
    UnknownKey,
    /// The user is switched off.
    #[error("user is disabled")]
    Disabled,
    /// The user is gone for good.
    #[error("user was removed")]
    Removed,
    /// Only an admin of the bus may.
    #[error("only an admin of the bus may")]
    NotAdmin,
    /// There is no such room.
    #[error("there is no such room")]
    NoSuchRoom,
    /// The room is gone for good.
    #[error("the room was removed")]
    RoomRemoved,
    /// Not in the room.
    #[error("not a member of the room")]
    NotMember,
    /// Invited, but not in the room yet.
    #[error("invited to the room, but has not accepted yet")]
    NotJoined,
    /// Not even invited.
    #[error("not invited to the room")]
    NotInvited,
    /// Banned from the room.
    #[error("banned from the room")]
    Banned,
    /// In the room, with a role that is too low.
    #[error("needs a higher role in the room")]
    RoleTooLow,
    /// The other's role, or the one to be given, is too high.
    #[error("needs a higher role than the one that is concerned")]
    Outranked,
    /// Only the one concerned may.
    #[error("only the user concerned can do that")]
    NotOneself,
    /// Oneself is the one concerned.
    #[error("this is not for oneself; leave the room instead")]
    Oneself,
    /// The room does not have this subject.
    #[error("the subject is not the room's")]
    NotItsSubject,
    /// The policy of the room keeps no messages.
    #[error("the room keeps no messages")]
    NotPersisted,
    /// The policy of the room has no keys.
    #[error("the room has no keys: its messages are in clear")]
    NotEncrypted,
    /// The policy of the room wants messages sealed.
    #[error("the room's messages have to be sealed")]
    MustEncrypt,
    /// The policy of the room wants messages signed.
    #[error("the room's messages have to be signed")]
    MustSign,
    /// The room is not in the space of requests.
    #[error("the room is not one for requests")]
    NotRpc,
    /// The action is not one on that kind of resource: a mistake of whoever asks.
    #[error("the action does not apply to that")]
    NotApplicable,
}

/// The facts on which a decision rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    /// Who wants to; none: nobody has the key that was shown.
    pub(super) who: Option<(Role, State)>,
    /// What he wants to do.
    pub(super) action: Action,
    /// On what.
    pub(super) on: On,
}

/// What an action is on, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    Bus,
    User { oneself: bool },
    Room(Option<RoomFacts>),
    Member(Option<RoomFacts>, Target),
    Subject(Option<RoomFacts>, SubjectFacts),
}

/// Facts about a room and about how the one who asks stands to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoomFacts {
    pub(super) state: RoomState,
    pub(super) policy: Policy,
    pub(super) own: Option<Standing>,
    /// No owner is there who could act.
    pub(super) ownerless: bool,
}

/// Facts about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SubjectFacts {
    /// It is the room's, by record and by claim.
    pub(super) held: bool,
    pub(super) space: Space,
}

/// Whom an action on a member concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Oneself,
    Other(Option<Standing>),
}

/// Applies the rules.
pub(super) fn judge(case: Case) -> Result<(), Denial> {
    let admin = match case.who {
        None => return Err(Denial::UnknownKey),
        Some((_, State::Disabled)) => return Err(Denial::Disabled),
        Some((_, State::Removed)) => return Err(Denial::Removed),
        Some((role, State::Active)) => role == Role::Admin,
    };
    match case.on {
        On::Bus => on_bus(case.action, admin),
        On::User { oneself } => on_user(case.action, admin, oneself),
        On::Room(room) => on_room(case.action, admin, room.ok_or(Denial::NoSuchRoom)?),
        On::Member(room, target) => on_member(case.action, admin, room.ok_or(Denial::NoSuchRoom)?, target),
        On::Subject(room, subject) => on_subject(case.action, room.ok_or(Denial::NoSuchRoom)?, subject),
    }
}

fn needs(holds: bool, denial: Denial) -> Result<(), Denial> {
    if holds { Ok(()) } else { Err(denial) }
}

fn on_bus(action: Action, admin: bool) -> Result<(), Denial> {
    match action {
        Action::Connect | Action::ReadDirectory | Action::ListRooms | Action::CreateRoom => Ok(()),
        Action::ListUsers
        | Action::AddUser
        | Action::InviteUser
        | Action::ListInvites
        | Action::RevokeInvite
        | Action::ReadAudit
        | Action::ReadStatus
        | Action::ListConnections
        | Action::CloseConnection => needs(admin, Denial::NotAdmin),
        _ => Err(Denial::NotApplicable),
    }
}

fn on_user(action: Action, admin: bool, oneself: bool) -> Result<(), Denial> {
    match action {
        Action::ReadUser => needs(admin || oneself, Denial::NotAdmin),
        Action::ChangeUser | Action::RemoveUser => needs(admin, Denial::NotAdmin),
        Action::PublishKey => needs(oneself, Denial::NotOneself),
        _ => Err(Denial::NotApplicable),
    }
}

// An admin of the bus sees that a room exists and who is in it, and can end both. What is said in it he learns as a member
// or not at all.
fn on_room(action: Action, admin: bool, room: RoomFacts) -> Result<(), Denial> {
    match action {
        Action::ReadRoom if admin => return Ok(()),
        // On a tombstone too: a removal of unknown outcome is finished by repeating it.
        Action::RemoveRoom => return if admin { Ok(()) } else { at_least(RoomRole::Owner, room.own) },
        _ => needs(room.state == RoomState::Active, Denial::RoomRemoved)?,
    }
    match action {
        Action::ReadRoom => match joined(room.own) {
            Ok(_) | Err(Denial::NotJoined) => Ok(()),
            Err(denial) => Err(denial),
        },
        Action::ListMembers if admin => Ok(()),
        Action::ListMembers | Action::ReceiveEvents => joined(room.own).map(|_| ()),
        Action::ListBlobs | Action::ReadBlob | Action::RemoveOwnBlob => joined(room.own).map(|_| ()),
        Action::WriteBlob => at_least(RoomRole::Member, room.own),
        Action::RemoveBlob => at_least(RoomRole::Moderator, room.own),
        Action::ChangeRoom => at_least(RoomRole::Owner, room.own),
        Action::ReadHistory => joined(room.own).and_then(|_| needs(room.policy.persist, Denial::NotPersisted)),
        Action::ReadRoomKeys => joined(room.own).and_then(|_| needs(room.policy.encrypt, Denial::NotEncrypted)),
        Action::RotateRoomKeys => {
            at_least(RoomRole::Member, room.own).and_then(|()| needs(room.policy.encrypt, Denial::NotEncrypted))
        }
        _ => Err(Denial::NotApplicable),
    }
}

fn on_member(action: Action, admin: bool, room: RoomFacts, target: Target) -> Result<(), Denial> {
    needs(room.state == RoomState::Active, Denial::RoomRemoved)?;
    let oneself = target == Target::Oneself;
    match action {
        Action::ReadMember if admin => Ok(()),
        Action::ReadMember => match joined(room.own) {
            Err(Denial::NotJoined) if oneself => Ok(()),
            other => other.map(|_| ()),
        },
        Action::AcceptInvitation | Action::LeaveRoom => {
            needs(oneself, Denial::NotOneself)?;
            match joined(room.own) {
                Ok(_) | Err(Denial::NotJoined) => Ok(()),
                Err(Denial::NotMember) if action == Action::AcceptInvitation => Err(Denial::NotInvited),
                Err(denial) => Err(denial),
            }
        }
        Action::InviteMember(_) | Action::RemoveMember | Action::BanMember | Action::UnbanMember if oneself => {
            Err(Denial::Oneself)
        }
        Action::InviteMember(role) => {
            at_least(RoomRole::Moderator, room.own)?;
            outranks(room.own, in_force(target))?;
            outranks(room.own, Some(role))
        }
        Action::RemoveMember | Action::BanMember | Action::UnbanMember if admin => Ok(()),
        Action::RemoveMember | Action::BanMember | Action::UnbanMember => {
            at_least(RoomRole::Moderator, room.own)?;
            outranks(room.own, held(target))
        }
        // A room whose owners are all gone could never be governed again. Only who is in it already can be its next owner, so
        // an admin cannot let himself in.
        Action::SetMemberRole(RoomRole::Owner) if admin && room.ownerless && is_joined(room.own, target) => Ok(()),
        Action::SetMemberRole(role) => {
            at_least(RoomRole::Moderator, room.own)?;
            let concerned = if oneself { room.own.map(|own| own.role) } else { held(target) };
            outranks(room.own, concerned)?;
            outranks(room.own, Some(role))
        }
        _ => Err(Denial::NotApplicable),
    }
}

fn on_subject(action: Action, room: RoomFacts, subject: SubjectFacts) -> Result<(), Denial> {
    needs(room.state == RoomState::Active, Denial::RoomRemoved)?;
    let writes = || at_least(RoomRole::Member, room.own);
    match action {
        Action::Publish => writes()?,
        Action::PublishClear => writes().and_then(|()| needs(!room.policy.encrypt, Denial::MustEncrypt))?,
        Action::PublishUnsigned => writes().and_then(|()| needs(!room.policy.sign, Denial::MustSign))?,
        Action::Subscribe => joined(room.own).map(|_| ())?,
        Action::Reply => writes().and_then(|()| needs(subject.space == Space::Rpc, Denial::NotRpc))?,
        _ => return Err(Denial::NotApplicable),
    }
    needs(subject.held, Denial::NotItsSubject)
}

/// The role of who is in the room.
fn joined(own: Option<Standing>) -> Result<RoomRole, Denial> {
    match own.map(|own| (own.state, own.role)) {
        Some((MemberState::Joined, role)) => Ok(role),
        Some((MemberState::Invited, _)) => Err(Denial::NotJoined),
        Some((MemberState::Banned, _)) => Err(Denial::Banned),
        Some((MemberState::Removed, _)) | None => Err(Denial::NotMember),
    }
}

fn at_least(role: RoomRole, own: Option<Standing>) -> Result<(), Denial> {
    needs(joined(own)? >= role, Denial::RoleTooLow)
}

/// An owner stands above everybody, other owners and himself included; the rest only above lower roles.
fn outranks(own: Option<Standing>, role: Option<RoomRole>) -> Result<(), Denial> {
    let own = joined(own)?;
    needs(own == RoomRole::Owner || role.is_none_or(|role| own > role), Denial::Outranked)
}

/// The role that the other has, or had: a ban of a moderator is not for moderators to lift.
fn held(target: Target) -> Option<RoomRole> {
    match target {
        Target::Oneself => None,
        Target::Other(standing) => standing.map(|standing| standing.role),
    }
}

/// The role that the other has or is invited to.
fn in_force(target: Target) -> Option<RoomRole> {
    match target {
        Target::Other(Some(standing)) if standing.state.is_present() => Some(standing.role),
        _ => None,
    }
}

fn is_joined(own: Option<Standing>, target: Target) -> bool {
    let standing = if let Target::Other(other) = target { other } else { own };
    standing.is_some_and(|standing| standing.state == MemberState::Joined)
}
