//! A change, as the one path carries it out.

use std::fmt::Display;
use std::time::Duration;

use super::audit::{About, Decided, Stage};
use super::error::CommandError;
use super::path::Commands;
use super::plan::{Earlier, Plan};
use unibus_core::domain::{Action, Author, Decision, Denial, Records as _, Resource, Role, User, decide};
use unibus_core::view::View;
use unibus_store::{Records, Revision};

/// A change: of a room, a membership, a user, an invite, or of keys. `Commands::carry_out` carries each of them out in the same
/// way; what differs is here.
pub trait Change: Sync {
    /// What a plan finds: what a change that needs no write is answered with.
    type Found: Send;
    /// Why it was not made, or is not known to be.
    type Error: Display + Send;

    /// Time for the node's own view to show what was written; none: as usual.
    const CATCH_UP: Option<Duration> = None;

    /// Whether a write of unknown outcome is made again until the outcome is known, within the time for attempts. Otherwise the
    /// client is told at once that it is unknown, and gives the change again.
    const RETRIES_UNKNOWN: bool = false;

    /// The revision that the view should have before anything is planned on it: the client may have it from another node, which
    /// knew of it sooner.
    fn awaits(&self, _: &View) -> Option<(Records, Revision)> {
        None
    }

    /// Authorizes the change on what the node knows and can prove, and plans its writes on that and on what the store has. It is
    /// asked again after everything that takes its time, and the last answer holds.
    fn plan(
        &self,
        on: &Commands,
        earlier: &mut Earlier,
    ) -> impl Future<Output = Result<Plan<Self::Found>, Self::Error>> + Send;

    /// By which rights it begins, where its first record comes before the path looks whether it can be done: then also what was
    /// not possible leaves two records. None: only what is to be written begins.
    fn announced(&self) -> Option<Decided> {
        None
    }

    /// What the audit says it is about; none: it is not audited, or no user was found who gives it.
    fn about(&self, earlier: &Earlier) -> Option<About>;

    /// What the audit says of an error.
    fn stage(&self, error: &Self::Error) -> Stage;

    /// Whether it was not allowed. A client that tries what it may not is worth a record; one that mistypes a name is not.
    fn is_denied(&self, _: &Self::Error) -> bool {
        false
    }

    /// Why the path did not carry it out.
    fn failed(&self, error: CommandError) -> Self::Error;
}

/// Who makes a change, and by which right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub author: Author,
    /// The role on the bus; none: root on a node.
    pub role: Option<Role>,
}

impl Principal {
    /// Root on a node.
    pub fn root(author: Author) -> Self {
        Self { author, role: None }
    }

    /// Whether the author may do `action` now, by what `view` has. Root on a node may, whatever the view has.
    pub fn authorize(&self, action: Action, on: Resource<'_>, view: &View) -> Result<(), Denial> {
        let Author::User(handle) = &self.author else { return Ok(()) };
        match decide(view.user(handle), action, on, view) {
            Decision::Allow => Ok(()),
            Decision::Deny(why) => Err(why),
        }
    }
}

impl From<&User> for Principal {
    fn from(user: &User) -> Self {
        Self { author: Author::User(user.handle.clone()), role: Some(user.role) }
    }
}
