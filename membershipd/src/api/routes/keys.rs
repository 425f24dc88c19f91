//! The routes about keys: of users, and of rooms.

use axum::http::{Method, StatusCode};
use futures::FutureExt;

use super::{Access, Precondition, Route, Signed};
use crate::api::call::{AFTER, LIMIT};
use crate::api::document::schema_of;
use crate::api::handler::Acts;
use crate::api::keys;
use crate::api::target::{ListedUser, OneEpoch, OneRoom, Oneself};
use unibus_api_types::bodies;
use unibus_core::domain::Action;

const EPOCH: &str = "/v1/rooms/{room}/keys/{epoch}";

/// The routes about keys.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        template: "/v1/directory/{handle}",
        id: "showListedUser",
        summary: "The public keys of a user, also of one who is disabled or was removed: what he said stays his",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Listed>)],
            handler: &Acts::<ListedUser>(Action::ReadDirectory, |shared, call| keys::listed(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: "/v1/me/hpke",
        id: "publishHpkeKey",
        summary: "Says which HPKE key is the caller's; again with the same key changes nothing, another one is refused for ever",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<bodies::Hpke>),
            answers: &[
                (StatusCode::OK, schema_of::<bodies::Listed>),
                (StatusCode::CREATED, schema_of::<bodies::Listed>),
            ],
            handler: &Acts::<Oneself>(Action::PublishKey, |shared, call| keys::publish(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/rooms/{room}/keys",
        id: "showNewestKey",
        summary: "Which key of a room is the newest, and whether it is sealed for those who are there now",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::NewestKey>)],
            handler: &Acts::<OneRoom>(Action::ReadRoomKeys, |shared, call| keys::newest(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: EPOCH,
        id: "showKey",
        summary: "A key of a room, sealed for the caller",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::SealedKey>)],
            handler: &Acts::<OneEpoch>(Action::ReadRoomKeys, |shared, call| keys::show(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: EPOCH,
        id: "beginEpoch",
        summary: "Begins an epoch: the one after the newest, with the key sealed for each recipient; again with the same key changes nothing",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<bodies::NewEpoch>),
            answers: &[(StatusCode::OK, schema_of::<bodies::Begun>), (StatusCode::CREATED, schema_of::<bodies::Begun>)],
            handler: &Acts::<OneEpoch>(Action::RotateRoomKeys, |shared, call| keys::begin(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/rooms/{room}/recipients",
        id: "listRecipients",
        summary: "For whom a key of the room is to be sealed: who is there or invited, is admitted to the bus, and has an HPKE key; by handle",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Recipients>)],
            handler: &Acts::<OneRoom>(Action::RotateRoomKeys, |shared, call| keys::recipients(shared, call).boxed()),
        }),
    },
];
