//! What can happen, in whatever order.

use std::collections::BTreeSet;

use super::rules::{Rule, Rules, Scope};
use super::world::{BUCKET, Beat, Connection, Entry, Removal, WATCHDOG, World, Write, at, hear, process, revision};
use crate::fence::Acknowledgement;
use unibus_core::bus;

/// Bounds of what is looked at: they are wide enough for every rule to be missed, which the tests show.
const LAST_TICK: u8 = 3;
const ROUNDS: [u64; 2] = [2, 1];
/// Entries that are there at the beginning.
const OLD: usize = 2;

/// A step. Numbers of processes are their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Tick,
    SendBeat(usize),
    Land(Write),
    /// A watch delivers the next entry.
    Deliver(usize),
    /// A round of heartbeats is acknowledged and seen, and proves that it is.
    Prove(usize, (u64, u8)),
    Connect(usize),
    /// The engine hears of an admission.
    AllowLands(usize),
    /// The engine's list lacks a connection, which is then not recorded any more.
    Forget(usize),
    /// The engine confirms what the node cuts.
    Cut(usize),
    Freeze(usize),
    Thaw(usize),
    /// The node gets a new process, which finds so many entries. The old one may go on: what it does not do from then on, it would
    /// not have done had it died, but that its engine goes on, too.
    Start {
        seen: usize,
    },
    Remove,
    /// The watch of the removing node delivers the next entry, or passes over one that was replaced.
    Watch {
        passes: bool,
    },
    Reload,
    Acknowledge(usize),
}

impl World {
    /// All that may happen now, some of which has no effect.
    pub(super) fn steps(&self, scope: Scope) -> Vec<Step> {
        let mut steps = vec![Step::Remove, Step::Watch { passes: false }];
        if self.now < LAST_TICK {
            steps.push(Step::Tick);
        }
        // A grant that lands before the removal is no late one.
        let late = |write: &Write| matches!(write, Write::Beat(_)) || self.removal != Removal::NotBegun;
        steps.extend(self.flying.iter().filter(|write| late(write)).map(|write| Step::Land(*write)));
        for (number, run) in self.runs.iter().enumerate().filter(|(_, run)| run.alive) {
            if run.frozen.is_none() {
                steps.extend([Step::SendBeat, Step::Deliver, Step::Acknowledge].map(|step| step(number)));
                steps.extend(run.sent.iter().map(|sent| Step::Prove(number, *sent)));
            }
            if scope == Scope::Connections {
                steps.extend([Step::AllowLands, Step::Thaw].map(|step| step(number)));
                if run.frozen.is_none() {
                    steps.extend([Step::Connect, Step::Forget, Step::Cut, Step::Freeze].map(|step| step(number)));
                }
            }
        }
        if scope == Scope::Successors {
            steps.push(Step::Watch { passes: true });
            let answered = matches!(self.removal, Removal::Answered { .. });
            match self.runs.len() {
                // What a process reads at its start may be current, or old.
                1 if answered => {}
                1 => steps.extend(BTreeSet::from([OLD, self.log.len()]).into_iter().map(|seen| Step::Start { seen })),
                _ => steps.push(Step::Reload),
            }
        }
        steps
    }

    /// Whether the step did anything.
    pub(super) fn take(&mut self, rules: Rules, step: Step) -> bool {
        let done = match step {
            Step::Tick => self.tick(rules),
            Step::SendBeat(run) => self.send_beat(run),
            Step::Land(write) => self.land(rules, write),
            Step::Deliver(run) => self.deliver(rules, run),
            Step::Prove(run, sent) => self.prove(rules, run, sent),
            Step::Connect(run) => self.connect(rules, run),
            Step::AllowLands(run) => self.allow_lands(run),
            Step::Forget(run) => self.forget(run),
            Step::Cut(run) => self.cut(rules, run),
            Step::Freeze(run) => self.freeze(run),
            Step::Thaw(run) => self.runs[run].frozen.take().is_some(),
            Step::Start { seen } => self.start(rules, seen, false),
            Step::Remove => self.remove(rules),
            Step::Watch { passes } => self.watch(rules, passes),
            Step::Reload => self.reload(rules),
            Step::Acknowledge(run) => self.acknowledge(rules, run),
        };
        self.settle(rules);
        done
    }

    fn tick(&mut self, rules: Rules) -> bool {
        self.now += 1;
        let now = at(self.now);
        for number in 0..self.runs.len() {
            self.in_time(rules, number);
            let run = &mut self.runs[number];
            let silent = run.frozen.is_some_and(|since| self.now >= since + WATCHDOG);
            if silent || run.end.is_some_and(|end| now >= end) {
                run.alive = false;
                run.connection = Connection::None;
            }
        }
        true
    }

    /// What a process that runs has done in its time: it has cut whom it had to, and everybody if its lease has ended; then it need
    /// not be ended itself.
    fn in_time(&mut self, rules: Rules, number: usize) {
        let now = at(self.now);
        let run = &mut self.runs[number];
        // An engine that answers may take its time to confirm a cut, but has been killed at the end of the lease if it has not.
        let unsettled = run.progress.settled() != run.progress.seen();
        if run.frozen.is_none() && unsettled && !run.lease.valid(now) {
            run.connection = Connection::None;
            run.recorded = false;
            (1..=self.log.len()).for_each(|place| run.progress.cut(BUCKET, revision(place) - 1));
        }
        if run.frozen.is_none() && !run.lease.valid(now) {
            run.end = None;
            // What was decided and is recorded nowhere is in no list either.
            if rules.keep(Rule::CutAtItsEnd) && (run.recorded || run.connection == Connection::Open) {
                run.connection = Connection::None;
                run.recorded = false;
            }
        }
    }

    fn send_beat(&mut self, number: usize) -> bool {
        let (now, succeeded) = (self.now, self.succeeded(number));
        let run = &mut self.runs[number];
        if run.rounds >= ROUNDS[number] || succeeded {
            return false;
        }
        run.rounds += 1;
        run.sent.insert((run.rounds, now));
        // It says so when the bound has passed since it began, which is longer than we look.
        self.flying.insert(Write::Beat(Beat { run: number, round: run.rounds, alone: number == 0 }));
        true
    }

    fn land(&mut self, rules: Rules, write: Write) -> bool {
        self.flying.remove(&write);
        match write {
            Write::Beat(beat) => self.log.push(Entry::Beat(beat)),
            Write::Grant { expected } => {
                if self.record(self.log.len()).0 == expected || !rules.keep(Rule::CompareAndSet) {
                    self.log.push(Entry::Record { allowed: true });
                }
            }
        }
        true
    }

    fn deliver(&mut self, rules: Rules, number: usize) -> bool {
        let succeeded = self.succeeded(number);
        let place = self.runs[number].seen;
        let Some(entry) = self.log.get(place).copied().filter(|_| !succeeded) else { return false };
        let run = &mut self.runs[number];
        run.seen += 1;
        let mut cuts = false;
        match entry {
            Entry::Beat(beat) => {
                let boot = process(rules, beat.run).boot;
                for bucket in bus::Bucket::DECIDING {
                    run.delivered.note(bucket, &boot, beat.round);
                }
            }
            Entry::Record { allowed } => {
                let connected = run.connection != Connection::None;
                cuts = connected && !allowed && rules.keep(Rule::CutFirst);
                run.allowed = allowed;
            }
        }
        run.progress.applied(BUCKET, revision(place), cuts);
        true
    }

    fn prove(&mut self, rules: Rules, number: usize, sent: (u64, u8)) -> bool {
        let is = |entry: &Entry| matches!(entry, Entry::Beat(beat) if beat.run == number && beat.round == sent.0);
        let landed = self.log.iter().any(is);
        let run = &mut self.runs[number];
        if !landed || (rules.keep(Rule::OwnWatch) && !run.delivered.whole(sent.0)) {
            // Without the boot id a process takes for its own what another one wrote.
            let taken = !rules.keep(Rule::BootId) && run.delivered.whole(sent.0);
            if !taken {
                return false;
            }
        }
        let cutting = run.progress.settled() != run.progress.seen();
        if cutting && rules.keep(Rule::CutBeforeProof) {
            return false;
        }
        run.sent.remove(&sent);
        let from = if rules.keep(Rule::SentTime) { sent.1 } else { self.now };
        self.renew(rules, number, at(from));
        true
    }

    fn connect(&mut self, rules: Rules, number: usize) -> bool {
        let now = at(self.now);
        let run = &mut self.runs[number];
        let open = run.lease.open(run.mute_until, now).is_ok() || !rules.keep(Rule::Lease);
        if run.connection != Connection::None || !open || !run.allowed {
            return false;
        }
        run.connection = Connection::Admitted;
        run.recorded = rules.keep(Rule::RecordFirst);
        true
    }

    fn allow_lands(&mut self, number: usize) -> bool {
        let run = &mut self.runs[number];
        if run.connection != Connection::Admitted {
            return false;
        }
        run.connection = Connection::Open;
        // Who does not record first does it now.
        run.recorded |= run.frozen.is_none();
        true
    }

    fn forget(&mut self, number: usize) -> bool {
        let run = &mut self.runs[number];
        if self.forgotten || run.connection != Connection::Open {
            return false;
        }
        run.recorded = false;
        self.forgotten = true;
        true
    }

    fn cut(&mut self, rules: Rules, number: usize) -> bool {
        let run = &mut self.runs[number];
        let settled = run.progress.settled().get(BUCKET);
        if settled == revision(run.seen) - 1 {
            return false;
        }
        // A kick reaches connections of which the engine has not heard the verdict, too; its list does not.
        if run.recorded || (rules.keep(Rule::SecondLook) && run.connection == Connection::Open) {
            run.connection = Connection::None;
            run.recorded = false;
        }
        run.progress.cut(BUCKET, settled + 1);
        true
    }

    fn freeze(&mut self, number: usize) -> bool {
        // Whoever serves nobody and does nothing is as good as frozen anyway.
        if self.froze || self.runs[number].connection == Connection::None {
            return false;
        }
        self.froze = true;
        self.runs[number].frozen = Some(self.now);
        true
    }

    fn remove(&mut self, rules: Rules) -> bool {
        let (place, allowed) = self.record(self.log.len());
        // It is a compare-and-set itself: a view that is behind meets a conflict.
        if self.removal != Removal::NotBegun || self.record(self.seen).0 != place {
            return false;
        }
        let mut written = place;
        if allowed || rules.keep(Rule::AlwaysWrite) {
            written = self.log.len();
            self.log.push(Entry::Record { allowed: false });
        }
        self.removal = Removal::Written { revision: revision(written), committed: at(self.now) };
        true
    }

    fn watch(&mut self, rules: Rules, passes: bool) -> bool {
        let place = self.seen;
        let Some(entry) = self.log.get(place).copied() else { return false };
        let rest = &self.log[place + 1..];
        let replaced = rest.iter().any(|later| matches!((entry, later), (Entry::Beat(_), Entry::Beat(_))));
        if passes && !replaced {
            return false;
        }
        self.seen += 1;
        if passes {
            return true;
        }
        if let Entry::Beat(beat) = entry {
            hear(rules, &mut self.roster, beat, at(self.now));
        }
        self.progress.applied(BUCKET, revision(place), false);
        if self.seen == self.log.len() {
            self.progress.whole(BUCKET, revision(place));
        }
        true
    }

    /// The removing node is restarted before it removes anything.
    fn reload(&mut self, rules: Rules) -> bool {
        if self.reloaded || self.runs.len() == 1 || self.removal != Removal::NotBegun {
            return false;
        }
        self.reloaded = true;
        self.load(rules);
        true
    }

    fn acknowledge(&mut self, rules: Rules, number: usize) -> bool {
        let Removal::Waiting(waiting) = &mut self.removal else { return false };
        let settled = self.runs[number].progress.settled();
        let before = waiting.clone();
        waiting.acknowledged(&Acknowledgement { process: process(rules, number), settled });
        before != *waiting
    }
}
