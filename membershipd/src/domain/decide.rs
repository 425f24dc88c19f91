//! The decision: looks up what the rules ask for. Pure; the API and the callout both ask here.

use super::action::Action;
use super::member::Membership;
use super::records::{Records, acting_owners, holds_its_subject};
use super::room::RoomId;
use super::rules::{Case, Denial, On, RoomFacts, SubjectFacts, Target, judge};
use super::subject::Subject;
use super::user::{Handle, Role, User};

/// What an action is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The bus as a whole.
    Bus,
    /// A user.
    User(&'a Handle),
    /// A room.
    Room(&'a RoomId),
    /// A user in a room, or one who may come to be in it.
    Member(&'a RoomId, &'a Handle),
    /// A subject, as that of a room.
    Subject(&'a RoomId, &'a Subject),
}

/// The verdict on an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It may not.
    Deny(Denial),
}

impl Decision {
    /// Whether it may be done.
    pub fn is_allow(self) -> bool {
        self == Decision::Allow
    }
}

/// Decides whether `who` (none: nobody has the key that was shown) may do `action` on `resource`, as far as `state` knows.
/// An action on a kind of resource that it is not made for is denied.
pub fn decide(who: Option<&User>, action: Action, resource: Resource<'_>, state: &impl Records) -> Decision {
    match judge(case(who, action, resource, state)) {
        Ok(()) => Decision::Allow,
        Err(denial) => Decision::Deny(denial),
    }
}

/// The facts of a case.
pub(super) fn case(who: Option<&User>, action: Action, resource: Resource<'_>, state: &impl Records) -> Case {
    let on = match resource {
        Resource::Bus => On::Bus,
        Resource::User(handle) => On::User { oneself: is(who, handle) },
        Resource::Room(room) => On::Room(room_facts(who, action, room, state)),
        Resource::Member(room, handle) => {
            let target = match is(who, handle) {
                true => Target::Oneself,
                false => Target::Other(state.membership(room, handle).map(Membership::standing)),
            };
            On::Member(room_facts(who, action, room, state), target)
        }
        Resource::Subject(room, subject) => {
            let held = state.room(room).is_some_and(|r| r.subject == *subject && holds_its_subject(r, state));
            On::Subject(room_facts(who, action, room, state), SubjectFacts { held, space: subject.space() })
        }
    };
    Case { who: who.map(|user| (user.role, user.state)), action, on }
}

fn is(who: Option<&User>, handle: &Handle) -> bool {
    who.is_some_and(|user| user.handle == *handle)
}

fn room_facts(who: Option<&User>, action: Action, id: &RoomId, state: &impl Records) -> Option<RoomFacts> {
    let room = state.room(id)?;
    let own = who.and_then(|user| state.membership(id, &user.handle)).map(Membership::standing);
    // The one fact that takes a look at all members; only an admin's rescue of a room asks for it.
    let asked = matches!(action, Action::SetMemberRole(_)) && who.is_some_and(|user| user.role == Role::Admin);
    let ownerless = asked && acting_owners(id, state).next().is_none();
    Some(RoomFacts { state: room.state, policy: room.policy, own, ownerless })
}
