//! The table of routes, and the one place where it is decided who may use them.

use std::sync::Arc;
use std::time::Instant;

use axum::http::{Method, StatusCode};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::call::{AFTER, Call, LIMIT, Reply, Target};
use super::document::{SchemaOf, schema_of};
use super::problem::{self, Problem};
use super::shared::Shared;
use super::{audit, open, users};
use crate::domain::{Action, Decision, Handle, SignPub, User, decide};

/// A method of a path.
pub(super) struct Route {
    pub(super) method: Method,
    /// The path, with names of its variable parts.
    pub(super) template: &'static str,
    /// What it does, in a sentence.
    pub(super) summary: &'static str,
    pub(super) access: Access,
}

/// Who gets an answer.
pub(super) enum Access {
    /// Everybody.
    Open(OpenHandler),
    /// Everybody on this machine; for others there is no such thing.
    Loopback(OpenHandler),
    /// Who signed the request and may do the action.
    Signed(Signed),
}

/// A route of signed requests.
pub(super) struct Signed {
    /// The action that must be allowed.
    pub(super) action: Action,
    /// On what.
    pub(super) on: On,
    /// Parameters of the query that it knows.
    pub(super) query: &'static [&'static str],
    pub(super) if_match: Precondition,
    /// The body that it takes; none: no body.
    pub(super) body: Option<SchemaOf>,
    /// Statuses of success, each with the body of the answer.
    pub(super) answers: &'static [(StatusCode, SchemaOf)],
    pub(super) handler: Handler,
}

/// What the action of a route is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// The bus as a whole.
    Bus,
    /// Whoever asks.
    Caller,
    /// The user `{handle}` of the path.
    User,
    /// The bus, which is to have a user `{handle}`.
    NewUser,
}

/// Whether a request says which revision it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    /// It must not.
    Unsupported,
    /// It may.
    Optional,
    /// It must.
    Required,
}

pub(super) type OpenHandler = fn(Arc<Shared>, bool) -> BoxFuture<'static, Result<Reply, Problem>>;
pub(super) type Handler = fn(Arc<Shared>, Call) -> BoxFuture<'static, Result<Reply, Problem>>;

/// Name of the one variable part so far.
const HANDLE: &str = "handle";
const USER: &str = "/v1/users/{handle}";

/// Every route that there is.
pub(super) static ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        template: "/livez",
        summary: "Whether the daemon answers",
        access: Access::Open(|_, _| open::livez().boxed()),
    },
    Route {
        method: Method::GET,
        template: "/healthz",
        summary: "Whether the node can prove that its view is current; on loopback with the whole posture",
        access: Access::Open(|shared, local| open::healthz(shared, local).boxed()),
    },
    Route {
        method: Method::GET,
        template: "/openapi.json",
        summary: "This description",
        access: Access::Open(|_, _| open::openapi().boxed()),
    },
    Route {
        method: Method::GET,
        template: "/metrics",
        summary: "Counters in the text format of OpenMetrics; on loopback only",
        access: Access::Loopback(|shared, _| open::metrics(shared).boxed()),
    },
    Route {
        method: Method::GET,
        template: "/v1/me",
        summary: "The record of whoever signed the request",
        access: Access::Signed(Signed {
            action: Action::ReadUser,
            on: On::Caller,
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<users::UserBody>)],
            handler: |shared, call| users::show(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/directory",
        summary: "Handles and public keys of all users who are admitted, by handle",
        access: Access::Signed(Signed {
            action: Action::ReadDirectory,
            on: On::Bus,
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<users::DirectoryBody>)],
            handler: |shared, call| users::directory(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/users",
        summary: "The records of all users, disabled and removed ones included, by handle",
        access: Access::Signed(Signed {
            action: Action::ListUsers,
            on: On::Bus,
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<users::UsersBody>)],
            handler: |shared, call| users::list(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: USER,
        summary: "The record of a user",
        access: Access::Signed(Signed {
            action: Action::ReadUser,
            on: On::User,
            query: &[],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<users::UserBody>)],
            handler: |shared, call| users::show(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PUT,
        template: USER,
        summary: "Makes a user; again with the same body changes nothing. A key is never used twice, nor a handle",
        access: Access::Signed(Signed {
            action: Action::AddUser,
            on: On::NewUser,
            query: &[],
            if_match: Precondition::Unsupported,
            body: Some(schema_of::<users::NewUser>),
            answers: &[
                (StatusCode::OK, schema_of::<users::ChangedUser>),
                (StatusCode::CREATED, schema_of::<users::ChangedUser>),
            ],
            handler: |shared, call| users::add(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::PATCH,
        template: USER,
        summary: "Enables or disables a user, or gives another role; what takes a right away answers when no node honours it",
        access: Access::Signed(Signed {
            action: Action::ChangeUser,
            on: On::User,
            query: &[],
            if_match: Precondition::Required,
            body: Some(schema_of::<users::UserPatch>),
            answers: &[(StatusCode::OK, schema_of::<users::ChangedUser>)],
            handler: |shared, call| users::change(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::DELETE,
        template: USER,
        summary: "Removes a user for good; answers when no node honours its rights",
        access: Access::Signed(Signed {
            action: Action::RemoveUser,
            on: On::User,
            query: &[],
            if_match: Precondition::Optional,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<users::ChangedUser>)],
            handler: |shared, call| users::remove(shared, call).boxed(),
        }),
    },
    Route {
        method: Method::GET,
        template: "/v1/audit",
        summary: "Who did what, in the order in which it was decided",
        access: Access::Signed(Signed {
            action: Action::ReadAudit,
            on: On::Bus,
            query: &[AFTER, LIMIT],
            if_match: Precondition::Unsupported,
            body: None,
            answers: &[(StatusCode::OK, schema_of::<audit::AuditBody>)],
            handler: |shared, call| audit::list(shared, call).boxed(),
        }),
    },
];

/// Every path, once.
pub(super) fn templates() -> impl Iterator<Item = &'static str> {
    let first = |(at, route): (usize, &'static Route)| {
        let before = ROUTES.get(..at).unwrap_or_default();
        before.iter().all(|other| other.template != route.template).then_some(route.template)
    };
    ROUTES.iter().enumerate().filter_map(first)
}

/// The route of `method` at the path `template`, or the methods that there are. HEAD is a GET whose answer has no body
/// (RFC 9110 section 9.3.2).
pub(super) fn find(template: &str, method: &Method) -> Result<&'static Route, Problem> {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let here = || ROUTES.iter().filter(|route| route.template == template);
    here().find(|route| route.method == *wanted).ok_or_else(|| {
        let mut methods: Vec<&str> = here().map(|route| route.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        Problem { allow: Some(methods.join(", ").into()), ..problem::METHOD_NOT_ALLOWED.problem() }
    })
}

impl On {
    /// What the request is about: `part` gives the variable parts of its path, `caller` asks.
    pub(super) fn target(self, part: impl Fn(&str) -> Option<String>, caller: &User) -> Result<Target, Problem> {
        match self {
            On::Bus => Ok(Target::Bus),
            On::Caller => Ok(Target::User(caller.handle.clone())),
            On::User => handle(part).map(Target::User),
            On::NewUser => handle(part).map(Target::NewUser),
        }
    }
}

/// The handle in a path.
fn handle(part: impl Fn(&str) -> Option<String>) -> Result<Handle, Problem> {
    part(HANDLE).unwrap_or_default().parse().map_err(|error| problem::bad_path(&error))
}

/// Decides whether the owner of `key` may use a route now, on what its view of `shared` says and can prove; the one place
/// where anybody asks. Returns the owner as it is now: it may have changed since the signature was verified.
pub(super) fn authorize(
    shared: &Shared,
    key: &SignPub,
    signed: &Signed,
    target: impl FnOnce(&User) -> Result<Target, Problem>,
    now: Instant,
) -> Result<(User, Target), Problem> {
    if !shared.gate.lease_valid(now) {
        return Err(problem::no_lease());
    }
    shared.gate.view(|view| {
        let user = view.user_of_key(key);
        let target = match user {
            Some(user) => target(user)?,
            None => Target::Bus,
        };
        match (decide(user, signed.action, target.resource(), view), user) {
            (Decision::Allow, Some(user)) => Ok((user.clone(), target)),
            (Decision::Allow, None) => Err(problem::INTERNAL.problem()),
            (Decision::Deny(denial), _) => Err(denial.into()),
        }
    })
}
