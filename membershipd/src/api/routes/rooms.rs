//! The routes about rooms and who is in them.

use axum::http::{Method, StatusCode};
use futures::FutureExt;

use super::{Access, Needs, On, Precondition, Route, Signed};
use crate::api::call::{AFTER, LIMIT};
use crate::api::document::schema_of;
use crate::api::{history, members, rooms};
use crate::domain::{Action, RoomRole};
use unibus_api_types::bodies;

const ROOM: &str = "/v1/rooms/{room}";
const MEMBER: &str = "/v1/rooms/{room}/members/{handle}";
const BAN: &str = "/v1/rooms/{room}/bans/{handle}";

/// The routes about rooms.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        template: "/v1/rooms",
        summary: "The rooms in which the caller is or to which he is invited, by id; for admins all rooms, removed ones included",
        access: Access::Signed(Signed {
            needs: Needs::Action(Action::ListRooms),
            on: On::Bus,
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Rooms>)],
            handler: |shared, call| rooms::list(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: ROOM,
        summary: "A room",
        access: Access::Signed(Signed {
            needs: Needs::Action(Action::ReadRoom),
            on: On::Room,
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Room>)],
            handler: |shared, call| rooms::show(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PUT,
        template: ROOM,
        summary: "Makes a room, whose owner the caller becomes; again with the same body changes nothing. An id is never used twice",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::CreateRoom], rooms::create),
            on: On::NewRoom,
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<bodies::NewRoom>),
            answers: &[
                (StatusCode::OK, schema_of::<bodies::ChangedRoom>),
                (StatusCode::CREATED, schema_of::<bodies::ChangedRoom>),
            ],
            handler: |shared, call| rooms::make(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PATCH,
        template: ROOM,
        summary: "Gives a room another subject, another policy, or both; what takes a right away answers when no node honours it",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::ChangeRoom], rooms::change),
            on: On::Room,
            query: &[],
            if_match: Precondition::Required,
            body: Some(schema_of::<bodies::RoomPatch>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedRoom>)],
            handler: |shared, call| rooms::carry_out(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::DELETE,
        template: ROOM,
        summary: "Removes a room for good; answers when no node honours anything in it",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::RemoveRoom], rooms::remove),
            on: On::Room,
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedRoom>)],
            handler: |shared, call| rooms::carry_out(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/rooms/{room}/history",
        summary: "What was said in a room that persists, oldest first: after a place, or the last of it; where the answer would be too long it ends early",
        access: Access::Signed(Signed {
            needs: Needs::Action(Action::ReadHistory),
            on: On::Room,
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::History>)],
            handler: |shared, call| history::read(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/rooms/{room}/members",
        summary: "Who is in a room, invited to it or banned from it, by handle",
        access: Access::Signed(Signed {
            needs: Needs::Action(Action::ListMembers),
            on: On::Room,
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Members>)],
            handler: |shared, call| members::list(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: MEMBER,
        summary: "How a user stands to a room",
        access: Access::Signed(Signed {
            needs: Needs::Action(Action::ReadMember),
            on: On::Member,
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Member>)],
            handler: |shared, call| members::show(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PUT,
        template: MEMBER,
        summary: "Invites a user with a role; again with the same role changes nothing, and another role is that of the invitation",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::InviteMember(RoomRole::Member)], members::invite),
            on: On::Member,
            query: &[],
            if_match: Precondition::Optional,
            body: Some(schema_of::<bodies::MemberRole>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: |shared, call| members::carry_out(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PATCH,
        template: MEMBER,
        summary: "Gives a member another role; a lower one answers when no node honours the higher one",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::SetMemberRole(RoomRole::Member)], members::set_role),
            on: On::Member,
            query: &[],
            if_match: Precondition::Required,
            body: Some(schema_of::<bodies::MemberRole>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: |shared, call| members::carry_out(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::DELETE,
        template: MEMBER,
        summary: "Removes a member, or takes an invitation back; for oneself, leaves the room or declines. Answers when no node honours the membership",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::RemoveMember, Action::LeaveRoom], members::end),
            on: On::Member,
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: |shared, call| members::carry_out(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PUT,
        template: "/v1/rooms/{room}/members/{handle}/acceptance",
        summary: "Accepts the invitation of the caller; again changes nothing",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::AcceptInvitation], members::accept),
            on: On::Member,
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: |shared, call| members::carry_out(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PUT,
        template: BAN,
        summary: "Bans a user from a room, whether he was in it or not; answers when no node honours a membership",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::BanMember], members::ban),
            on: On::Member,
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: |shared, call| members::carry_out(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::DELETE,
        template: BAN,
        summary: "Lifts a ban; the user may be invited again",
        access: Access::Signed(Signed {
            needs: Needs::Command(&[Action::UnbanMember], members::unban),
            on: On::Member,
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: |shared, call| members::carry_out(shared, call).boxed(),
        }),
    },
];
