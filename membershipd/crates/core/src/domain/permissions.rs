//! Rights of a connection on the bus, as the engine is told them.

use std::collections::HashSet;

use serde::Serialize;

use super::action::Action;
use super::decide::{Decision, Resource, decide, decide_each};
use super::level::FeatureLevel;
use super::limits::ROOMS_PER_CONNECTION;
use super::member::MemberState;
use super::records::Records;
use super::room::{RoomId, RoomState};
use super::subject::Subject;
use super::user::{Handle, User};
use crate::bus;
use crate::faults::Fault;

/// Subjects that one direction of a connection may and may not use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct SubjectList {
    /// What is allowed; the rest is denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What is denied even where `allow` would match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Rights of a connection in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// What it may publish to.
    #[serde(rename = "pub")]
    pub publish: SubjectList,
    /// What it may subscribe to.
    #[serde(rename = "sub")]
    pub subscribe: SubjectList,
}

/// Spaces of the engine that no client ever touches, whatever else it is allowed: JetStream's API and acknowledgements,
/// buckets, object stores and the system.
const ENGINE_SPACES: [&str; 4] = ["$JS.>", "$KV.>", "$O.>", "$SYS.>"];
/// Where a member who may answer in any rpc room publishes at the lowest feature level: every inbox. Release 0.1.0 gives it, and its
/// clients wait for answers on inboxes that name no room.
const ANSWERS_ANYWHERE: &str = "_INBOX.*.>";

/// Where a member says what is kept: no other member may publish there.
pub fn own_subject(room: &Subject, handle: &Handle) -> String {
    format!("{room}.{handle}")
}

/// Where those wait who ask in an rpc room: each user on a part of their own inbox that names the room. So an answer comes from that
/// room, however well its subject can be guessed from those before.
///
/// The engine's `allow_responses` would be narrower in name only: it admits one message to whatever subject a request names
/// for its answer, deny lists notwithstanding. A member who sends themself a request could so write to any room, forge events and
/// reach JetStream's API (seen on nats-server 2.15.1; `tests/daemon/rights.rs` shows it).
fn answers(room: &RoomId) -> String {
    format!("{}.>", bus::room_inbox("*", room.as_str()))
}

/// Every queue group on what `subject` allows to hear, as the engine names it. Of the members of a queue group only one hears a
/// message, so a connection that may join one can keep messages from the others.
fn queues(subject: &str) -> String {
    format!("{subject} >")
}

impl Permissions {
    /// Rights of a user: its own inbox both ways, what the daemon tells it, and what `decide` allows in its rooms. At most
    /// `ROOMS_PER_CONNECTION` rooms are looked at, in the order of `state`. Where the user only reads it has no queue subscription.
    pub fn of(user: &User, state: &impl Records) -> Self {
        let handle = &user.handle;
        let inbox = format!("{}.>", bus::inbox(handle.as_str()));
        let mut publish = vec![inbox.clone()];
        let mut subscribe = vec![inbox, format!("{}.>", bus::user_events(handle.as_str()))];
        // Where the daemon tells its users something clients only listen.
        let told = [bus::user_events(">"), bus::room_events(">")];
        let mut unqueued = vec![queues(&bus::room_events(">"))];
        let mut answers_anywhere = false;
        let joined = state.memberships(handle).filter(|m| m.state == MemberState::Joined);
        let rooms = joined.filter_map(|m| state.room(&m.room)).filter(|room| room.state == RoomState::Active);
        for room in rooms.take(ROOMS_PER_CONNECTION) {
            let whole = || [room.subject.to_string(), format!("{}.>", room.subject)];
            let on_subject = [Action::Publish, Action::Subscribe, Action::Reply];
            let decisions = decide_each(Some(user), on_subject, Resource::Subject(&room.id, &room.subject), state);
            let [publishes, subscribes, replies] = decisions.map(Decision::is_allow);
            if publishes && room.policy.persist && state.level() >= FeatureLevel::Kept {
                // So the engine proves who said what is kept.
                publish.push(own_subject(&room.subject, handle));
            } else if publishes {
                publish.extend(whole());
            }
            if subscribes {
                subscribe.extend(whole());
                unqueued.extend(whole().iter().filter(|_| !publishes).map(|subject| queues(subject)));
            }
            if decide(Some(user), Action::ReceiveEvents, Resource::Room(&room.id), state).is_allow() {
                subscribe.push(bus::room_events(room.id.as_str()));
            }
            if replies {
                publish.push(answers(&room.id));
                answers_anywhere = state.level() < FeatureLevel::Kept;
            }
        }
        if answers_anywhere {
            publish.push(ANSWERS_ANYWHERE.to_owned());
        }
        Self { publish: Self::closed(publish, &told), subscribe: Self::closed(subscribe, &unqueued) }
    }

    /// What it may subscribe to within a queue group as well, and what it denies beside queue groups: the two say together with
    /// `subscribe.allow` what the subscriptions are.
    pub fn queued(&self) -> (impl Iterator<Item = &str>, impl Iterator<Item = &str>) {
        let (unqueued, denied): (HashSet<&str>, Vec<&str>) = (
            self.subscribe.deny.iter().filter_map(|denied| denied.strip_suffix(" >")).collect(),
            self.subscribe.deny.iter().map(String::as_str).filter(|denied| !denied.ends_with(" >")).collect(),
        );
        let queued = self.subscribe.allow.iter().map(String::as_str).filter(move |subject| !unqueued.contains(subject));
        (queued, denied.into_iter())
    }

    /// Rights of anybody on a bus without authentication: everything but the engine's own spaces.
    pub fn unauthenticated() -> Self {
        Self { publish: Self::closed(vec![">".to_owned()], &[]), subscribe: Self::closed(vec![">".to_owned()], &[]) }
    }

    // The engine takes an empty block for 'no restriction', so whoever may do nothing must be denied everything.
    fn closed(allow: Vec<String>, deny: &[String]) -> SubjectList {
        if Fault::NoExplicitDeny.active() {
            return SubjectList::default();
        }
        if allow.is_empty() {
            return SubjectList { allow, deny: vec![">".to_owned()] };
        }
        let deny = ENGINE_SPACES.iter().map(|space| (*space).to_owned()).chain(deny.iter().cloned()).collect();
        SubjectList { allow, deny }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::Memory;
    use crate::domain::level::LevelRecord;
    use crate::domain::limits::{ROOM_ID_BYTES, SUBJECT_BYTES};
    use crate::domain::member::RoomRole;
    use crate::domain::records::Record;
    use crate::domain::room::{Policy, Room};
    use crate::domain::subject::Space;
    use crate::domain::user::Role;

    /// The engine's default; ours does not set another.
    const MAX_PAYLOAD: usize = 1024 * 1024;

    fn rights(memory: &Memory, handle: &str) -> (Vec<String>, Vec<String>) {
        let rights = Permissions::of(memory.who(handle).unwrap(), memory);
        (rights.publish.allow, rights.subscribe.allow)
    }

    #[test]
    fn nothing_allowed_is_everything_denied() {
        assert_eq!(Permissions::closed(vec![], &[]).deny, [">"]);
    }

    #[test]
    fn every_block_denies_the_engine_spaces() {
        let memory = Memory::default().with_user("alice", Role::Admin);
        for rights in [Permissions::of(memory.who("alice").unwrap(), &memory), Permissions::unauthenticated()] {
            for list in [rights.publish, rights.subscribe] {
                assert!(ENGINE_SPACES.iter().all(|space| list.deny.iter().any(|d| d == space)));
                assert!(!list.allow.is_empty());
            }
        }
    }

    #[test]
    fn rooms_give_what_the_role_allows() {
        let memory = Memory::default()
            .with_user("bob", Role::User)
            .with_room("kitchen", "room.kitchen", Policy::CONVERSATION)
            .with_room("sums", "rpc.sums", Policy::TELEMETRY)
            .with_room("asked", "room.asked", Policy::CONVERSATION)
            .with_room("left", "room.left", Policy::CONVERSATION)
            .with_room("out", "room.out", Policy::CONVERSATION)
            .with_member("kitchen", "bob", RoomRole::Member, MemberState::Joined)
            .with_member("sums", "bob", RoomRole::Reader, MemberState::Joined)
            .with_member("asked", "bob", RoomRole::Owner, MemberState::Invited)
            .with_member("left", "bob", RoomRole::Owner, MemberState::Removed)
            .with_member("out", "bob", RoomRole::Owner, MemberState::Banned);
        let (publish, subscribe) = rights(&memory, "bob");
        assert_eq!(publish, ["_INBOX.bob.>", "room.kitchen", "room.kitchen.>"]);
        let hears = [
            "_INBOX.bob.>",
            "unibus.user.bob.>",
            "room.kitchen",
            "room.kitchen.>",
            "unibus.event.kitchen",
            "rpc.sums",
            "rpc.sums.>",
            "unibus.event.sums",
        ];
        assert_eq!(subscribe, hears);

        let only_reads = ["unibus.event.> >", "rpc.sums >", "rpc.sums.> >"];
        let rights_of = |memory: &Memory| Permissions::of(memory.who("bob").unwrap(), memory);
        assert_eq!(rights_of(&memory).subscribe.deny[ENGINE_SPACES.len()..], only_reads);

        let memory = memory.with_member("sums", "bob", RoomRole::Member, MemberState::Joined);
        assert_eq!(
            rights_of(&memory).subscribe.deny[ENGINE_SPACES.len()..],
            only_reads[..1],
            "responders share requests"
        );
    }

    #[test]
    fn an_answer_reaches_those_who_ask_in_the_same_room_alone() {
        let [memory, at_kept] = FeatureLevel::ALL.map(|level| {
            let mut memory = Memory::default();
            memory.put(Record::Level(LevelRecord::new(level)));
            memory
                .with_user("bob", Role::User)
                .with_room("sums", "rpc.sums", Policy::TELEMETRY)
                .with_room("hall", "room.hall", Policy::TELEMETRY)
                .with_room("seen", "rpc.seen", Policy::TELEMETRY)
                .with_member("sums", "bob", RoomRole::Member, MemberState::Joined)
                .with_member("hall", "bob", RoomRole::Owner, MemberState::Joined)
                .with_member("seen", "bob", RoomRole::Reader, MemberState::Joined)
        });
        let inboxes = |memory: &Memory| {
            let (publish, subscribe) = rights(memory, "bob");
            assert!(subscribe.iter().all(|subject| !subject.starts_with("_INBOX.*")), "nobody hears another's answers");
            publish.into_iter().filter(|subject| subject.starts_with("_INBOX.*")).collect::<Vec<_>>()
        };
        let before = inboxes(&memory);
        assert_eq!(before, ["_INBOX.*.sums.>", ANSWERS_ANYWHERE], "as long as nodes of release 0.1.0 may be there");
        assert_eq!(inboxes(&at_kept), ["_INBOX.*.sums.>"]);
    }

    #[test]
    fn where_daemons_keep_the_room_a_member_speaks_on_a_subject_of_their_own() {
        let mut memory = Memory::default().with_user("bob", Role::User);
        memory.put(Record::Level(LevelRecord::new(FeatureLevel::Kept)));
        let memory = memory
            .with_room("kitchen", "room.kitchen", Policy::CONVERSATION)
            .with_room("quiet", "room.quiet", Policy::TELEMETRY)
            .with_room("board", "room.board", Policy::CONVERSATION)
            .with_member("kitchen", "bob", RoomRole::Member, MemberState::Joined)
            .with_member("quiet", "bob", RoomRole::Member, MemberState::Joined)
            .with_member("board", "bob", RoomRole::Reader, MemberState::Joined);
        let (publish, subscribe) = rights(&memory, "bob");
        assert_eq!(publish, ["_INBOX.bob.>", "room.kitchen.bob", "room.quiet", "room.quiet.>"]);
        assert!(["room.kitchen", "room.kitchen.>"].iter().all(|subject| subscribe.iter().any(|one| one == subject)));
        // What daemons tell no member can say.
        let denied = Permissions::of(memory.who("bob").unwrap(), &memory).publish.deny;
        assert!(["unibus.user.>", "unibus.event.>"].iter().all(|subject| denied.iter().any(|one| one == subject)));
    }

    #[test]
    fn a_room_without_its_claim_gives_nothing() {
        let mut memory = Memory::default()
            .with_user("bob", Role::User)
            .with_room("kitchen", "room.kitchen", Policy::CONVERSATION)
            .with_member("kitchen", "bob", RoomRole::Owner, MemberState::Joined);
        let subject = "room.kitchen".parse().unwrap();
        let claims = memory.claims(&Space::Room.into()).unwrap().release(&subject, &"kitchen".parse().unwrap());
        memory.put(Record::Claims(claims));
        let (publish, subscribe) = rights(&memory, "bob");
        assert_eq!(publish, ["_INBOX.bob.>"]);
        assert_eq!(subscribe, ["_INBOX.bob.>", "unibus.user.bob.>", "unibus.event.kitchen"]);
    }

    #[test]
    fn the_most_that_a_user_can_have_fits_into_one_message() {
        let handle = "u".repeat(32);
        let mut memory = Memory::default().with_user(&handle, Role::User);
        // Rooms that were removed take nobody's place, though their memberships stay as they are.
        for n in 0..10 {
            let room = Room::new(
                format!("0{n}").parse().unwrap(),
                format!("room.gone{n}").parse().unwrap(),
                Policy::TELEMETRY,
                "alice".parse().unwrap(),
            );
            memory.put(Record::Room(room.removed("alice".parse().unwrap())));
            memory = memory.with_member(room.id.as_str(), &handle, RoomRole::Owner, MemberState::Joined);
        }
        for n in 0..ROOMS_PER_CONNECTION + 1 {
            let id = format!("{n:0>width$}", width = ROOM_ID_BYTES);
            // The longest subjects, in the space with the most rights.
            let subject = format!("rpc.{n:0>width$}", width = SUBJECT_BYTES - 4);
            memory = memory.with_room(&id, &subject, Policy::TELEMETRY);
            memory = memory.with_member(&id, &handle, RoomRole::Member, MemberState::Joined);
        }
        let rights = Permissions::of(memory.who(&handle).unwrap(), &memory);
        assert_eq!(rights.publish.allow.len(), 1 + 3 * ROOMS_PER_CONNECTION + 1, "rooms above the limit give nothing");
        // Claims and signatures beside the rights take less than a kilobyte in each of the two tokens; base64 makes four
        // bytes of three; the seal adds a nonce and a tag.
        let token = |claims: usize| (claims + 1024) * 4 / 3;
        let message = token(token(serde_json::to_vec(&rights).unwrap().len())) + 64;
        assert!(message < MAX_PAYLOAD, "{message}");
        assert!(message > MAX_PAYLOAD / 2, "{message}: the limit could be higher");
    }
}
