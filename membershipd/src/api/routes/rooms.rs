//! The routes about rooms and who is in them.

use axum::http::{Method, StatusCode};
use futures::FutureExt;

use super::{Access, Precondition, Route, Signed};
use crate::api::call::{AFTER, AFTER_MESSAGE, LIMIT, MESSAGES};
use crate::api::document::schema_of;
use crate::api::handler::{Acts, Commands};
use crate::api::target::{Bus, FutureRoom, OneMember, OneRoom};
use crate::api::{history, members, rooms};
use unibus_api_types::bodies;
use unibus_core::domain::{Action, RoomRole};

const ROOM: &str = "/v1/rooms/{room}";
const MEMBER: &str = "/v1/rooms/{room}/members/{handle}";
const BAN: &str = "/v1/rooms/{room}/bans/{handle}";

/// The routes about rooms.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        template: "/v1/rooms",
        id: "listRooms",
        summary: "The rooms in which the caller is or to which he is invited, by id; for admins all rooms, removed ones included",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Rooms>)],
            handler: &Acts::<Bus>(Action::ListRooms, |shared, call| rooms::list(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: ROOM,
        id: "showRoom",
        summary: "A room",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Room>)],
            handler: &Acts::<OneRoom>(Action::ReadRoom, |shared, call| rooms::show(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: ROOM,
        id: "createRoom",
        summary: "Makes a room, whose owner the caller becomes; again with the same body changes nothing. An id is never used twice",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<bodies::NewRoom>),
            answers: &[
                (StatusCode::OK, schema_of::<bodies::ChangedRoom>),
                (StatusCode::CREATED, schema_of::<bodies::ChangedRoom>),
            ],
            handler: &Commands::<FutureRoom> {
                actions: &[Action::CreateRoom],
                make: rooms::create,
                run: |shared, call, command| rooms::make(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::PATCH,
        template: ROOM,
        id: "changeRoom",
        summary: "Gives a room another subject, another policy, another choice of what is kept, or several of these; what takes a right away answers when no node honours it",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Required,
            body: Some(schema_of::<bodies::RoomPatch>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedRoom>)],
            handler: &Commands::<OneRoom> {
                actions: &[Action::ChangeRoom],
                make: rooms::change,
                run: |shared, call, command| rooms::carry_out(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::DELETE,
        template: ROOM,
        id: "removeRoom",
        summary: "Removes a room for good; answers when no node honours anything in it",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedRoom>)],
            handler: &Commands::<OneRoom> {
                actions: &[Action::RemoveRoom],
                make: rooms::remove,
                run: |shared, call, command| rooms::carry_out(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/rooms/{room}/history",
        id: "readHistory",
        summary: "What was said in a room that persists, oldest first: after a place, or the last of it; where the answer would be too long it ends early",
        access: Access::Signed(Signed {
            query: &[AFTER_MESSAGE, MESSAGES],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::History>)],
            handler: &Acts::<OneRoom>(Action::ReadHistory, |shared, call| history::read(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/rooms/{room}/members",
        id: "listMembers",
        summary: "Who is in a room, invited to it or banned from it, by handle",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Members>)],
            handler: &Acts::<OneRoom>(Action::ListMembers, |shared, call| members::list(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: MEMBER,
        id: "showMember",
        summary: "How a user stands to a room",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Member>)],
            handler: &Acts::<OneMember>(Action::ReadMember, |shared, call| members::show(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: MEMBER,
        id: "inviteMember",
        summary: "Invites a user with a role; again with the same role changes nothing, and another role is that of the invitation",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Optional,
            body: Some(schema_of::<bodies::MemberRole>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: &Commands::<OneMember> {
                actions: &[Action::InviteMember(RoomRole::Member)],
                make: members::invite,
                run: |shared, call, command| members::carry_out(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::PATCH,
        template: MEMBER,
        id: "setMemberRole",
        summary: "Gives a member another role; a lower one answers when no node honours the higher one",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Required,
            body: Some(schema_of::<bodies::MemberRole>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: &Commands::<OneMember> {
                actions: &[Action::SetMemberRole(RoomRole::Member)],
                make: members::set_role,
                run: |shared, call, command| members::carry_out(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::DELETE,
        template: MEMBER,
        id: "removeMember",
        summary: "Removes a member, or takes an invitation back; for oneself, leaves the room or declines. Answers when no node honours the membership",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: &Commands::<OneMember> {
                actions: &[Action::RemoveMember, Action::LeaveRoom],
                make: members::end,
                run: |shared, call, command| members::carry_out(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::PUT,
        template: "/v1/rooms/{room}/members/{handle}/acceptance",
        id: "acceptInvitation",
        summary: "Accepts the invitation of the caller, and ends the caller's connections to the bus, which come back with the room; again changes nothing",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Optional,
            body: Some(schema_of::<bodies::Acceptance>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: &Commands::<OneMember> {
                actions: &[Action::AcceptInvitation],
                make: members::accept,
                run: |shared, call, command| members::carry_out(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::PUT,
        template: BAN,
        id: "banMember",
        summary: "Bans a user from a room, whether he was in it or not; answers when no node honours a membership",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: &Commands::<OneMember> {
                actions: &[Action::BanMember],
                make: members::ban,
                run: |shared, call, command| members::carry_out(shared, call, command).boxed(),
            },
        }),
    },
    Route {
        method: Method::DELETE,
        template: BAN,
        id: "unbanMember",
        summary: "Lifts a ban; the user may be invited again",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedMember>)],
            handler: &Commands::<OneMember> {
                actions: &[Action::UnbanMember],
                make: members::unban,
                run: |shared, call, command| members::carry_out(shared, call, command).boxed(),
            },
        }),
    },
];
