//! What the daemon's rules ask for, answered by a log.

use super::refusal::RosterRefusal;
use super::state::State;
use unibus_core::domain::{
    Action, Author, Claims, ClaimsKey, Decision, Denial, FeatureLevel, Handle, Membership, Records, Resource, Role,
    Room, RoomId, Standing, State as UserState, User, decide,
};

/// The facts about one actor and one target in one room. Both are active users of the bus without a role there: what the bus's
/// admins do and whom they disable the log does not know.
pub(super) struct Facts {
    actor: User,
    room: Room,
    own: Membership,
    target: Option<Membership>,
    /// Whom an action concerns that is not on the actor.
    other: Handle,
}

impl Facts {
    /// About `actor` and another person with this standing.
    pub(super) fn of(state: &State, actor: &Handle, target: Option<Standing>) -> Result<Self, RosterRefusal> {
        let moment = state.person(actor).ok_or(Denial::NotMember)?;
        let by = Author::User(actor.clone());
        let membership =
            |handle: &Handle, standing| Membership::new(state.room.clone(), handle.clone(), standing, by.clone());
        let [one, two] = [OTHER, ANOTHER].map(str::parse::<Handle>);
        let other = one.ok().filter(|other| other != actor).or(two.ok()).ok_or(Denial::NotApplicable)?;
        let user =
            User { handle: actor.clone(), sign_pub: moment.keys.sign_pub, role: Role::User, state: UserState::Active };
        Ok(Self {
            room: Room::new(state.room.clone(), state.subject.clone(), state.policy, by.clone()),
            own: membership(actor, moment.standing()),
            target: target.map(|standing| membership(&other, standing)),
            actor: user,
            other,
        })
    }

    /// Whether the actor may do that to the other person.
    pub(super) fn may(&self, action: Action) -> Result<(), RosterRefusal> {
        self.ask(action, Resource::Member(&self.room.id, &self.other))
    }

    /// Whether the actor may do that to themselves.
    pub(super) fn may_oneself(&self, action: Action) -> Result<(), RosterRefusal> {
        self.ask(action, Resource::Member(&self.room.id, &self.actor.handle))
    }

    /// Whether the actor decides about the room.
    pub(super) fn may_change_room(&self) -> Result<(), RosterRefusal> {
        self.ask(Action::ChangeRoom, Resource::Room(&self.room.id))
    }

    fn ask(&self, action: Action, resource: Resource<'_>) -> Result<(), RosterRefusal> {
        match decide(Some(&self.actor), action, resource, self) {
            Decision::Allow => Ok(()),
            Decision::Deny(denial) => Err(denial.into()),
        }
    }
}

/// Who is meant by another person; the second name where the actor has the first.
const OTHER: &str = "other";
const ANOTHER: &str = "another";

impl Records for Facts {
    fn level(&self) -> FeatureLevel {
        FeatureLevel::highest()
    }

    fn user(&self, handle: &Handle) -> Option<&User> {
        (*handle == self.actor.handle).then_some(&self.actor)
    }

    fn room(&self, id: &RoomId) -> Option<&Room> {
        (*id == self.room.id).then_some(&self.room)
    }

    fn claims(&self, _: &ClaimsKey) -> Option<&Claims> {
        None
    }

    fn membership(&self, _: &RoomId, handle: &Handle) -> Option<&Membership> {
        if *handle == self.actor.handle { Some(&self.own) } else { self.target.as_ref() }
    }

    fn rooms(&self) -> impl Iterator<Item = &Room> {
        std::iter::once(&self.room)
    }

    // Asked for an admin's sake alone.
    fn members<'a>(&'a self, _: &'a RoomId) -> impl Iterator<Item = &'a Membership> {
        std::iter::once(&self.own).chain(&self.target)
    }

    fn memberships<'a>(&'a self, handle: &'a Handle) -> impl Iterator<Item = &'a Membership> {
        self.members(&self.room.id).filter(move |membership| membership.handle == *handle)
    }
}
