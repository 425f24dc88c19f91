//! Whom a revocation waits for, what counts as an acknowledgement, and when it is over.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::progress::Positions;
use super::roster::{Process, Witness};
use unibus_core::bus;
use unibus_core::domain::RevocationOutcome;

/// What a process says of itself: the view has everything up to there, and whoever lost something by it is cut off, which the
/// engine has confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who says so.
    #[serde(flatten)]
    pub process: Process,
    /// Up to where.
    pub settled: Positions,
}

/// How far a revocation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationStatus {
    /// No node honours the old state any more.
    Over(RevocationOutcome),
    /// Not before this moment, unless a node acknowledges.
    Open(Instant),
}

/// A revocation that waits for its witnesses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Waiting {
    wanted: Positions,
    open: Vec<Witness>,
}

impl Waiting {
    /// `own` and the `witnesses` have to come as far as `wanted`, which was committed at `committed` at the latest.
    pub fn new(wanted: Positions, committed: Instant, own: &Process, witnesses: Vec<Witness>) -> Self {
        let mut open = witnesses;
        // Whose time was over before has nothing to say to this.
        open.retain(|witness| witness.over > committed);
        // We decide ourselves, heard of or not.
        let over = committed + bus::revocation_bound();
        open.push(Witness { node: own.node.clone(), boot: Some(own.boot.clone()), over });
        Self { wanted, open }
    }

    /// Up to where everybody has to come.
    pub fn wanted(&self) -> &Positions {
        &self.wanted
    }

    /// Takes an acknowledgement into account. One of less than is wanted, or of another process of the same node, is none.
    pub fn acknowledged(&mut self, by: &Acknowledgement) {
        if by.settled.cover(&self.wanted) {
            let is =
                |witness: &Witness| witness.node == by.process.node && witness.boot.as_ref() == Some(&by.process.boot);
            self.open.retain(|witness| !is(witness));
        }
    }

    /// Whether somebody else than `own` can still be asked.
    pub fn asks_others(&self, own: &Process) -> bool {
        self.open.iter().any(|witness| witness.boot.as_ref().is_some_and(|boot| *boot != own.boot))
    }

    /// How it stands at `now`.
    pub fn status(&self, now: Instant) -> RevocationStatus {
        match self.open.iter().map(|witness| witness.over).max() {
            None => RevocationStatus::Over(RevocationOutcome::Acknowledged),
            Some(over) if now >= over => RevocationStatus::Over(RevocationOutcome::WaitedOut),
            Some(over) => RevocationStatus::Open(over),
        }
    }

    /// Who has not acknowledged.
    pub fn missing(&self) -> &[Witness] {
        &self.open
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use unibus_core::bus::Bucket;

    fn process(node: &str, boot: &str) -> Process {
        Process { node: node.to_owned(), boot: boot.to_owned() }
    }

    fn acknowledgement(node: &str, boot: &str, revision: u64) -> Acknowledgement {
        Acknowledgement { process: process(node, boot), settled: Positions::of(Bucket::Users, revision) }
    }

    #[test]
    fn only_the_very_process_acknowledges_and_only_what_is_wanted() {
        let now = Instant::now();
        let (soon, bound) = (now + Duration::from_secs(2), bus::revocation_bound());
        let own = process("magnus", "m");
        let witness = |node: &str, boot: Option<&str>, over| Witness {
            node: node.to_owned(),
            boot: boot.map(str::to_owned),
            over,
        };
        let witnesses = vec![
            witness("homer", Some("h"), now + bound),
            witness("homer", None, soon),
            witness("nelson", Some("n"), now),
        ];
        let mut waiting = Waiting::new(Positions::of(Bucket::Users, 7), now, &own, witnesses);
        assert!(waiting.asks_others(&own));
        waiting.acknowledged(&acknowledgement("magnus", "m", 7));
        waiting.acknowledged(&acknowledgement("homer", "h", 6));
        waiting.acknowledged(&acknowledgement("homer", "g", 9));
        waiting.acknowledged(&acknowledgement("nelson", "h", 9));
        assert_eq!(waiting.status(now), RevocationStatus::Open(now + bound));
        waiting.acknowledged(&acknowledgement("homer", "h", 8));
        assert!(!waiting.asks_others(&own), "who ran there before cannot answer");
        assert_eq!(waiting.status(now), RevocationStatus::Open(soon));
        assert_eq!(waiting.status(soon), RevocationStatus::Over(RevocationOutcome::WaitedOut));
    }

    #[test]
    fn alone_one_waits_for_oneself() {
        let (now, own) = (Instant::now(), process("magnus", "m"));
        let mut waiting = Waiting::new(Positions::of(Bucket::Users, 7), now, &own, vec![]);
        assert!(!waiting.asks_others(&own));
        assert_eq!(waiting.status(now), RevocationStatus::Open(now + bus::revocation_bound()));
        waiting.acknowledged(&acknowledgement("magnus", "m", 7));
        assert_eq!(waiting.status(now), RevocationStatus::Over(RevocationOutcome::Acknowledged));
    }
}
