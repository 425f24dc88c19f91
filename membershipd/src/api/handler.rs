//! Handlers, each with the type of what it is about, behind one face for the table of routes.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::body::Arriving;
use super::call::{Call, Query, Reply};
use super::precondition::IfMatch;
use super::problem::Problem;
use super::shared::Shared;
use super::target::{InRoom, Named, Path, Target};
use unibus_core::domain::{Action, Command, Decision, Denial, User, decide, permits};
use unibus_core::view::View;

/// An answer on its way.
pub(super) type Answering = BoxFuture<'static, Result<Reply, Problem>>;

/// A handler of signed requests.
pub(super) trait Handler: Sync {
    /// What must be allowed: one of these actions.
    fn actions(&self) -> &[Action];

    /// What the request comes to, where that is a command, and about which room: for the fuzz target of bodies.
    #[cfg(any(test, feature = "fuzzing"))]
    fn command(&self, _: &Path<'_>, _: &[u8]) -> Option<Result<(Command, unibus_core::domain::RoomId), Problem>> {
        None
    }

    /// Reads what a request is about, and decides on `view` whether the caller may.
    fn authorize(&self, path: &Path<'_>, body: &[u8], view: &View) -> Result<Allowed, Refused>;
}

/// What else a request says, read once it is allowed.
#[derive(Debug)]
pub(super) struct Rest {
    /// Where it comes from.
    pub(super) address: IpAddr,
    pub(super) query: Query,
    pub(super) if_match: Option<IfMatch>,
    pub(super) body: Bytes,
    /// What is still to come of a body that is streamed.
    pub(super) arriving: Option<Arriving>,
}

/// A request that may be carried out.
pub(super) struct Allowed {
    /// What it is about.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with the path"))]
    pub(super) named: Named,
    /// The digest that its body must have.
    pub(super) sha256: Option<[u8; 32]>,
    /// Carries it out.
    pub(super) run: Box<dyn FnOnce(Arc<Shared>, Rest) -> Answering + Send>,
}

/// Why a request may not be carried out.
#[derive(Debug)]
pub(super) enum Refused {
    /// The rules say no.
    Denied(Box<Denied>),
    /// Something else is wrong with it, or with this node.
    Problem(Problem),
}

/// What a caller wanted to do, on what, and why they may not.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) who: User,
    pub(super) action: Action,
    pub(super) named: Named,
    pub(super) why: Denial,
}

impl Denied {
    /// A decision about `target`, as a result.
    pub(super) fn check(decision: Decision, who: &User, action: Action, target: &impl Target) -> Result<(), Refused> {
        let Decision::Deny(why) = decision else { return Ok(()) };
        Err(Refused::Denied(Box::new(Denied { who: who.clone(), action, named: target.named(), why })))
    }
}

impl Allowed {
    /// What `run` makes of a request about `target`, where the decision is to allow it.
    fn check<T: Target>(
        decision: Decision,
        who: &User,
        action: Action,
        target: T,
        run: impl FnOnce(Arc<Shared>, Call<T>) -> Answering + Send + 'static,
    ) -> Result<Self, Refused> {
        Denied::check(decision, who, action, &target)?;
        let (caller, named, sha256) = (who.clone(), target.named(), target.sha256());
        let run = Box::new(move |shared, rest| run(shared, Call::new(caller, target, rest)));
        Ok(Self { named, sha256, run })
    }
}

impl<P: Into<Problem>> From<P> for Refused {
    fn from(problem: P) -> Self {
        Refused::Problem(problem.into())
    }
}

impl Refused {
    /// What is answered, where no record is kept of it.
    pub(super) fn problem(self) -> Problem {
        match self {
            Refused::Denied(denied) => denied.why.into(),
            Refused::Problem(problem) => problem,
        }
    }
}

/// A handler that needs one action, whatever the body says.
pub(super) struct Acts<T>(pub(super) Action, pub(super) fn(Arc<Shared>, Call<T>) -> Answering);

/// A handler of a command: what is asked for stands in target and body.
pub(super) struct Commands<T> {
    /// The command asks for one of these.
    pub(super) actions: &'static [Action],
    pub(super) make: fn(&User, &T, &[u8]) -> Result<Command, Problem>,
    pub(super) run: fn(Arc<Shared>, Call<T>, Command) -> Answering,
}

impl<T: Target> Handler for Acts<T> {
    fn actions(&self) -> &[Action] {
        std::slice::from_ref(&self.0)
    }

    fn authorize(&self, path: &Path<'_>, _: &[u8], view: &View) -> Result<Allowed, Refused> {
        let (Self(action, run), target) = (self, T::read(path)?);
        let decision = decide(Some(path.caller), *action, target.resource(), view);
        Allowed::check(decision, path.caller, *action, target, *run)
    }
}

impl<T: InRoom> Handler for Commands<T> {
    fn actions(&self) -> &[Action] {
        self.actions
    }

    #[cfg(any(test, feature = "fuzzing"))]
    fn command(&self, path: &Path<'_>, body: &[u8]) -> Option<Result<(Command, unibus_core::domain::RoomId), Problem>> {
        Some(T::read(path).and_then(|target| Ok(((self.make)(path.caller, &target, body)?, target.room().clone()))))
    }

    fn authorize(&self, path: &Path<'_>, body: &[u8], view: &View) -> Result<Allowed, Refused> {
        let (run, target) = (self.run, T::read(path)?);
        let command = (self.make)(path.caller, &target, body)?;
        let (action, _) = command.asks(path.caller, target.room());
        let decision = permits(Some(path.caller), target.room(), &command, view);
        Allowed::check(decision, path.caller, action, target, move |shared, call| run(shared, call, command))
    }
}
