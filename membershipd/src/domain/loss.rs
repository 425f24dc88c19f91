//! What a change takes away: the decisions before and after it, compared over all actions.
//!
//! There is no list of changes that do: a rule that is added or tightened is seen here by itself.

use super::action::Action;
use super::decide::{Resource, case};
use super::member::{MemberState, Membership, RoomRole, Standing};
use super::records::{Record, Records, With};
use super::room::RoomId;
use super::rules::{Case, On, Target, judge};
use super::user::{Handle, Role, State};

/// Whether somebody whose rights rest on one of the `writes` was allowed something in `state` that is denied once they are
/// made. Whoever makes them must then see to it that no node honours the old state any more before saying that it is done.
pub fn takes_away(writes: &[Record], state: &impl Records) -> bool {
    let after = With { base: state, changed: writes };
    writes.iter().any(|record| match record {
        Record::User(user) => {
            let rooms = state.memberships(&user.handle).map(|m| &m.room);
            loses(&user.handle, None, state, &after)
                || rooms.into_iter().any(|room| loses(&user.handle, Some(room), state, &after))
        }
        Record::Membership(membership) => loses(&membership.handle, Some(&membership.room), state, &after),
        Record::Room(room) => somebody_loses(&room.id, state, &after),
        Record::Claims(claims) => {
            let old = state.claims(claims.space());
            let mut lost = old.iter().flat_map(|old| old.iter()).filter(|(s, room)| claims.holder(s) != Some(room));
            lost.any(|(_, room)| somebody_loses(room, state, &after))
        }
    })
}

/// Whether anybody in the room loses something. Of those who stand alike one is looked at.
fn somebody_loses(room: &RoomId, before: &impl Records, after: &impl Records) -> bool {
    let mut seen: Vec<(Role, State, Standing)> = Vec::new();
    before.members(room).any(|member| {
        let Some(user) = before.user(&member.handle) else { return false };
        let alike = (user.role, user.state, member.standing());
        if seen.contains(&alike) {
            return false;
        }
        seen.push(alike);
        loses(&member.handle, Some(room), before, after)
    })
}

/// Whether `handle` may do less: on the bus, to users, and in `room`.
fn loses(handle: &Handle, room: Option<&RoomId>, before: &impl Records, after: &impl Records) -> bool {
    Action::ALL.into_iter().any(|action| {
        let was = cases(handle, action, room, before, before);
        let is = cases(handle, action, room, before, after);
        was.zip(is).any(|(was, is)| judge(was).is_ok() && judge(is).is_err())
    })
}

/// The cases of an action, on everything that it may be on, as `state` has them. The subject is that of before.
fn cases<'a>(
    handle: &'a Handle,
    action: Action,
    room: Option<&'a RoomId>,
    before: &'a impl Records,
    state: &'a impl Records,
) -> impl Iterator<Item = Case> + 'a {
    let who = state.user(handle);
    let on_bus = [case(who, action, Resource::Bus, state), case(who, action, Resource::User(handle), state)];
    let on_others = Case { who: who.map(|user| (user.role, user.state)), action, on: On::User { oneself: false } };
    let in_room = room.into_iter().flat_map(move |id| {
        let on_room = case(who, action, Resource::Room(id), state);
        let on_oneself = case(who, action, Resource::Member(id, handle), state);
        let on_subject = before.room(id).map(|room| case(who, action, Resource::Subject(id, &room.subject), state));
        let others = others().map(move |other| match on_oneself.on {
            On::Member(room, _) => Case { on: On::Member(room, Target::Other(other)), ..on_oneself },
            _ => on_oneself,
        });
        [on_room, on_oneself].into_iter().chain(on_subject).chain(others)
    });
    on_bus.into_iter().chain([on_others]).chain(in_room)
}

/// However another one may stand to the room.
fn others() -> impl Iterator<Item = Option<Standing>> {
    let standings = RoomRole::ALL
        .into_iter()
        .flat_map(|role| MemberState::ALL.into_iter().map(move |state| Some(Standing { role, state })));
    [None].into_iter().chain(standings)
}

/// Whether a write states again what takes something away: an earlier attempt may have got as far as the store and not as
/// far as the other nodes, so the repetition has to wait for them even though nothing is taken away any more.
pub(super) fn states_again(writes: &[Record], state: &impl Records) -> bool {
    let out = |standing: Standing| !standing.state.is_present();
    let lifts = |was: Standing, is: Standing| was.state == MemberState::Banned && is.state == MemberState::Removed;
    writes.iter().any(|record| match record {
        Record::User(user) => state.user(&user.handle) == Some(user),
        Record::Claims(_) => false,
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
    use crate::domain::room::{Policy, Room};

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
        for was in others().flatten() {
            for is in others().flatten() {
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
        assert!(!tightened(Policy::CONVERSATION, &plain), "nobody is in it");
        let plain = plain.with_member("plain", "bob", RoomRole::Member, MemberState::Joined);
        let policy = Policy::TELEMETRY;
        assert!(tightened(Policy { encrypt: true, ..policy }, &plain), "no more messages in clear");
        assert!(tightened(Policy { sign: true, ..policy }, &plain), "no more unsigned messages");
        assert!(!tightened(Policy { persist: true, ..policy }, &plain));
    }

    #[test]
    fn a_lost_claim_is_a_loss() {
        let memory = bus();
        let claims = memory.claims(crate::domain::Space::Room).unwrap();
        let released = claims.release(&"room.kitchen".parse().unwrap(), &"kitchen".parse().unwrap());
        assert!(takes_away(&[Record::Claims(released)], &memory));
        assert!(!takes_away(&[Record::Claims(claims.clone())], &memory));
    }
}
