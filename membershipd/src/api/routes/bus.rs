//! The routes about the bus as a whole: the node, users, the audit log.

use axum::http::{Method, StatusCode};
use futures::FutureExt;

use super::{Access, Precondition, Route, Signed};
use crate::api::call::{ACTION, AFTER, BEFORE, BY, LAST, LIMIT, NODE, ROOM, SINCE, UNTIL, WHO};
use crate::api::document::schema_of;
use crate::api::handler::Acts;
use crate::api::target::{Bus, FutureUser, OneConnection, OneUser, Oneself};
use crate::api::{audit, bus_connections, open, status, users};
use unibus_api_types::bodies;
use unibus_api_types::limits::LIVEZ;
use unibus_core::domain::Action;

const USER: &str = "/v1/users/{handle}";

/// The routes about the bus as a whole.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        template: LIVEZ,
        id: "livez",
        summary: "Whether the daemon answers",
        access: Access::Open(|_, _| open::livez().boxed()),
    },
    Route {
        method: Method::GET,
        template: "/healthz",
        id: "health",
        summary: "Whether the node can prove that its view is current; on loopback with the whole posture",
        access: Access::Open(|shared, local| open::healthz(shared, local).boxed()),
    },
    Route {
        method: Method::GET,
        template: "/openapi.json",
        id: "openapi",
        summary: "This description",
        access: Access::Open(|_, _| open::openapi().boxed()),
    },
    Route {
        method: Method::GET,
        template: "/metrics",
        id: "metrics",
        summary: "Counters in the text format of OpenMetrics; on loopback only",
        access: Access::Loopback(|shared, _| open::metrics(shared).boxed()),
    },
    Route {
        method: Method::GET,
        template: "/v1/me",
        id: "showMe",
        summary: "The record of whoever signed the request",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::User>)],
            handler: &Acts::<Oneself>(Action::ReadUser, |shared, call| {
                users::show(shared, call.map(|Oneself(handle)| OneUser(handle))).boxed()
            }),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/bus",
        id: "showBus",
        summary: "Where the bus is, on the host that is asked: clients connect to it with NATS; and why that node refused the caller a moment ago",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Bus>)],
            handler: &Acts::<Bus>(Action::Connect, |shared, call| users::bus(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/directory",
        id: "listDirectory",
        summary: "Handles and public keys of all users who are admitted, by handle",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Directory>)],
            handler: &Acts::<Bus>(Action::ReadDirectory, |shared, call| users::directory(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/users",
        id: "listUsers",
        summary: "The records of all users, disabled and removed ones included, by handle",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Users>)],
            handler: &Acts::<Bus>(Action::ListUsers, |shared, call| users::list(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: USER,
        id: "showUser",
        summary: "The record of a user",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::User>)],
            handler: &Acts::<OneUser>(Action::ReadUser, |shared, call| users::show(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PUT,
        template: USER,
        id: "addUser",
        summary: "Makes a user; again with the same body changes nothing. A key is never used twice, nor a handle",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<bodies::NewUser>),
            answers: &[
                (StatusCode::OK, schema_of::<bodies::ChangedUser>),
                (StatusCode::CREATED, schema_of::<bodies::ChangedUser>),
            ],
            handler: &Acts::<FutureUser>(Action::AddUser, |shared, call| users::add(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::PATCH,
        template: USER,
        id: "changeUser",
        summary: "Enables or disables a user, or gives another role; what takes a right away answers when no node honours it",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Required,
            body: Some(schema_of::<bodies::UserPatch>),
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedUser>)],
            handler: &Acts::<OneUser>(Action::ChangeUser, |shared, call| users::change(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::DELETE,
        template: USER,
        id: "removeUser",
        summary: "Removes a user for good; answers when no node honours its rights",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ChangedUser>)],
            handler: &Acts::<OneUser>(Action::RemoveUser, |shared, call| users::remove(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/audit",
        id: "readAudit",
        summary: "Who did what, in the order in which it was decided: all of it by page, or the last of it",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT, BY, ROOM, ACTION, SINCE, UNTIL, LAST, BEFORE],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Audit>)],
            handler: &Acts::<Bus>(Action::ReadAudit, |shared, call| audit::list(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/status",
        id: "showStatus",
        summary: "What each node of the cluster says of itself, and which ones do not answer",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Status>)],
            handler: &Acts::<Bus>(Action::ReadStatus, |shared, call| status::show(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/connections",
        id: "listConnections",
        summary: "Who is connected to the bus, to which node and from where, by node and number",
        access: Access::Signed(Signed {
            query: &[AFTER, LIMIT, WHO, NODE],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::Connections>)],
            handler: &Acts::<Bus>(Action::ListConnections, |shared, call| bus_connections::list(shared, call).boxed()),
        }),
    },
    Route {
        method: Method::DELETE,
        template: "/v1/connections/{node}/{connection}",
        id: "closeConnection",
        summary: "Ends a connection to the bus; its client may connect again, unless its user is disabled. Again changes nothing",
        access: Access::Signed(Signed {
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<bodies::ClosedConnection>)],
            handler: &Acts::<OneConnection>(Action::CloseConnection, |shared, call| {
                bus_connections::close(shared, call).boxed()
            }),
        }),
    },
];
