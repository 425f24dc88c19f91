//! What a change takes away: the rules before and after it, compared over all actions.
//!
//! There is no list of changes that do: a rule that is added or tightened is seen here by itself. Of the records only those
//! that are written count, because the write proves that they were as they seemed. Of all else the worst is assumed: whoever
//! is concerned is admitted to the bus, anybody may be in the room, and what it claims was its own.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use super::action::Action;
use super::claims::Claims;
use super::member::{MemberState, Membership, RoomRole, Standing};
use super::records::{Record, Records};
use super::room::{Policy, Room, RoomState};
use super::rules::{Case, On, RoomFacts, SubjectFacts, Target, judge};
use super::subject::Space;
use super::user::{Role, State, User};

/// Whether somebody whose rights rest on one of the `writes` was allowed something in `state` that is denied once they are
/// made. Whoever makes them must then see to it that no node honours the old state any more before saying that it is done.
pub fn takes_away(writes: &[Record], state: &impl Records) -> bool {
    writes.iter().any(|record| match record {
        Record::User(is) => state.user(&is.handle).is_some_and(|was| Step::of_user(was, is).takes_away()),
        Record::Membership(is) => {
            let was = state.membership(&is.room, &is.handle).map(Membership::standing);
            Step::Membership { was, is: is.standing() }.takes_away()
        }
        Record::Room(is) => state.room(&is.id).is_some_and(|was| Step::of_room(was, is).takes_away()),
        // A room has its subject for as long as it has the claim.
        Record::Claims(is) => {
            let lost = |was: &Claims| was.iter().any(|(subject, room)| is.holder(subject) != Some(room));
            is.key().decides_at(state.level()) && state.claims(&is.key()).is_some_and(lost)
        }
        // Rights may differ by level in every room, so every node has to apply it.
        Record::Level(is) => is.level > state.level(),
    })
}

/// Any policy, as far as a single right can depend on it.
const POLICIES: [Policy; 2] = [Policy::CONVERSATION, Policy::TELEMETRY];
const ROLES: [Role; 2] = [Role::Admin, Role::User];

/// Somebody in front of a room.
#[derive(Clone, Copy)]
struct Facts {
    who: (Role, State),
    own: Option<Standing>,
    room: RoomState,
    policy: Policy,
    subject: SubjectFacts,
}

impl Facts {
    /// Somebody in a room in use, in the space with the most rights.
    fn of(who: (Role, State), own: Option<Standing>, policy: Policy) -> Self {
        let subject = SubjectFacts { held: true, space: Space::Rpc };
        Self { who, own, room: RoomState::Active, policy, subject }
    }

    /// An action on everything that it may be on.
    fn cases(self, action: Action) -> impl Iterator<Item = Case> {
        // Without an owner there is one right more.
        let room = Some(RoomFacts { state: self.room, policy: self.policy, own: self.own, ownerless: true });
        let bus = [On::Bus, On::User { oneself: true }, On::User { oneself: false }];
        let room_and_oneself = [On::Room(room), On::Subject(room, self.subject), On::Member(room, Target::Oneself)];
        let others = standings().map(move |other| On::Member(room, Target::Other(other)));
        let on = bus.into_iter().chain(room_and_oneself).chain(others);
        on.map(move |on| Case { who: Some(self.who), action, on })
    }

    fn loses_as(self, is: Self) -> bool {
        let mut pairs = Action::ALL.into_iter().flat_map(|action| self.cases(action).zip(is.cases(action)));
        pairs.any(|(was, is)| judge(was).is_ok() && judge(is).is_err())
    }
}

/// All of a change that a right can depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    User {
        was: (Role, State),
        is: (Role, State),
    },
    Membership {
        was: Option<Standing>,
        is: Standing,
    },
    /// Whether it keeps its subject, and in which space that was.
    Room {
        was: (RoomState, Policy),
        is: (RoomState, Policy),
        keeps: bool,
        space: Space,
    },
}

/// What was found out before. The rules are constant, every node asks them about every entry, and one answer takes some
/// thousand of their decisions; there are no more than a few thousand steps.
static KNOWN: LazyLock<RwLock<HashMap<Step, bool>>> = LazyLock::new(RwLock::default);

impl Step {
    fn of_user(was: &User, is: &User) -> Self {
        Step::User { was: (was.role, was.state), is: (is.role, is.state) }
    }

    fn of_room(was: &Room, is: &Room) -> Self {
        let (keeps, space) = (is.subject == was.subject, was.subject.space());
        Step::Room { was: (was.state, was.policy), is: (is.state, is.policy), keeps, space }
    }

    fn takes_away(self) -> bool {
        let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&self).copied();
        known.unwrap_or_else(|| {
            let found = self.asks_the_rules();
            KNOWN.write().unwrap_or_else(PoisonError::into_inner).insert(self, found);
            found
        })
    }

    fn asks_the_rules(self) -> bool {
        match self {
            Step::User { was, is } => {
                let mut rooms = POLICIES.into_iter().flat_map(|policy| standings().map(move |own| (own, policy)));
                rooms.any(|(own, policy)| Facts::of(was, own, policy).loses_as(Facts::of(is, own, policy)))
            }
            Step::Membership { was, is } => {
                let mut rooms = POLICIES.into_iter().flat_map(|policy| ROLES.map(|role| (role, policy)));
                rooms.any(|(role, policy)| {
                    let facts = |own| Facts::of((role, State::Active), own, policy);
                    facts(was).loses_as(facts(Some(is)))
                })
            }
            Step::Room { was, is, keeps, space } => {
                let mut people = ROLES.into_iter().flat_map(|role| standings().map(move |own| (role, own)));
                people.any(|(role, own)| {
                    // The subject is that of before: it is what was allowed.
                    let facts = |(room, policy): (RoomState, Policy), held: bool| {
                        let subject = SubjectFacts { held, space };
                        Facts { room, subject, ..Facts::of((role, State::Active), own, policy) }
                    };
                    facts(was, true).loses_as(facts(is, keeps))
                })
            }
        }
    }
}

/// However somebody may stand to a room.
fn standings() -> impl Iterator<Item = Option<Standing>> {
    let with = |role| MemberState::ALL.map(|state| Some(Standing { role, state }));
    [None].into_iter().chain(RoomRole::ALL.into_iter().flat_map(with))
}

/// Whether a write states again what takes something away: an earlier attempt may have got as far as the store and not as
/// far as the other nodes, so the repetition has to wait for them even though nothing is taken away any more.
pub(super) fn states_again(writes: &[Record], state: &impl Records) -> bool {
    let out = |standing: Standing| !standing.state.is_present();
    let lifts = |was: Standing, is: Standing| was.state == MemberState::Banned && is.state == MemberState::Removed;
    writes.iter().any(|record| match record {
        Record::User(user) => state.user(&user.handle) == Some(user),
        Record::Claims(_) => false,
        Record::Level(is) => state.level() == is.level,
        Record::Room(room) => state
            .room(&room.id)
            .is_some_and(|was| (was.state, was.policy, &was.subject) == (room.state, room.policy, &room.subject)),
        Record::Membership(is) => state.membership(&is.room, &is.handle).map(Membership::standing).is_some_and(|was| {
            let is = is.standing();
            was == is || out(was) && out(is) && !lifts(was, is)
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{Memory, membership, user};

    fn bus() -> Memory {
        Memory::default()
            .with_user("alice", Role::Admin)
            .with_user("bob", Role::User)
            .with_room("kitchen", "room.kitchen", Policy::CONVERSATION)
            .with_member("kitchen", "bob", RoomRole::Moderator, MemberState::Joined)
    }

    #[test]
    fn users_lose_by_state_and_by_role() {
        let memory = bus();
        for (handle, role, state, loses) in [
            ("bob", Role::User, State::Active, false),
            ("bob", Role::Admin, State::Active, false),
            ("bob", Role::User, State::Disabled, true),
            ("bob", Role::User, State::Removed, true),
            ("bob", Role::Admin, State::Removed, true),
            ("alice", Role::User, State::Active, true),
            ("carol", Role::User, State::Active, false),
        ] {
            let write = Record::User(user(handle, role, state));
            assert_eq!(takes_away(&[write], &memory), loses, "{handle} {role:?} {state:?}");
        }
    }

    #[test]
    fn a_member_loses_wherever_role_or_state_goes_down() {
        // By hand: what each standing is worth. Only those who joined have rights that grow with the role; who is invited
        // may see the room, himself and the invitation; the rest is nothing.
        let worth = |standing: Standing| match standing.state {
            MemberState::Joined => 2 + standing.role as u8,
            MemberState::Invited => 1,
            MemberState::Removed | MemberState::Banned => 0,
        };
        for was in standings().flatten() {
            for is in standings().flatten() {
                let memory = bus().with_member("kitchen", "bob", was.role, was.state);
                let write = membership("kitchen", "bob", is.role, is.state);
                assert_eq!(takes_away(&[write], &memory), worth(is) < worth(was), "{was:?} to {is:?}");
            }
        }
    }

    #[test]
    fn rooms_lose_by_subject_policy_and_end() {
        let memory = bus();
        let room = memory.room(&"kitchen".parse().unwrap()).unwrap().clone();
        let with = |change: fn(&mut Room)| {
            let mut changed = room.clone();
            change(&mut changed);
            takes_away(&[Record::Room(changed)], &memory)
        };
        assert!(!with(|_| {}));
        assert!(with(|room| room.subject = "room.cellar".parse().unwrap()));
        assert!(with(|room| *room = room.removed("root@magnus".parse().unwrap())));
        assert!(with(|room| room.policy.persist = false), "history");
        assert!(with(|room| room.policy.encrypt = false), "keys");
        assert!(!with(|room| room.policy.sign = false));
        let plain = memory.clone().with_room("plain", "room.plain", Policy::TELEMETRY);
        let tightened = |policy: Policy, memory: &Memory| {
            let room = memory.room(&"plain".parse().unwrap()).unwrap().clone();
            takes_away(&[Record::Room(Room { policy, ..room })], memory)
        };
        let policy = Policy::TELEMETRY;
        assert!(tightened(Policy { encrypt: true, ..policy }, &plain), "no more messages in clear");
        assert!(tightened(Policy { sign: true, ..policy }, &plain), "no more unsigned messages");
        assert!(!tightened(Policy { persist: true, ..policy }, &plain));
    }

    #[test]
    fn a_lost_claim_is_a_loss() {
        let memory = bus();
        let claims = memory.claims(&crate::domain::Space::Room.into()).unwrap();
        let released = claims.release(&"room.kitchen".parse().unwrap(), &"kitchen".parse().unwrap());
        assert!(takes_away(&[Record::Claims(released)], &memory));
        assert!(!takes_away(&[Record::Claims(claims.clone())], &memory));
    }
}
