//! The table of routes, and the one place where it is decided who may use them.

mod blobs;
mod bus;
mod invites;
mod keys;
mod rooms;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use axum::http::{Method, StatusCode};
use futures::future::BoxFuture;

use super::call::{Call, Reply, Target};
use super::document::SchemaOf;
use super::problem::Refuse as _;
use super::problem::{self, Problem};
use super::shared::Shared;
use crate::blobs::BlobName;
use crate::domain::{Action, Command, Decision, Denial, InvalidValue, SignPub, User, decide, permits};
use crate::view::View;
use unibus_api_types::problem::Kind;

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
    pub(super) needs: Needs,
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

/// What must be allowed.
pub(super) enum Needs {
    /// An action, whatever the body says.
    Action(Action),
    /// What the command asks for that the request comes to: one of these actions.
    Command(&'static [Action], MakeCommand),
}

/// What somebody wants to be done, by the target and the body of his request.
pub(super) type MakeCommand = fn(&User, &Target, &[u8]) -> Result<Command, Problem>;

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
    /// The invite `{invite}` of the path, which is a matter of the bus.
    Invite,
    /// The room `{room}` of the path.
    Room,
    /// The bus, which is to have a room `{room}`.
    NewRoom,
    /// The user `{handle}` in the room `{room}`.
    Member,
    /// The bus, which has a user `{handle}`.
    Listed,
    /// The key of `{epoch}` of the room `{room}`.
    Epoch,
    /// The attachment `{sha256}` of the room `{room}`.
    Blob,
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

/// Names of the variable parts of paths.
const HANDLE: &str = "handle";
const ROOM: &str = "room";
const EPOCH: &str = "epoch";
const INVITE: &str = "invite";
const SHA256: &str = "sha256";

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

impl On {
    /// What the request is about: `part` gives the variable parts of its path, `caller` asks.
    pub(super) fn target(self, part: impl Fn(&str) -> Option<String>, caller: &User) -> Result<Target, Problem> {
        match self {
            On::Bus => Ok(Target::Bus),
            On::Caller => Ok(Target::User(caller.handle.clone())),
            On::User => parsed(part(HANDLE)).map(Target::User),
            On::NewUser => parsed(part(HANDLE)).map(Target::NewUser),
            On::Invite => parsed(part(INVITE)).map(Target::Invite),
            On::Room => parsed(part(ROOM)).map(Target::Room),
            On::NewRoom => parsed(part(ROOM)).map(Target::NewRoom),
            On::Member => Ok(Target::Member(parsed(part(ROOM))?, parsed(part(HANDLE))?)),
            On::Listed => parsed(part(HANDLE)).map(Target::Listed),
            On::Epoch => Ok(Target::Epoch(parsed(part(ROOM))?, parsed(part(EPOCH))?)),
            On::Blob => Ok(Target::Blob(BlobName { room: parsed(part(ROOM))?, id: parsed(part(SHA256))? })),
        }
    }
}

/// A name in a path.
fn parsed<T: FromStr<Err = InvalidValue>>(part: Option<String>) -> Result<T, Problem> {
    part.unwrap_or_default().parse().map_err(|error| problem::bad_path(&error))
}

/// A request that may be carried out.
#[derive(Debug)]
pub(super) struct Allowed {
    /// Whose it is, as he is now: he may have changed since the signature was verified.
    pub(super) caller: User,
    pub(super) target: Target,
    /// What it comes to, where that is a command.
    pub(super) command: Option<Command>,
}

/// Why a request may not be carried out.
#[derive(Debug)]
pub(super) enum Refused {
    /// The rules say no.
    Denied(Box<Denied>),
    /// Something else is wrong with it, or with this node.
    Problem(Problem),
}

/// What somebody wanted to do, on what, and why he may not.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) who: User,
    pub(super) action: Action,
    pub(super) target: Target,
    pub(super) why: Denial,
}

impl<P: Into<Problem>> From<P> for Refused {
    fn from(problem: P) -> Self {
        Refused::Problem(problem.into())
    }
}

/// Decides whether the owner of `key` may use a route now, on what its view of `shared` says and can prove; the one place
/// where anybody asks. Who gives a command is asked about once more when it is carried out, as it may have to wait.
pub(super) fn authorize(
    shared: &Shared,
    key: &SignPub,
    signed: &Signed,
    part: impl Fn(&str) -> Option<String>,
    body: &[u8],
    now: Instant,
) -> Result<Allowed, Refused> {
    shared.gate.require_lease(now)?;
    shared.gate.view(|view| {
        let user = view.user_of_key(key).ok_or(Denial::UnknownKey)?;
        let target = signed.on.target(part, user)?;
        let (decision, action, command) = match signed.needs {
            Needs::Action(action) => (decide(Some(user), action, target.resource(), view), action, None),
            Needs::Command(_, make) => {
                let command = make(user, &target, body)?;
                let (room, (action, _)) = (target.room()?, command.asks(user, target.room()?));
                (permits(Some(user), room, &command, view), action, Some(command))
            }
        };
        match decision {
            Decision::Allow => Ok(Allowed { caller: user.clone(), target, command }),
            Decision::Deny(why) => Err(Refused::Denied(Box::new(Denied { who: user.clone(), action, target, why }))),
        }
    })
}

/// Whether `caller` may do `action` still, at `now`: asked again by what takes long, since neither the lease nor the right of the
/// moment at which it began says anything of later; and by what depends on more than the path.
pub(super) fn still(
    shared: &Shared,
    caller: &User,
    action: Action,
    target: &Target,
    now: Instant,
) -> Result<(), Refused> {
    shared.gate.require_lease(now)?;
    let decided = |view: &View| decide(view.user_of_key(&caller.sign_pub), action, target.resource(), view);
    match shared.gate.view(decided) {
        Decision::Allow => Ok(()),
        Decision::Deny(why) => {
            Err(Refused::Denied(Box::new(Denied { who: caller.clone(), action, target: target.clone(), why })))
        }
    }
}

impl Refused {
    /// What is answered, where nobody keeps a record of it.
    pub(super) fn problem(self) -> Problem {
        match self {
            Refused::Denied(denied) => denied.why.into(),
            Refused::Problem(problem) => problem,
        }
    }
}
