//! What a change came to, and how long is waited for what.

use std::collections::BTreeMap;
use std::time::Duration;

use super::audit::CommandId;
use super::keys::Address;
use super::plan::StepKind;
use unibus_core::bus;
use unibus_core::domain::{Record, RevocationOutcome};
use unibus_store::Revision;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Time within which attempts begin.
    pub budget: Duration,
    /// Time for the own state to show what was written.
    pub catch_up: Duration,
    /// The first pause after a conflict; later ones are longer.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (catch_up, pause) = (Duration::from_secs(2), Duration::from_millis(5));
        Self { budget: bus::STORE_BUDGET, catch_up, pause }
    }
}

/// What was left behind of a command that is done: nothing that decides anything, and `repair` finishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// `rooms_by_member` does not say so yet.
    Index,
    /// A claim that no room uses any more is still there.
    Claim,
    /// The audit has only the first of its two records.
    Record,
}

/// What a change came to.
#[derive(Debug)]
pub struct Done<T> {
    /// Its number in the audit.
    pub id: CommandId,
    /// False where it was so already.
    pub changed: bool,
    /// What its plan found or leaves behind.
    pub found: T,
    /// The entry that it is about.
    pub about: Address,
    /// The revision of that: as written, or as found; none: that is not known.
    pub revision: Option<Revision>,
    /// All that was written.
    pub written: BTreeMap<Address, Wrote>,
    /// How it became certain that no node honours what was taken away; none: nothing was.
    pub fenced: Option<RevocationOutcome>,
    /// Time that this took.
    pub waited: Duration,
    /// What is left for a repair.
    pub unfinished: Vec<Unfinished>,
}

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub struct Wrote {
    /// The revision that it has.
    pub revision: Revision,
    /// The record that was written; none: the entry is no record.
    pub record: Option<Record>,
    pub(super) kind: StepKind,
}

impl<T> Done<T> {
    /// What the audit says is there now: what was written, or what was found.
    pub(super) fn names(&self) -> Vec<(String, Revision)> {
        let changes = self.written.iter().filter(|(_, wrote)| wrote.kind == StepKind::Change);
        let mut names: Vec<_> = changes.map(|(address, wrote)| (address.to_string(), wrote.revision)).collect();
        if names.is_empty() {
            names.extend(self.revision.map(|revision| (self.about.to_string(), revision)));
        }
        names
    }
}
