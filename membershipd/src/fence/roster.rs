//! Who else may decide about access: the processes whose heartbeats were seen, and when.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use unibus_core::bus;
use unibus_core::view::Heartbeat;

/// One run of the daemon of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Name of the node.
    pub node: String,
    /// Which run: a number drawn at its start.
    pub boot: String,
}

/// Somebody who may still honour what was true before a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Witness {
    /// Name of the node.
    pub node: String,
    /// The process; none: whichever ran there before the present one. They cannot answer.
    pub boot: Option<String>,
    /// From then on it certainly honours nothing old.
    pub over: Instant,
}

/// A process as it was heard of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Heard {
    last: Instant,
    /// When it was first heard of, while it may not be alone.
    succeeded: Option<Instant>,
    level: u32,
}

/// The processes as the heartbeats in one bucket show them.
///
/// A bucket keeps the last heartbeat of a node only, so one that was not delivered was replaced by a later one. Engines
/// refuse a route to a second one of the same name, so the processes of a node follow each other, and whatever ran before one
/// had sent its last heartbeat before that one was first heard of, whether we heard of it or not. It may land later all the
/// same: so nobody is forgotten because somebody else is heard of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Roster(BTreeMap<Process, Heard>);

impl Roster {
    /// Notes a heartbeat that was delivered at `now`.
    pub fn heard(&mut self, node: &str, heartbeat: &Heartbeat, now: Instant) {
        // What is long over is no witness of anything any more.
        self.0.retain(|_, heard| now < heard.last + 2 * bus::revocation_bound());
        let process = Process { node: node.to_owned(), boot: heartbeat.boot.clone() };
        let succeeded = self.0.get(&process).map_or(Some(now), |known| known.succeeded).filter(|_| !heartbeat.alone);
        self.0.insert(process, Heard { last: now, succeeded, level: heartbeat.level });
    }

    /// Whether at `now` nobody who ran on the node of `own` before can be deciding any more. This is what heartbeats then say,
    /// for the sake of those who have not watched for as long.
    pub fn alone(&self, own: &Process, now: Instant) -> bool {
        let over = |since: Instant| now >= since + bus::revocation_bound();
        match self.0.get(own) {
            Some(heard) => heard.succeeded.is_none_or(over),
            None => self.0.keys().all(|process| process.node != own.node),
        }
    }

    /// The processes that may still be deciding at `now`, each with the highest feature level that it can do.
    pub fn deciding(&self, now: Instant) -> impl Iterator<Item = (&Process, u32)> {
        let fresh = move |heard: &Heard| now < heard.last + bus::revocation_bound();
        self.0.iter().filter(move |(_, heard)| fresh(heard)).map(|(process, heard)| (process, heard.level))
    }

    /// Everybody who may have proven himself by a heartbeat before something that was committed at `committed` at the latest.
    /// All heartbeats before it must have been noted.
    pub fn witnesses(&self, committed: Instant) -> Vec<Witness> {
        let over = |last: Instant| last.min(committed) + bus::revocation_bound();
        let of = |(process, heard): (&Process, &Heard)| {
            let Process { node, boot } = process.clone();
            let former = heard.succeeded.map(|at| Witness { node: node.clone(), boot: None, over: over(at) });
            [Some(Witness { node, boot: Some(boot), over: over(heard.last) }), former].into_iter().flatten()
        };
        self.0.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn beat(boot: &str, alone: bool) -> Heartbeat {
        Heartbeat { boot: boot.to_owned(), round: 1, alone, level: 1 }
    }

    fn named(witnesses: &[Witness]) -> Vec<(&str, Option<&str>, Instant)> {
        witnesses.iter().map(|w| (w.node.as_str(), w.boot.as_deref(), w.over)).collect()
    }

    #[test]
    fn a_witness_is_over_when_its_last_heartbeat_is_as_old_as_the_bound() {
        let start = Instant::now();
        let mut roster = Roster::default();
        roster.heard("homer", &beat("h", true), start);
        roster.heard("magnus", &beat("m", true), start + 20 * SECOND);
        let committed = start + 15 * SECOND;
        let bound = bus::revocation_bound();
        // A heartbeat that came after the commit proves nothing old.
        let expected = [("homer", Some("h"), start + bound), ("magnus", Some("m"), committed + bound)];
        assert_eq!(named(&roster.witnesses(committed)), expected);
    }

    #[test]
    fn who_ran_before_counts_from_when_its_successor_was_heard_of() {
        let start = Instant::now();
        let mut roster = Roster::default();
        let own = Process { node: "homer".to_owned(), boot: "new".to_owned() };
        assert!(roster.alone(&own, start), "nobody ever ran there");
        roster.heard("homer", &beat("old", true), start);
        assert!(!roster.alone(&own, start));
        let (took_over, now) = (start + 5 * SECOND, start + 9 * SECOND);
        roster.heard("homer", &beat("new", false), took_over);
        roster.heard("homer", &beat("new", false), now);
        let bound = bus::revocation_bound();
        let expected = [
            ("homer", Some("new"), now + bound),
            ("homer", None, took_over + bound),
            ("homer", Some("old"), start + bound),
        ];
        assert_eq!(named(&roster.witnesses(now)), expected);
        assert!(!roster.alone(&own, took_over + bound - SECOND) && roster.alone(&own, took_over + bound));
        // A heartbeat on its way for long drives nobody out who was heard of since.
        roster.heard("homer", &beat("old", true), now);
        assert_eq!(named(&roster.witnesses(now)).iter().filter(|(_, boot, _)| *boot == Some("new")).count(), 1);
        let much_later = now + 2 * bound;
        roster.heard("homer", &beat("new", true), much_later);
        assert_eq!(named(&roster.witnesses(much_later)), [("homer", Some("new"), much_later + bound)]);
    }
}
