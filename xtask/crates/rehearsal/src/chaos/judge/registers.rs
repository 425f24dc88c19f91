//! Acknowledged writes must survive: what a register is seen to hold never goes behind one.

use std::collections::{BTreeMap, HashMap};

use super::{about, told};
use crate::chaos::history::{History, Kind, Op, Outcome};
use crate::chaos::verdict::{Rule, Violation};

/// One register: its writes in the order in which its one writer made them, and what was read.
#[derive(Default)]
struct Register<'a> {
    writes: Vec<&'a Op>,
    reads: Vec<&'a Op>,
}

/// A moment at which it is known what a register held.
struct Sight<'a> {
    /// The operation that shows it.
    shown_by: &'a Op,
    /// When: no acknowledged write that was over by then may be missing.
    at_us: u64,
    /// The number of the write whose value it was; none: none of this run.
    held: Option<usize>,
}

/// What is wrong with any register.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut registers: BTreeMap<&str, Register> = BTreeMap::new();
    for op in &history.ops {
        let Some(key) = op.key.as_deref() else { continue };
        match op.kind {
            Kind::Write => registers.entry(key).or_default().writes.push(op),
            Kind::Read if op.ok() => registers.entry(key).or_default().reads.push(op),
            _ => {}
        }
    }
    let last_reads = history.event("reading-back").map_or(u64::MAX, |event| event.at_us);
    registers.into_iter().flat_map(|(key, register)| register.check(key, last_reads)).collect()
}

impl<'a> Register<'a> {
    fn check(mut self, key: &str, last_reads: u64) -> Vec<Violation> {
        self.writes.sort_by_key(|op| op.op);
        let numbers: HashMap<&str, usize> =
            self.writes.iter().enumerate().filter_map(|(number, op)| Some((op.value.as_deref()?, number))).collect();
        let number = |op: &Op| op.value.as_deref().and_then(|value| numbers.get(value).copied());
        let mut found = Vec::new();
        for sight in self.sights(number, last_reads) {
            let mut acknowledged = self.writes.iter().enumerate().filter(|(_, op)| op.ok() && op.end_us <= sight.at_us);
            let Some((newest, write)) = acknowledged.next_back() else { continue };
            if sight.held.is_none_or(|held| held < newest) {
                let holds = match sight.held.and_then(|held| self.writes.get(held)) {
                    Some(older) => format!("holds the older value of operation {}", older.op),
                    None => "holds nothing of this run".to_owned(),
                };
                let (by, shown) = (write.node.as_deref().unwrap_or("?"), sight.shown_by.op);
                let what = format!("register {key}: acknowledged by {by}, and later it {holds} (operation {shown})");
                found.push(about(write, Rule::LostWrite, what));
            }
        }
        for op in &self.reads {
            let Some(written) = number(op).and_then(|number| self.writes.get(number)) else { continue };
            if written.outcome == Outcome::Refused {
                let what = format!("register {key}: {}; but it was read (operation {})", told(written), op.op);
                found.push(about(written, Rule::RefusedWriteSeen, what));
            }
        }
        // Several sights of one loss are one loss.
        found.sort_by_key(|violation| violation.op);
        found.dedup_by(|a, b| a.op == b.op && a.rule == b.rule);
        found
    }

    /// A read may come from a leader that was deposed without knowing it, so while faults go on only a compare-and-set that
    /// was acknowledged shows what it replaced. When all is healed, every read counts.
    fn sights(&self, number: impl Fn(&Op) -> Option<usize>, last_reads: u64) -> Vec<Sight<'a>> {
        let mut at_revision: HashMap<u64, Option<usize>> = HashMap::from([(0, None)]);
        for op in self.writes.iter().filter(|op| op.ok()) {
            if let Some(revision) = op.revision {
                at_revision.insert(revision, number(op));
            }
        }
        // What was read at a revision is the truth about it, whatever an acknowledgement claimed.
        for op in &self.reads {
            if let Some(revision) = op.revision {
                at_revision.insert(revision, number(op));
            }
        }
        let replaced = self.writes.iter().filter(|op| op.ok()).filter_map(|op| {
            let held = *at_revision.get(&op.expected?)?;
            Some(Sight { shown_by: op, at_us: op.begin_us, held })
        });
        let read = self.reads.iter().filter(|op| op.begin_us >= last_reads);
        let read = read.map(|op| Sight { shown_by: op, at_us: op.begin_us, held: number(op) });
        replaced.chain(read).collect()
    }
}
