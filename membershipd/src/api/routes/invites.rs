//! The routes of invites, and the one for whoever has a token and is nobody yet.

use axum::http::{Method, StatusCode};
use futures::FutureExt;

use super::{Access, Newcomer, Precondition, Route, Signed};
use crate::api::call::{AFTER, LIMIT};
use crate::api::document::schema_of;
use crate::api::handler::Acts;
use crate::api::invites;
use crate::api::target::{Bus, OneInvite};
use unibus_api_types::bodies;
use unibus_core::domain::Action;

const INVITE: &str = "/v1/invites/{invite}";

/// The routes of invites.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        template: "/v1/invites",
        id: "listInvites",
        summary: "All invites, those included that nobody can use any more, in the order of their last changes",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Invites>)],
            handler: &Acts::<Bus>(Action::ListInvites, |shared, call| invites::list(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: INVITE,
        id: "makeInvite",
        summary: "Makes an invite of which only the SHA-256 of the token is said; again with the same body changes nothing. It counts \
                  once, for 7 days, and as long as who made it is an admin",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<bodies::NewInvite>),
            answers: &[
                (StatusCode::OK, schema_of::<bodies::ChangedInvite>),
                (StatusCode::CREATED, schema_of::<bodies::ChangedInvite>),
            ],
            handler: &Acts::<OneInvite>(Action::InviteUser, |shared, call| invites::make(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::DELETE,
        template: INVITE,
        id: "revokeInvite",
        summary: "Takes an invite back that nobody has used yet. Where somebody has begun to, handle and key are gone for good",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedInvite>)],
            handler: &Acts::<OneInvite>(Action::RevokeInvite, |shared, call| invites::revoke(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: "/v1/register",
        id: "register",
        summary: "Makes a user with the token of an invite and the key that signs; again with the same key changes nothing",
        access: Access::Newcomer(Newcomer {
            body: schema_of::<bodies::Registration>,
            answers: &[
                (StatusCode::OK, schema_of::<bodies::ChangedUser>),
                (StatusCode::CREATED, schema_of::<bodies::ChangedUser>),
            ],
        }),
    },
];
