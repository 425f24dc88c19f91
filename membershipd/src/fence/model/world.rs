//! What there is: a log that all agree on, writes on their way into it, the processes of one node, and who removes a right.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::rules::{Rule, Rules, Scope};
use crate::fence::{Positions, Process, Progress, RevocationStatus, Roster, Waiting};
use unibus_core::bus::{self, Bucket};
use unibus_core::domain::RevocationOutcome;
use unibus_core::lease::{Delivered, Lease};
use unibus_core::view::Heartbeat;

/// The only bucket that is looked at; all that is said of it holds for each.
pub(super) const BUCKET: Bucket = Bucket::Users;
/// The node whose processes decide.
pub(super) const NODE: &str = "homer";
/// Steps of time: three of them are just longer than the bound, so a lease ends within the third.
const TICK: Duration = Duration::from_millis(4_377);
/// The watchdog and the kill, in steps.
pub(super) const WATCHDOG: u8 = 3;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment.
pub(super) fn at(tick: u8) -> Instant {
    *EPOCH + TICK * u32::from(tick)
}

/// An entry of the log. Its revision is its place, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Entry {
    /// A heartbeat of a process of the node, by its number.
    Beat(Beat),
    /// The user's record: whether he may connect.
    Record { allowed: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Beat {
    pub(super) run: usize,
    pub(super) round: u64,
    pub(super) alone: bool,
}

/// A write on its way. It may land at any time, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Write {
    Beat(Beat),
    /// It gives the right, if the record still has this revision. Whoever sent it does not know what became of it.
    Grant {
        expected: usize,
    },
}

/// A client's connection to the engine of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Connection {
    None,
    /// Decided; the engine has not heard of it yet.
    Admitted,
    Open,
}

/// A process of the node, and its engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Run {
    pub(super) mute_until: Instant,
    pub(super) alive: bool,
    pub(super) frozen: Option<u8>,
    /// How far its watch has come.
    pub(super) seen: usize,
    pub(super) allowed: bool,
    /// Heartbeats that prove nothing yet: round, and when it was sent.
    pub(super) sent: BTreeSet<(u64, u8)>,
    pub(super) rounds: u64,
    pub(super) delivered: Delivered,
    pub(super) lease: Lease,
    pub(super) progress: Progress,
    /// When the kernel ends it.
    pub(super) end: Option<Instant>,
    pub(super) connection: Connection,
    pub(super) recorded: bool,
}

/// How far the removal is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Removal {
    NotBegun,
    Written { revision: u64, committed: Instant },
    Waiting(Waiting),
    Answered { by_all: bool },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now: u8,
    pub(super) log: Vec<Entry>,
    pub(super) flying: BTreeSet<Write>,
    /// The first process, and the one that follows it.
    pub(super) runs: Vec<Run>,
    pub(super) removal: Removal,
    /// What the removing node, which is another one, has seen.
    pub(super) seen: usize,
    pub(super) roster: Roster,
    pub(super) progress: Progress,
    /// What happens once at most.
    pub(super) forgotten: bool,
    pub(super) froze: bool,
    pub(super) reloaded: bool,
}

/// The name of a process in heartbeats and acknowledgements.
pub(super) fn process(rules: Rules, run: usize) -> Process {
    let boot = if rules.keep(Rule::BootId) { run.to_string() } else { "same".to_owned() };
    Process { node: NODE.to_owned(), boot }
}

/// The removing process.
pub(super) fn remover() -> Process {
    Process { node: "magnus".to_owned(), boot: "0".to_owned() }
}

pub(super) fn revision(place: usize) -> u64 {
    u64::try_from(place + 1).unwrap()
}

impl World {
    /// A process that has run for long, with a lease that was proven just now. On their way are a grant of which nobody knows what
    /// becomes of it, or, where processes follow each other, another heartbeat.
    pub(super) fn new(rules: Rules, allowed: bool) -> Self {
        let beat = Beat { run: 0, round: 1, alone: true };
        let log = vec![Entry::Record { allowed }, Entry::Beat(beat)];
        let late = match rules.scope {
            Scope::Connections => Write::Grant { expected: 0 },
            Scope::Successors => Write::Beat(Beat { round: 2, ..beat }),
        };
        let mut world = Self {
            now: 0,
            log,
            flying: BTreeSet::from([late]),
            runs: Vec::new(),
            removal: Removal::NotBegun,
            seen: 0,
            roster: Roster::default(),
            progress: Progress::default(),
            forgotten: false,
            froze: false,
            reloaded: false,
        };
        world.start(rules, 2, true);
        world.renew(rules, 0, at(0));
        if rules.scope == Scope::Successors {
            world.runs[0].rounds = 2;
            world.runs[0].sent.insert((2, 0));
        }
        world.load(rules);
        world
    }

    /// A new process, which finds the first `seen` entries.
    pub(super) fn start(&mut self, rules: Rules, seen: usize, long_ago: bool) -> bool {
        let number = self.runs.len();
        let process = process(rules, number);
        let mute = if rules.keep(Rule::Mute) && !long_ago { bus::AUTHORIZATION_TIMEOUT } else { Duration::ZERO };
        let mut run = Run {
            mute_until: at(self.now) + mute,
            alive: true,
            frozen: None,
            seen,
            allowed: self.record(seen).1,
            sent: BTreeSet::new(),
            rounds: u64::from(long_ago),
            delivered: Delivered::new(process.boot),
            lease: Lease::default(),
            progress: Progress::default(),
            end: None,
            connection: Connection::None,
            recorded: false,
        };
        run.progress.applied(BUCKET, revision(seen) - 1, false);
        self.runs.push(run);
        true
    }

    /// The removing node, just started, reads everything.
    pub(super) fn load(&mut self, rules: Rules) {
        self.seen = self.log.len();
        self.roster = Roster::default();
        if let Some(beat) = self.last_beat(self.seen) {
            hear(rules, &mut self.roster, beat, at(self.now));
        }
        let last = revision(self.seen) - 1;
        self.progress.applied(BUCKET, last, false);
        self.progress.whole(BUCKET, last);
    }

    /// A proof from a round that was sent at `sent`.
    pub(super) fn renew(&mut self, rules: Rules, run: usize, sent: Instant) {
        let run = &mut self.runs[run];
        run.lease.renew(sent);
        if rules.keep(Rule::DeadMan) {
            run.end = run.end.max(Some(sent + bus::LEASE + bus::KICK));
        }
    }

    /// Place of the record among the first `seen` entries, and what it says.
    pub(super) fn record(&self, seen: usize) -> (usize, bool) {
        let found = self.log[..seen].iter().enumerate().rev().find_map(|(place, entry)| match entry {
            Entry::Record { allowed } => Some((place, *allowed)),
            Entry::Beat(_) => None,
        });
        found.unwrap()
    }

    pub(super) fn last_beat(&self, seen: usize) -> Option<Beat> {
        self.log[..seen].iter().rev().find_map(|entry| match entry {
            Entry::Beat(beat) => Some(*beat),
            Entry::Record { .. } => None,
        })
    }

    /// Whether the node has gone over to a later process: its engine is in the cluster, and so this one's is not any more.
    pub(super) fn succeeded(&self, run: usize) -> bool {
        self.runs.iter().skip(run + 1).any(|later| later.rounds > 0)
    }

    /// What follows without anybody having a choice: the removing node goes on as soon as it can.
    pub(super) fn settle(&mut self, rules: Rules) {
        if let Removal::Written { revision, committed } = self.removal {
            let wanted = Positions::of(BUCKET, revision);
            if self.progress.seen_whole().cover(&wanted) || !rules.keep(Rule::WholeView) {
                let witnesses = self.roster.witnesses(committed);
                let mut waiting = Waiting::new(wanted, committed, &remover(), witnesses);
                let own = crate::fence::Acknowledgement { process: remover(), settled: wanted };
                waiting.acknowledged(&own);
                self.removal = Removal::Waiting(waiting);
            }
        }
        if let Removal::Waiting(waiting) = &self.removal {
            match waiting.status(at(self.now)) {
                RevocationStatus::Over(RevocationOutcome::Acknowledged) => {
                    self.removal = Removal::Answered { by_all: true }
                }
                RevocationStatus::Over(RevocationOutcome::WaitedOut) => {
                    self.removal = Removal::Answered { by_all: false }
                }
                RevocationStatus::Open(_) if rules.keep(Rule::Wait) => {}
                RevocationStatus::Open(_) => self.removal = Removal::Answered { by_all: false },
            }
        }
    }
}

/// Notes a heartbeat.
pub(super) fn hear(rules: Rules, roster: &mut Roster, beat: Beat, now: Instant) {
    let alone = beat.alone || !rules.keep(Rule::Formers);
    roster.heard(NODE, &Heartbeat { boot: process(rules, beat.run).boot, round: beat.round, alone, level: 1 }, now);
}
