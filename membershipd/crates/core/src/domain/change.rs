//! What a command makes of the records of a room, or why it does not. Pure: whoever calls it keeps the revisions.

use super::action::Action;
use super::author::Author;
use super::claims::Claims;
use super::claims_key::ClaimsKey;
use super::decide::{Decision, Resource, decide};
use super::keep::{Keep, Keeping};
use super::level::FeatureLevel;
use super::limits::{MEMBERS_PER_ROOM, PERSISTED_ROOMS, ROOMS, ROOMS_PER_USER};
use super::loss::{states_again, takes_away};
use super::member::{MemberState, Membership, RoomRole, Standing};
use super::quota::{Exhausted, Quota};
use super::records::{Record, RecordKey, Records, acting_owners};
use super::refusal::Refusal;
use super::room::{Policy, Room, RoomId, RoomState};
use super::rules::Denial;
use super::subject::Subject;
use super::user::{Handle, State, User};

/// Something to be done to a room, or to somebody's membership of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Make the room and become its owner.
    CreateRoom(Subject, Policy),
    /// Give the room another subject, another policy, another choice of what is kept, or several of these.
    ChangeRoom(Option<Subject>, Option<Policy>, Option<Keep>),
    /// Remove the room for good.
    RemoveRoom,
    /// Invite somebody, with a role.
    Invite(Handle, RoomRole),
    /// Accept one's invitation. The user's open connections are ended, since what they may is fixed, unless they are to be kept.
    Accept {
        /// They go on with what they had.
        keep_connections: bool,
    },
    /// Leave the room, or decline the invitation.
    Leave,
    /// Remove somebody, or take the invitation back.
    Remove(Handle),
    /// Remove somebody, and forbid to invite him.
    Ban(Handle),
    /// Lift a ban.
    Unban(Handle),
    /// Give somebody another role.
    SetRole(Handle, RoomRole),
}

/// What is to be written, and under which conditions it is done.
///
/// The caller makes the `writes` in their order, each by compare-and-set on the revision that was read; a conflict means to
/// begin anew with what is there now. An end in between leaves nothing that anybody can use, and the command completes it when
/// it is given again. Then it fences, if `must_fence`. Only then it releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Records to write; none: it is so already. A command that takes something away always writes, even what is there
    /// already: the new revision keeps every grant off that was made on the old one and has not landed yet.
    pub writes: Vec<Record>,
    /// Records that are not written and on which the permission to write rests; they must not have changed either. Where one
    /// transaction cannot cover them, the fence of whatever changes them does: a node decides on what it can prove.
    pub relies_on: Vec<RecordKey>,
    /// Subject whose claim is to be released when all is done, fence included, unless the room's record names it again by then.
    /// A release too early or too many silences a room, and never lets two be heard in one place.
    pub release: Option<Subject>,
    /// Somebody loses a right that he has now.
    pub takes_away: bool,
    /// It states again what an earlier attempt may have written without coming to its fence.
    pub repeats: bool,
}

impl Change {
    /// Whether no node may honour the old state any more before this is reported as done.
    pub fn must_fence(&self) -> bool {
        self.takes_away || self.repeats
    }
}

/// What is allowed on this bus beside what rooms and roles say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Rooms have to be encrypted: the bus can be reached from outside, and the operator has not said otherwise.
    pub encrypted_only: bool,
    /// How many rooms a user may make.
    pub quota: Quota,
    /// How much of a room is kept at most.
    pub keeping: Keeping,
}

impl Command {
    /// What `user` must be allowed to do, and on what, for this to be done to `room`.
    pub fn asks<'a>(&'a self, user: &'a User, room: &'a RoomId) -> (Action, Resource<'a>) {
        let member = |handle| Resource::Member(room, handle);
        match self {
            Command::CreateRoom(..) => (Action::CreateRoom, Resource::Bus),
            Command::ChangeRoom(..) => (Action::ChangeRoom, Resource::Room(room)),
            Command::RemoveRoom => (Action::RemoveRoom, Resource::Room(room)),
            Command::Invite(handle, role) => (Action::InviteMember(*role), member(handle)),
            Command::Accept { .. } => (Action::AcceptInvitation, member(&user.handle)),
            Command::Leave => (Action::LeaveRoom, member(&user.handle)),
            Command::Remove(handle) => (Action::RemoveMember, member(handle)),
            Command::Ban(handle) => (Action::BanMember, member(handle)),
            Command::Unban(handle) => (Action::UnbanMember, member(handle)),
            Command::SetRole(handle, role) => (Action::SetMemberRole(*role), member(handle)),
        }
    }
}

/// Decides whether `who` (none: nobody has the key that was shown) may give `command` about `room`.
pub fn permits(who: Option<&User>, room: &RoomId, command: &Command, state: &impl Records) -> Decision {
    let Some(user) = who else { return Decision::Deny(Denial::UnknownKey) };
    let (action, resource) = command.asks(user, room);
    let decision = decide(who, action, resource, state);
    if repeats_what_was_given_up(user, room, command, state) { Decision::Allow } else { decision }
}

/// Whether `user` says again what ended a right of his own, and the record shows that he did so before. He has lost the right
/// to do it by doing it; but an outcome that nobody heard of is made certain by repeating, which writes the same once more
/// and fences.
fn repeats_what_was_given_up(user: &User, room: &RoomId, command: &Command, state: &impl Records) -> bool {
    let by_himself = |own: &&Membership| own.by == Author::User(user.handle.clone());
    let Some(own) = state.membership(room, &user.handle).filter(by_himself) else { return false };
    let is_so = match command {
        Command::Leave => own.state == MemberState::Removed,
        Command::SetRole(handle, role) => {
            *handle == user.handle && own.standing() == Standing { role: *role, state: MemberState::Joined }
        }
        _ => false,
    };
    let in_use = state.room(room).is_some_and(|room| room.state == RoomState::Active);
    is_so && in_use && user.state == State::Active
}

/// What `command`, given by `who` (none: nobody has the key that was shown) about `room`, makes of what is in `state`.
pub fn change(
    who: Option<&User>,
    room: &RoomId,
    command: &Command,
    state: &impl Records,
    terms: Terms,
) -> Result<Change, Refusal> {
    if let Decision::Deny(denial) = permits(who, room, command, state) {
        return Err(denial.into());
    }
    let user = who.ok_or(Denial::UnknownKey)?;
    let draft = Draft { user, room, by: Author::User(user.handle.clone()), state, terms };
    let Made { writes, witness, release } = match command {
        Command::CreateRoom(subject, policy) => draft.create(subject, *policy)?,
        Command::ChangeRoom(subject, policy, keep) => draft.change_room(subject.as_ref(), *policy, *keep)?,
        Command::RemoveRoom => draft.remove_room()?,
        Command::Invite(handle, role) => draft.invite(handle, *role)?,
        Command::Accept { keep_connections } => draft.accept(*keep_connections)?,
        Command::Leave => draft.end(&user.handle, MemberState::Removed)?,
        Command::Remove(handle) => draft.end(handle, MemberState::Removed)?,
        Command::Ban(handle) => draft.end(handle, MemberState::Banned)?,
        Command::Unban(handle) => draft.unban(handle)?,
        Command::SetRole(handle, role) => draft.set_role(handle, *role)?,
    };
    let (takes_away, repeats) = (takes_away(&writes, state), states_again(&writes, state));
    let relies_on = draft.relies_on(&writes, witness);
    Ok(Change { writes, relies_on, release, takes_away, repeats })
}

/// What a command comes to.
#[derive(Default)]
struct Made {
    writes: Vec<Record>,
    /// A record of somebody else on which it rests.
    witness: Option<RecordKey>,
    release: Option<Subject>,
}

/// A command on its way to a change.
struct Draft<'a, R> {
    user: &'a User,
    room: &'a RoomId,
    by: Author,
    state: &'a R,
    terms: Terms,
}

impl<R: Records> Draft<'_, R> {
    fn create(&self, subject: &Subject, policy: Policy) -> Result<Made, Refusal> {
        self.check(policy)?;
        let made = Room::new(self.room.clone(), subject.clone(), policy, self.by.clone());
        let is_new = match self.state.room(self.room) {
            None => true,
            Some(room) if room.state == RoomState::Removed => return Err(Refusal::RoomRemoved(self.room.clone())),
            // The same wish again: it finishes what an earlier attempt began.
            Some(r) if (&r.created_by, &r.subject, r.policy) == (&made.created_by, subject, policy) => false,
            Some(_) => return Err(Refusal::RoomExists(self.room.clone())),
        };
        if is_new {
            self.is_signed_where_kept(policy)?;
            self.has_place_for_one_more()?;
        }
        let mut writes = Vec::from_iter(self.claim(subject)?);
        writes.extend(is_new.then_some(Record::Room(made)));
        // Who left the room since, and made it, does not come back by making it again.
        if self.state.membership(self.room, &self.user.handle).is_none() {
            self.has_room_for_one_more(&self.user.handle)?;
            let owner = Standing { role: RoomRole::Owner, state: MemberState::Joined };
            writes.push(self.membership(&self.user.handle, owner));
        }
        if is_new {
            within_quota(self.terms.quota.for_new_room(self.user, policy.persist, self.state), &self.user.handle)?;
        }
        if is_new && policy.persist {
            self.has_disk_for_one_more()?;
        }
        Ok(Made { writes, ..Made::default() })
    }

    fn change_room(
        &self,
        subject: Option<&Subject>,
        policy: Option<Policy>,
        keep: Option<Keep>,
    ) -> Result<Made, Refusal> {
        let room = self.record()?;
        let mut changed = Room { by: self.by.clone(), ..room.clone() };
        changed.subject = subject.unwrap_or(&room.subject).clone();
        changed.policy = policy.unwrap_or(room.policy);
        changed.keep = keep.unwrap_or(room.keep);
        changed.kept = room.kept || (room.policy.persist && !changed.policy.persist);
        self.check(changed.policy)?;
        if changed.keep != room.keep {
            self.may_be_chosen(changed.keep)?;
        }
        if changed.policy != room.policy {
            self.is_signed_where_kept(changed.policy)?;
        }
        if changed.keeps_messages() && !room.keeps_messages() {
            if let Author::User(maker) = &room.created_by {
                within_quota(self.terms.quota.for_keeping(room, self.state), maker)?;
            }
            self.has_disk_for_one_more()?;
        }
        let release = (changed.subject != room.subject).then(|| room.subject.clone());
        let mut writes = Vec::from_iter(self.claim(&changed.subject)?);
        writes.push(Record::Room(changed));
        Ok(Made { writes, release, witness: None })
    }

    fn remove_room(&self) -> Result<Made, Refusal> {
        let room = self.record()?;
        let by = if room.state == RoomState::Removed { room.by.clone() } else { self.by.clone() };
        let release = Some(room.subject.clone());
        Ok(Made { writes: vec![Record::Room(room.removed(by))], release, witness: None })
    }

    fn invite(&self, handle: &Handle, role: RoomRole) -> Result<Made, Refusal> {
        let user = self.state.user(handle).ok_or_else(|| Refusal::NoSuchUser(handle.clone()))?;
        if user.state != State::Active {
            return Err(Refusal::UserInactive(handle.clone()));
        }
        let invited = Standing { role, state: MemberState::Invited };
        match self.standing(handle) {
            Some(Standing { state: MemberState::Banned, .. }) => return Err(Refusal::Banned(handle.clone())),
            Some(Standing { state: MemberState::Joined, role: has }) if has == role => return Ok(Made::default()),
            Some(Standing { state: MemberState::Joined, .. }) => return Err(Refusal::AlreadyJoined(handle.clone())),
            Some(standing) if standing == invited => return Ok(Made::default()),
            Some(Standing { state: MemberState::Invited, .. }) => {}
            Some(Standing { state: MemberState::Removed, .. }) | None => {
                let present = self.state.members(self.room).filter(|m| m.state.is_present()).count();
                if present >= MEMBERS_PER_ROOM {
                    return Err(Refusal::TooManyMembers(self.room.clone()));
                }
            }
        }
        let witness = Some(RecordKey::User(handle.clone()));
        Ok(Made { writes: vec![self.membership(handle, invited)], witness, release: None })
    }

    fn accept(&self, keep_connections: bool) -> Result<Made, Refusal> {
        let handle = &self.user.handle;
        match self.standing(handle) {
            Some(Standing { state: MemberState::Joined, .. }) => Ok(Made::default()),
            Some(Standing { state: MemberState::Invited, role }) => {
                self.has_room_for_one_more(handle)?;
                let joined = Standing { role, state: MemberState::Joined };
                let joined = Membership::new(self.room.clone(), handle.clone(), joined, self.by.clone());
                let reconnects = !keep_connections && self.state.level() >= FeatureLevel::Kept;
                Ok(Made { writes: vec![Record::Membership(Membership { reconnects, ..joined })], ..Made::default() })
            }
            Some(Standing { state: MemberState::Banned, .. }) => Err(Denial::Banned.into()),
            Some(Standing { state: MemberState::Removed, .. }) | None => Err(Denial::NotInvited.into()),
        }
    }

    /// Ends a membership; where there is none, too: an invitation that is still under way must not land afterwards.
    fn end(&self, handle: &Handle, state: MemberState) -> Result<Made, Refusal> {
        if self.state.user(handle).is_none() {
            return Err(Refusal::NoSuchUser(handle.clone()));
        }
        let witness = self.another_owner(handle)?;
        let write = match self.state.membership(self.room, handle) {
            // A removal does not lift a ban.
            Some(banned) if banned.state == MemberState::Banned => Record::Membership(banned.clone()),
            Some(m) => self.membership(handle, Standing { role: m.role, state }),
            None => self.membership(handle, Standing { role: RoomRole::Reader, state }),
        };
        Ok(Made { writes: vec![write], witness, release: None })
    }

    fn unban(&self, handle: &Handle) -> Result<Made, Refusal> {
        match self.standing(handle) {
            Some(Standing { state: MemberState::Banned, role }) => {
                let lifted = Standing { role, state: MemberState::Removed };
                Ok(Made { writes: vec![self.membership(handle, lifted)], ..Made::default() })
            }
            Some(Standing { state: MemberState::Removed, .. }) => Ok(Made::default()),
            _ => Err(Refusal::NotBanned(handle.clone())),
        }
    }

    fn set_role(&self, handle: &Handle, role: RoomRole) -> Result<Made, Refusal> {
        let state = match self.standing(handle) {
            Some(standing) if standing.state.is_present() => standing.state,
            Some(Standing { state: MemberState::Banned, .. }) => return Err(Refusal::Banned(handle.clone())),
            _ => return Err(Refusal::NotPresent(handle.clone())),
        };
        let witness = if role == RoomRole::Owner { None } else { self.another_owner(handle)? };
        Ok(Made { writes: vec![self.membership(handle, Standing { role, state })], witness, release: None })
    }

    fn record(&self) -> Result<&Room, Refusal> {
        self.state.room(self.room).ok_or(Refusal::Denied(Denial::NoSuchRoom))
    }

    fn standing(&self, handle: &Handle) -> Option<Standing> {
        self.state.membership(self.room, handle).map(Membership::standing)
    }

    fn membership(&self, handle: &Handle, standing: Standing) -> Record {
        Record::Membership(Membership::new(self.room.clone(), handle.clone(), standing, self.by.clone()))
    }

    fn check(&self, policy: Policy) -> Result<(), Refusal> {
        if self.terms.encrypted_only && !policy.encrypt { Err(Refusal::MustEncrypt) } else { Ok(()) }
    }

    /// Older releases cannot read the choice.
    fn may_be_chosen(&self, keep: Keep) -> Result<(), Refusal> {
        if self.state.level() < FeatureLevel::Kept {
            return Err(Refusal::KeepNotYet);
        }
        let allowed = self.terms.keeping.allows(keep);
        if allowed { Ok(()) } else { Err(Refusal::KeepOutOfBounds(self.terms.keeping)) }
    }

    /// Older releases make rooms that keep messages without signatures; such rooms stay as they are until their policy is changed.
    fn is_signed_where_kept(&self, policy: Policy) -> Result<(), Refusal> {
        let refused = self.state.level() >= FeatureLevel::Kept && policy.keeps_unsigned();
        if refused { Err(Refusal::PersistUnsigned) } else { Ok(()) }
    }

    /// The document of claims with `subject` for this room, where that is not so already.
    fn claim(&self, subject: &Subject) -> Result<Option<Record>, Refusal> {
        let key = ClaimsKey::deciding(subject, self.state.level());
        let none = Claims::none(key.clone());
        let now = self.state.claims(&key).unwrap_or(&none);
        let claimed = now.claim(subject, self.room)?;
        Ok((claimed != *now).then_some(Record::Claims(claimed)))
    }

    /// Rooms that are in use count, whatever their subject.
    fn has_room_for_one_more(&self, handle: &Handle) -> Result<(), Refusal> {
        let in_use = |room: &RoomId| self.state.room(room).is_some_and(|room| room.state == RoomState::Active);
        let joined = self.state.memberships(handle).filter(|m| m.state == MemberState::Joined && in_use(&m.room));
        if joined.count() >= ROOMS_PER_USER { Err(Refusal::TooManyRooms(handle.clone())) } else { Ok(()) }
    }

    /// At the lowest level the documents of claims are the limit.
    fn has_place_for_one_more(&self) -> Result<(), Refusal> {
        let in_use = || self.state.rooms().filter(|room| room.state == RoomState::Active).count();
        let is_full = self.state.level() >= FeatureLevel::Kept && in_use() >= ROOMS;
        if is_full { Err(Refusal::NoMoreRooms) } else { Ok(()) }
    }

    /// Rooms that have a share of the disk count, whoever is in them. Above the lowest level rooms share the disk by what they keep.
    fn has_disk_for_one_more(&self) -> Result<(), Refusal> {
        if self.state.level() >= FeatureLevel::Kept {
            return Ok(());
        }
        let keep = self.state.rooms().filter(|room| room.id != *self.room && room.keeps_messages()).count();
        if keep >= PERSISTED_ROOMS { Err(Refusal::TooManyPersisted) } else { Ok(()) }
    }

    /// Another owner who can act, where `handle` is one: he must still be one when `handle` is it no longer.
    fn another_owner(&self, handle: &Handle) -> Result<Option<RecordKey>, Refusal> {
        if !acting_owners(self.room, self.state).any(|owner| owner == handle) {
            return Ok(None);
        }
        let other = acting_owners(self.room, self.state).find(|owner| *owner != handle);
        let other = other.ok_or_else(|| Refusal::LastOwner(handle.clone()))?;
        Ok(Some(RecordKey::Membership(self.room.clone(), other.clone())))
    }

    fn relies_on(&self, writes: &[Record], witness: Option<RecordKey>) -> Vec<RecordKey> {
        if writes.is_empty() {
            return Vec::new();
        }
        let handle = &self.user.handle;
        let own = self.standing(handle).map(|_| RecordKey::Membership(self.room.clone(), handle.clone()));
        let room = self.state.room(self.room).map(|_| RecordKey::Room(self.room.clone()));
        let mut keys: Vec<_> =
            [RecordKey::User(handle.clone())].into_iter().chain(room).chain(own).chain(witness).collect();
        keys.retain(|key| writes.iter().all(|write| write.key() != *key));
        keys.sort();
        keys.dedup();
        keys
    }
}

fn within_quota(exhausted: Option<Exhausted>, maker: &Handle) -> Result<(), Refusal> {
    exhausted.map_or(Ok(()), |exhausted| Err(Refusal::Quota(maker.clone(), exhausted)))
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
