//! Who may make which entry. What roles permit is asked of the daemon's own rules (`unibus_core::domain::decide`), with the log's word on
//! who is what, and with no admin: the bus's admins have no say here. What is left are the steps that an entry may make.

use std::collections::BTreeMap;

use super::entry::{Entry, Keys, RosterAction};
use super::facts::Facts;
use super::limits::{ENTRIES, GRANTS, MEMBERS};
use super::refusal::RosterRefusal;
use super::signed::SignedEntry;
use super::state::{Link, LinkState, Moment, Predecessor, State};
use crate::frame::RosterHead;
use crate::recipient::HpkePub;
use unibus_core::domain::{Action, Denial, Handle, MemberState, RoomRole, SignPub, Standing};

impl State {
    /// The state after the first entry of a log.
    pub fn begin(first: &SignedEntry) -> Result<Self, RosterRefusal> {
        let entry = first.entry();
        let (subject, policy, people) = match &entry.action {
            RosterAction::Create { hpke_pub, subject, policy }
            | RosterAction::Continue { hpke_pub, subject, policy, .. } => {
                let keys = Keys { sign_pub: entry.actor_key, hpke_pub: *hpke_pub };
                (subject, *policy, vec![(entry.actor.clone(), OWNER, keys)])
            }
            RosterAction::Adopt { subject, policy, members } => {
                let of = |state, role| Standing { role, state };
                let people = members.iter().map(|one| (one.handle.clone(), of(one.state, one.role), one.keys));
                (subject, *policy, people.collect())
            }
            _ => return Err(RosterRefusal::Gap { expected: 1, found: entry.number }),
        };
        first.prove()?;
        let predecessor = match &entry.action {
            RosterAction::Continue { room, head, .. } => Some(Predecessor { room: room.clone(), head: *head }),
            _ => None,
        };
        let room = entry.room.clone();
        let (hashes, links) = (vec![first.hash()], BTreeMap::new());
        let mut state =
            Self { room, subject: subject.clone(), policy, predecessor, hashes, people: BTreeMap::new(), links };
        for (handle, standing, keys) in people {
            if standing.state.is_present() && state.places() >= MEMBERS {
                return Err(RosterRefusal::TooManyMembers);
            }
            state.check_new(&handle, keys)?;
            state.put(entry, &handle, standing, keys);
        }
        let actor = state.person(&entry.actor).filter(|own| own.keys.sign_pub == entry.actor_key);
        if actor.is_none_or(|own| own.standing() != OWNER) {
            return Err(Denial::RoleTooLow.into());
        }
        Ok(state)
    }

    /// Verifies `signed` against this state and applies it. On an error nothing changes.
    ///
    /// # Errors
    /// It is not the next entry of this log, is not signed by whom it names, or its actor may not do what it says.
    pub fn apply(&mut self, signed: &SignedEntry) -> Result<(), RosterRefusal> {
        let (entry, hash) = (signed.entry(), signed.hash());
        self.follows(entry, hash)?;
        signed.prove()?;
        self.is_by(entry)?;
        if self.length() >= GRANTS && !self.ends_something(&entry.action) {
            return Err(RosterRefusal::Full);
        }
        self.carry_out(entry)?;
        self.hashes.push(hash);
        Ok(())
    }

    /// Whether the log takes no more entries that let people in.
    pub fn is_full(&self) -> bool {
        self.length() >= GRANTS
    }

    /// Whether it is the next one of this very log.
    fn follows(&self, entry: &Entry, hash: RosterHead) -> Result<(), RosterRefusal> {
        if entry.room != self.room {
            return Err(RosterRefusal::ForeignRoom { expected: self.room.clone(), found: entry.room.clone() });
        }
        let head = self.head();
        if entry.number <= head.number {
            let is_known = self.hash(entry.number) == Some(hash);
            let applied = RosterRefusal::Applied(entry.number);
            return Err(if is_known { applied } else { RosterRefusal::Fork(entry.number) });
        }
        if entry.number > head.number + 1 {
            return Err(RosterRefusal::Gap { expected: head.number + 1, found: entry.number });
        }
        if entry.previous != head.hash {
            return Err(RosterRefusal::Fork(head.number));
        }
        if entry.number > ENTRIES { Err(RosterRefusal::Full) } else { Ok(()) }
    }

    /// Whether it is signed with the key that its actor has here. Who comes in with a link has none yet.
    fn is_by(&self, entry: &Entry) -> Result<(), RosterRefusal> {
        let Some(moments) = self.people.get(&entry.actor) else { return Ok(()) };
        if entry.action.invite_key().is_some() || self.key_of(&entry.actor) == Some(entry.actor_key) {
            return Ok(());
        }
        let replaced = moments.iter().any(|moment| moment.keys.sign_pub == entry.actor_key);
        let actor = entry.actor.clone();
        Err(if replaced { RosterRefusal::ReplacedKey(actor) } else { RosterRefusal::OtherKey(actor) })
    }

    /// Whether it only makes an end of something that there is.
    fn ends_something(&self, action: &RosterAction) -> bool {
        match action {
            RosterAction::Leave | RosterAction::Remove { .. } | RosterAction::RevokeLink { .. } => true,
            RosterAction::Ban { target } => self.person(target).is_some_and(|moment| moment.state.is_present()),
            _ => false,
        }
    }

    fn carry_out(&mut self, entry: &Entry) -> Result<(), RosterRefusal> {
        let actor = &entry.actor;
        match &entry.action {
            RosterAction::Create { .. } | RosterAction::Adopt { .. } | RosterAction::Continue { .. } => {
                // Only entry 1 is one of these, and that is not the next one.
                Err(RosterRefusal::Fork(1))
            }
            RosterAction::Invite { target, keys, role } => {
                self.may(actor, Action::InviteMember(*role), target)?;
                self.check_absent(target)?;
                self.check_place()?;
                self.check_new(target, *keys)?;
                self.put(entry, target, Standing { role: *role, state: MemberState::Invited }, *keys);
                Ok(())
            }
            RosterAction::InviteLink { invite_pub, role } => {
                Facts::of(self, actor, None)?.may(Action::InviteMember(*role))?;
                self.check_place()?;
                self.check_new_key(*invite_pub)?;
                let (by, by_key) = (actor.clone(), entry.actor_key);
                self.links.insert(*invite_pub, Link { role: *role, by, by_key, state: LinkState::Open });
                Ok(())
            }
            RosterAction::Accept { hpke_pub } => {
                let own = self.may(actor, Action::AcceptInvitation, actor)?.ok_or(Denial::NotInvited)?;
                if own.state == MemberState::Joined {
                    return Err(RosterRefusal::Unchanged);
                }
                if own.keys.hpke_pub != *hpke_pub {
                    return Err(RosterRefusal::OtherHpkeKey(actor.clone()));
                }
                self.put(entry, actor, Standing { role: own.role, state: MemberState::Joined }, own.keys);
                Ok(())
            }
            RosterAction::AcceptLink { invite_pub, hpke_pub } => self.accept_link(entry, *invite_pub, *hpke_pub),
            RosterAction::Leave => {
                self.may(actor, Action::LeaveRoom, actor)?;
                self.end(entry, actor, MemberState::Removed)
            }
            RosterAction::Remove { target } => {
                self.may(actor, Action::RemoveMember, target)?;
                self.end(entry, target, MemberState::Removed)
            }
            RosterAction::Ban { target } => {
                self.may(actor, Action::BanMember, target)?;
                let now = self.person(target).ok_or_else(|| RosterRefusal::NotPresent(target.clone()))?.clone();
                match now.state {
                    MemberState::Banned => Err(RosterRefusal::Unchanged),
                    MemberState::Removed => {
                        let banned = Standing { role: now.role, state: MemberState::Banned };
                        self.put(entry, target, banned, now.keys);
                        Ok(())
                    }
                    MemberState::Joined | MemberState::Invited => self.end(entry, target, MemberState::Banned),
                }
            }
            RosterAction::Unban { target } => {
                let banned = self.may(actor, Action::UnbanMember, target)?;
                let banned = banned.filter(|moment| moment.state == MemberState::Banned);
                let banned = banned.ok_or_else(|| RosterRefusal::NotBanned(target.clone()))?;
                self.put(entry, target, Standing { role: banned.role, state: MemberState::Removed }, banned.keys);
                Ok(())
            }
            RosterAction::RevokeLink { invite_pub } => self.revoke_link(actor, *invite_pub),
            RosterAction::SetRole { target, role } => self.set_role(entry, target, *role),
            RosterAction::SetPolicy { policy } => {
                Facts::of(self, actor, None)?.may_change_room()?;
                if self.policy == *policy {
                    return Err(RosterRefusal::Unchanged);
                }
                self.policy = *policy;
                Ok(())
            }
            RosterAction::SetSubject { subject } => {
                Facts::of(self, actor, None)?.may_change_room()?;
                if self.subject == *subject {
                    return Err(RosterRefusal::Unchanged);
                }
                self.subject = subject.clone();
                Ok(())
            }
            RosterAction::ReplaceKey { target, keys } => self.replace_key(entry, target, *keys),
        }
    }

    fn accept_link(&mut self, entry: &Entry, invite: SignPub, hpke_pub: HpkePub) -> Result<(), RosterRefusal> {
        let actor = &entry.actor;
        let link = self.links.get(&invite).ok_or(RosterRefusal::NoSuchLink)?.clone();
        match link.state {
            LinkState::Open => {}
            LinkState::Used => return Err(RosterRefusal::LinkUsed),
            LinkState::Revoked => return Err(RosterRefusal::LinkRevoked),
        }
        // Its maker knows the seed, and must not come in again with it after a removal.
        let may = Facts::of(self, &link.by, None).and_then(|facts| facts.may(Action::InviteMember(link.role)));
        if may.is_err() || self.key_of(&link.by) != Some(link.by_key) {
            return Err(RosterRefusal::LinkMakerGone(link.by));
        }
        self.check_absent(actor)?;
        let keys = Keys { sign_pub: entry.actor_key, hpke_pub };
        self.check_new(actor, keys)?;
        self.put(entry, actor, Standing { role: link.role, state: MemberState::Joined }, keys);
        self.links.insert(invite, Link { state: LinkState::Used, ..link });
        Ok(())
    }

    fn revoke_link(&mut self, actor: &Handle, invite: SignPub) -> Result<(), RosterRefusal> {
        let link = self.links.get(&invite).ok_or(RosterRefusal::NoSuchLink)?;
        // As an invitation to that role is taken back.
        let invited = Standing { role: link.role, state: MemberState::Invited };
        Facts::of(self, actor, Some(invited))?.may(Action::RemoveMember)?;
        match link.state {
            LinkState::Open => {}
            LinkState::Used => return Err(RosterRefusal::LinkUsed),
            LinkState::Revoked => return Err(RosterRefusal::Unchanged),
        }
        let revoked = Link { state: LinkState::Revoked, ..link.clone() };
        self.links.insert(invite, revoked);
        Ok(())
    }

    fn set_role(&mut self, entry: &Entry, target: &Handle, role: RoomRole) -> Result<(), RosterRefusal> {
        let now = self.may(&entry.actor, Action::SetMemberRole(role), target)?;
        let now = now.filter(|moment| moment.state.is_present());
        let now = now.ok_or_else(|| RosterRefusal::NotPresent(target.clone()))?;
        if now.role == role {
            return Err(RosterRefusal::Unchanged);
        }
        if role != RoomRole::Owner {
            self.check_other_owner(target)?;
        }
        self.put(entry, target, Standing { role, state: now.state }, now.keys);
        Ok(())
    }

    fn replace_key(&mut self, entry: &Entry, target: &Handle, keys: Keys) -> Result<(), RosterRefusal> {
        Facts::of(self, &entry.actor, None)?.may_change_room()?;
        if entry.actor == *target {
            return Err(Denial::Oneself.into());
        }
        let now = self.person(target).ok_or_else(|| RosterRefusal::NotPresent(target.clone()))?.clone();
        let state = match now.state {
            MemberState::Banned => return Err(RosterRefusal::Banned(target.clone())),
            MemberState::Removed => MemberState::Removed,
            // The new key has to say that it is theirs.
            MemberState::Joined | MemberState::Invited => MemberState::Invited,
        };
        self.check_weak(target, keys)?;
        self.check_new_key(keys.sign_pub)?;
        self.check_new_hpke_key(keys.hpke_pub)?;
        self.put(entry, target, Standing { role: now.role, state }, keys);
        Ok(())
    }

    /// Makes an end of a membership or an invitation.
    fn end(&mut self, entry: &Entry, target: &Handle, state: MemberState) -> Result<(), RosterRefusal> {
        let now = self.person(target).filter(|moment| moment.state.is_present()).cloned();
        let now = now.ok_or_else(|| RosterRefusal::NotPresent(target.clone()))?;
        self.check_other_owner(target)?;
        self.put(entry, target, Standing { role: now.role, state }, now.keys);
        Ok(())
    }

    /// Asks the rules whether `actor` may do `action` to `target`, and says how they stand.
    fn may(&self, actor: &Handle, action: Action, target: &Handle) -> Result<Option<Moment>, RosterRefusal> {
        let now = self.person(target);
        if actor == target {
            Facts::of(self, actor, None)?.may_oneself(action)?;
        } else {
            Facts::of(self, actor, now.map(Moment::standing))?.may(action)?;
        }
        Ok(now.cloned())
    }

    fn check_absent(&self, handle: &Handle) -> Result<(), RosterRefusal> {
        match self.person(handle).map(|moment| moment.state) {
            Some(MemberState::Banned) => Err(RosterRefusal::Banned(handle.clone())),
            Some(MemberState::Joined | MemberState::Invited) => Err(RosterRefusal::Present(handle.clone())),
            Some(MemberState::Removed) | None => Ok(()),
        }
    }

    /// Where `handle` is an owner in the room: whether another one is, too.
    fn check_other_owner(&self, handle: &Handle) -> Result<(), RosterRefusal> {
        let is_last = self.owners().any(|owner| owner == handle) && !self.owners().any(|owner| owner != handle);
        if is_last { Err(RosterRefusal::LastOwner(handle.clone())) } else { Ok(()) }
    }

    fn check_place(&self) -> Result<(), RosterRefusal> {
        if self.places() >= MEMBERS { Err(RosterRefusal::TooManyMembers) } else { Ok(()) }
    }

    fn places(&self) -> usize {
        let present = self.people().filter(|(_, moment)| moment.state.is_present()).count();
        present + self.links.values().filter(|link| link.state == LinkState::Open).count()
    }

    /// Whether `handle` may have these keys: those that the log has for them, or, where it has none, keys that it never had.
    fn check_new(&self, handle: &Handle, keys: Keys) -> Result<(), RosterRefusal> {
        match self.person(handle) {
            Some(known) if known.keys == keys => Ok(()),
            Some(_) => Err(RosterRefusal::KeyChanged(handle.clone())),
            None => {
                self.check_weak(handle, keys)?;
                self.check_new_key(keys.sign_pub)?;
                self.check_new_hpke_key(keys.hpke_pub)
            }
        }
    }

    fn check_weak(&self, handle: &Handle, keys: Keys) -> Result<(), RosterRefusal> {
        if keys.hpke_pub.is_weak() { Err(RosterRefusal::WeakKey(handle.clone())) } else { Ok(()) }
    }

    fn check_new_key(&self, key: SignPub) -> Result<(), RosterRefusal> {
        let link = self.links.get(&key).map(|link| &link.by);
        let owner = link.or_else(|| self.find_keys(|keys| keys.sign_pub == key));
        owner.map_or(Ok(()), |owner| Err(RosterRefusal::KeyInUse(owner.clone())))
    }

    fn check_new_hpke_key(&self, key: HpkePub) -> Result<(), RosterRefusal> {
        let owner = self.find_keys(|keys| keys.hpke_pub == key);
        owner.map_or(Ok(()), |owner| Err(RosterRefusal::KeyInUse(owner.clone())))
    }

    /// Who has, or had, such keys.
    fn find_keys(&self, such: impl Fn(&Keys) -> bool) -> Option<&Handle> {
        let had = |moments: &Vec<Moment>| moments.iter().any(|moment| such(&moment.keys));
        self.people.iter().find(|(_, moments)| had(moments)).map(|(handle, _)| handle)
    }

    fn key_of(&self, handle: &Handle) -> Option<SignPub> {
        self.person(handle).map(|moment| moment.keys.sign_pub)
    }

    fn put(&mut self, entry: &Entry, handle: &Handle, standing: Standing, keys: Keys) {
        let Standing { role, state } = standing;
        let moment = Moment { since: entry.number, role, state, keys, by: entry.actor.clone(), time: entry.time };
        self.people.entry(handle.clone()).or_default().push(moment);
    }
}

const OWNER: Standing = Standing { role: RoomRole::Owner, state: MemberState::Joined };
