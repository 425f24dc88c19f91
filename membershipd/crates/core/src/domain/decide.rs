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

/// [`decide`] for several actions on one resource, about which everything is looked up once.
pub fn decide_each<const N: usize>(
    who: Option<&User>,
    actions: [Action; N],
    resource: Resource<'_>,
    state: &impl Records,
) -> [Decision; N] {
    // What is looked up is the same for all of them, but for one kind that asks for more.
    let most = actions.iter().find(|action| asks_for_owners(**action)).or(actions.first()).copied();
    let facts = most.map(|most| case(who, most, resource, state));
    actions.map(|action| match facts.map(|facts| judge(Case { action, ..facts })) {
        Some(Ok(())) => Decision::Allow,
        Some(Err(denial)) => Decision::Deny(denial),
        None => Decision::Deny(Denial::NotApplicable),
    })
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

fn asks_for_owners(action: Action) -> bool {
    matches!(action, Action::SetMemberRole(_))
}

fn room_facts(who: Option<&User>, action: Action, id: &RoomId, state: &impl Records) -> Option<RoomFacts> {
    let room = state.room(id)?;
    let own = who.and_then(|user| state.membership(id, &user.handle)).map(Membership::standing);
    // The one fact that takes a look at all members; only an admin's rescue of a room asks for it.
    let asked = asks_for_owners(action) && who.is_some_and(|user| user.role == Role::Admin);
    let ownerless = asked && acting_owners(id, state).next().is_none();
    Some(RoomFacts { state: room.state, policy: room.policy, own, ownerless })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::Memory;
    use crate::domain::member::{MemberState, RoomRole};
    use crate::domain::room::Policy;

    #[test]
    fn several_decisions_at_once_are_those_one_by_one() {
        // In the second room an admin may make the member who is there its owner: no owner is.
        let memory = Memory::default()
            .with_user("root", Role::Admin)
            .with_user("alice", Role::User)
            .with_user("bob", Role::User)
            .with_room("hall", "room.hall", Policy::TELEMETRY)
            .with_room("sums", "rpc.sums", Policy::CONVERSATION)
            .with_member("hall", "alice", RoomRole::Owner, MemberState::Joined)
            .with_member("hall", "bob", RoomRole::Reader, MemberState::Joined)
            .with_member("sums", "bob", RoomRole::Member, MemberState::Joined);
        let (bob, subject): (Handle, Subject) = ("bob".parse().unwrap(), "rpc.sums".parse().unwrap());
        for room in ["hall", "sums", "nowhere"].map(|room| room.parse::<RoomId>().unwrap()) {
            for resource in [
                Resource::Bus,
                Resource::User(&bob),
                Resource::Room(&room),
                Resource::Member(&room, &bob),
                Resource::Subject(&room, &subject),
            ] {
                for who in ["root", "alice", "bob", "nobody"].map(|who| memory.who(who)) {
                    let each = Action::ALL.map(|action| decide(who, action, resource, &memory));
                    assert_eq!(decide_each(who, Action::ALL, resource, &memory), each, "{who:?} {resource:?}");
                }
            }
        }
    }
}
