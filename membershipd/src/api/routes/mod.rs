//! The table of routes, and the one place where it is decided who may use them.

mod blobs;
mod bus;
mod invites;
mod keys;
mod rooms;

use std::sync::Arc;
use std::time::Instant;

use axum::http::{Method, StatusCode};

use super::call::Parameter;
use super::document::SchemaOf;
use super::handler::{Allowed, Answering, Denied, Handler, Refused};
use super::problem::Problem;
use super::shared::Shared;
use super::target::{Path, Target};
use crate::api::problem::Refuse as _;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Action, Denial, SignPub, User, decide};
use unibus_core::view::View;

/// A method of a path.
pub(super) struct Route {
    pub(super) method: Method,
    /// The path, with names of its variable parts.
    pub(super) template: &'static str,
    /// What programs call it; it never changes.
    pub(super) id: &'static str,
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
    /// The same, with a body of bytes that is streamed.
    Upload(Signed),
    /// The same, answered with bytes that are streamed.
    Download(Signed),
    /// Who signed the request with a key of whoever he will be, and has the token of an invite.
    Newcomer(Newcomer),
}

#[cfg(test)]
impl Access {
    /// Of a route of signed requests what it is; none: it needs no signature.
    pub(super) fn signed(&self) -> Option<&Signed> {
        match self {
            Access::Signed(signed) | Access::Upload(signed) | Access::Download(signed) => Some(signed),
            Access::Open(_) | Access::Loopback(_) | Access::Newcomer(_) => None,
        }
    }
}

/// A route of requests that nobody's key signs yet. There is one; the way in knows what it does.
pub(super) struct Newcomer {
    /// The body that it takes.
    pub(super) body: SchemaOf,
    /// Statuses of success, each with the body of the answer.
    pub(super) answers: &'static [(StatusCode, SchemaOf)],
}

/// A route of signed requests.
pub(super) struct Signed {
    /// Parameters of the query that it knows.
    pub(super) query: &'static [Parameter],
    pub(super) if_match: Precondition,
    /// The body that it takes; none: no body.
    pub(super) body: Option<SchemaOf>,
    /// Statuses of success, each with the body of the answer.
    pub(super) answers: &'static [(StatusCode, SchemaOf)],
    pub(super) handler: &'static dyn Handler,
}

impl Signed {
    /// Whether the body may be left out: whatever it could say has a usual value. Release 0.1.0 takes none here.
    pub(super) fn body_is_optional(&self) -> bool {
        self.handler.actions().contains(&Action::AcceptInvitation)
    }
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

pub(super) type OpenHandler = fn(Arc<Shared>, bool) -> Answering;

/// Every route that there is.
pub(super) fn all() -> impl Iterator<Item = &'static Route> {
    let about_rooms = rooms::ROUTES.iter().chain(keys::ROUTES).chain(blobs::ROUTES);
    bus::ROUTES.iter().chain(invites::ROUTES).chain(about_rooms)
}

/// Every path, once.
pub(super) fn templates() -> impl Iterator<Item = &'static str> {
    let first = |(at, route): (usize, &'static Route)| {
        all().take(at).all(|other| other.template != route.template).then_some(route.template)
    };
    all().enumerate().filter_map(first)
}

/// The route of `method` at the path `template`, or the methods that there are. HEAD is a GET whose answer has no body
/// (RFC 9110 section 9.3.2).
pub(super) fn find(template: &str, method: &Method) -> Result<&'static Route, Problem> {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    let here = || all().filter(|route| route.template == template);
    here().find(|route| route.method == *wanted).ok_or_else(|| {
        let mut methods: Vec<&str> = here().map(|route| route.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        Problem { allow: Some(methods.join(", ").into()), ..Kind::METHOD_NOT_ALLOWED.problem() }
    })
}

/// Decides whether the owner of `key` may use a route now, on what the view of `shared` says and can prove: the one place where
/// a request is authorized.
///
/// Changes are authorized once more when they are made, under the lock and on the very records that their writes rest on
/// (`commands`): that is where it must hold. They are asked here first, because the order of refusals promises it: a client that
/// may not do something learns that, and nothing else of what is wrong with its request; it costs no lock, no record of the
/// audit but the one that says so, and no place in a queue.
pub(super) fn authorize(
    shared: &Shared,
    key: &SignPub,
    signed: &Signed,
    part: &dyn Fn(&str) -> Option<String>,
    body: &[u8],
    now: Instant,
) -> Result<Allowed, Refused> {
    shared.gate.require_lease(now)?;
    shared.gate.view(|view| {
        let caller = view.user_of_key(key).ok_or(Denial::UnknownKey)?;
        signed.handler.authorize(&Path { part, caller }, body, view)
    })
}

/// Whether `caller` may do `action` still, at `now`: asked again by what takes long, since neither the lease nor the right of the
/// moment at which it began says anything of later; and by what depends on more than the path.
pub(super) fn still(
    shared: &Shared,
    caller: &User,
    action: Action,
    target: &impl Target,
    now: Instant,
) -> Result<(), Refused> {
    shared.gate.require_lease(now)?;
    let decided = |view: &View| decide(view.user_of_key(&caller.sign_pub), action, target.resource(), view);
    Denied::check(shared.gate.view(decided), caller, action, target)
}
