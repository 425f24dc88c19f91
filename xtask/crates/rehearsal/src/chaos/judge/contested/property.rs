//! Random histories, right and wrong ones: the judge says of each what a search through all orders says.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::tests::{judged, read, write, written};
use super::*;

/// What becomes of an operation.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Acknowledged,
    /// Done and acknowledged, but the answer does not say which revision it made.
    WithoutRevision,
    /// Done, and nobody hears of it.
    Unheard,
    /// Never done, and nobody hears of that.
    NotDone,
    Read,
}

/// What is made wrong in a history; the numbers choose the operation and how.
#[derive(Clone, Copy, Debug)]
enum Twist {
    Nothing,
    /// An operation was at another time.
    Elsewhen(usize, u64),
    /// A read shows another revision.
    OtherRevision(usize, usize),
    /// A write replaced another revision.
    OtherBase(usize, usize),
    /// A second write was acknowledged over the same revision.
    Twice(usize),
    /// A write of unknown outcome, done or not, was acknowledged.
    Claimed(usize),
}

/// An operation, and the revision that it made, would have made, or saw.
#[derive(Clone, Debug)]
struct Entry {
    op: Op,
    revision: u64,
}

/// The register by compare-and-set, as a program that does one thing at a time.
#[derive(Clone)]
struct Reference(u64);

#[derive(Clone, Debug)]
enum Step {
    Swap { expected: u64, revision: u64 },
    Look,
}

impl SequentialSpec for Reference {
    type Op = Step;
    /// The revision that was made or seen; none: refused.
    type Ret = Option<u64>;

    fn invoke(&mut self, op: &Step) -> Option<u64> {
        match op {
            // Revisions grow.
            Step::Swap { expected, revision } if *expected == self.0 && *revision > self.0 => self.0 = *revision,
            Step::Swap { .. } => return None,
            Step::Look => {}
        }
        Some(self.0)
    }
}

/// Whether any order does, by trying them.
fn fits_some_order(entries: &[Entry]) -> bool {
    let mut tester = LinearizabilityTester::new(Reference(0));
    let begins = entries.iter().enumerate().map(|(thread, entry)| (entry.op.begin_us, false, thread));
    let known = entries.iter().enumerate().filter(|(_, entry)| entry.op.ok());
    let ends = known.map(|(thread, entry)| (entry.op.end_us, true, thread));
    // Of what happens at once the beginnings come first: then it overlaps.
    let mut events: Vec<_> = begins.chain(ends).collect();
    events.sort_unstable();
    for (_, is_end, thread) in events {
        let Entry { op, revision } = &entries[thread];
        if is_end {
            tester.on_return(thread, Some(*revision)).unwrap();
        } else {
            let swap = |expected| Step::Swap { expected, revision: *revision };
            tester.on_invoke(thread, op.expected.map_or(Step::Look, swap)).unwrap();
        }
    }
    tester.is_consistent()
}

/// The revisions that somebody saw.
fn seen(entries: &[Entry]) -> BTreeSet<u64> {
    entries.iter().filter_map(|entry| entry.op.revision).collect()
}

/// Whether each write names a revision that somebody saw, as writers do: else there is more than one order.
fn names_what_was_seen(entries: &[Entry]) -> bool {
    let seen = seen(entries);
    entries.iter().filter_map(|entry| entry.op.expected).all(|expected| expected == 0 || seen.contains(&expected))
}

/// A history that a register leaves: one effect after the other, each somewhere within its operation. Who writes over what
/// nobody has seen yet reads it first.
fn legal(fates: &[(Fate, u64, u64)]) -> Vec<Entry> {
    let (mut now, mut content, mut entries) = (0, String::new(), Vec::new());
    for (number, (fate, before, after)) in (1u64..).zip(fates) {
        let effect = 1_000 + number * 10;
        let time = (effect - before, effect + after);
        let (made, new) = (number * 2, format!("content {number}"));
        if now != 0 && !matches!(fate, Fate::Read) && !seen(&entries).contains(&now) {
            entries.push(Entry { op: read(&content, now, (effect - 5, effect - 5)), revision: now });
        }
        let op = match fate {
            Fate::Read if now == 0 => continue,
            Fate::Read => read(&content, now, time),
            Fate::Acknowledged => written(&new, now, made, time),
            Fate::WithoutRevision => write(&new, now, time, Outcome::Ok),
            Fate::Unheard | Fate::NotDone => write(&new, now, time, Outcome::Unknown),
        };
        let revision = match fate {
            Fate::Read => now,
            // One that nobody else will ever make.
            Fate::NotDone => 1_000 + made,
            _ => made,
        };
        if !matches!(fate, Fate::Read | Fate::NotDone) {
            (now, content) = (made, new);
        }
        entries.push(Entry { op, revision });
    }
    entries
}

fn twist(entries: &mut Vec<Entry>, twist: Twist) {
    let writes = |entries: &[Entry], which: fn(&Op) -> bool| -> Vec<usize> {
        (0..entries.len()).filter(|at| entries[*at].op.kind == Kind::ApiWrite && which(&entries[*at].op)).collect()
    };
    let of = |all: &[usize], choice: usize| (!all.is_empty()).then(|| all[choice % all.len()]);
    match twist {
        Twist::Nothing => {}
        Twist::Elsewhen(choice, begin) => {
            let all: Vec<usize> = (0..entries.len()).collect();
            let Some(at) = of(&all, choice) else { return };
            let op = &mut entries[at].op;
            let length = op.end_us - op.begin_us;
            (op.begin_us, op.end_us) = (begin, begin + length);
        }
        Twist::OtherRevision(choice, other) => {
            let reads: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].op.kind == Kind::ApiRead).collect();
            let (Some(at), Some(other)) = (of(&reads, choice), of(&writes(entries, |_| true), other)) else { return };
            let (revision, content) = (entries[other].revision, entries[other].op.value.clone());
            let shown = &mut entries[at];
            (shown.revision, shown.op.revision, shown.op.value) = (revision, Some(revision), content);
        }
        Twist::OtherBase(choice, other) => {
            let all = writes(entries, |_| true);
            let (Some(at), Some(other)) = (of(&all, choice), of(&all, other)) else { return };
            entries[at].op.expected = Some(entries[other].revision);
            if !seen(entries).contains(&entries[at].revision) {
                // It may have made any, above all others.
                entries[at].revision = 10_000 + u64::try_from(at).unwrap();
            }
        }
        Twist::Twice(choice) => {
            let Some(at) = of(&writes(entries, |_| true), choice) else { return };
            let mut second = entries[at].clone();
            second.revision = 5_000;
            (second.op.value, second.op.revision) = (Some("second".to_owned()), Some(5_000));
            second.op.outcome = Outcome::Ok;
            entries.push(second);
        }
        Twist::Claimed(choice) => {
            let Some(at) = of(&writes(entries, |op| !op.ok()), choice) else { return };
            entries[at].op.outcome = Outcome::Ok;
        }
    }
}

fn fates() -> impl Strategy<Value = Vec<(Fate, u64, u64)>> {
    let fate = prop_oneof![
        4 => Just(Fate::Acknowledged),
        1 => Just(Fate::WithoutRevision),
        2 => Just(Fate::Unheard),
        1 => Just(Fate::NotDone),
        5 => Just(Fate::Read),
    ];
    // Long enough to reach over several others, or over none.
    let reach = || prop_oneof![0..5u64, 0..60u64];
    prop::collection::vec((fate, reach(), reach()), 1..9)
}

fn twists() -> impl Strategy<Value = Twist> {
    let at = || 0..16usize;
    prop_oneof![
        Just(Twist::Nothing),
        (at(), 900..1_150u64).prop_map(|(at, begin)| Twist::Elsewhen(at, begin)),
        (at(), at()).prop_map(|(at, other)| Twist::OtherRevision(at, other)),
        (at(), at()).prop_map(|(at, other)| Twist::OtherBase(at, other)),
        at().prop_map(Twist::Twice),
        at().prop_map(Twist::Claimed),
    ]
}

fn ops(entries: &[Entry]) -> Vec<Op> {
    entries.iter().map(|entry| entry.op.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: 10_000, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn what_a_register_did_is_good(fates in fates(), stale_us in 0..100u64) {
        let found = judged(ops(&legal(&fates)), stale_us);
        prop_assert!(found.is_empty(), "{:?}", found);
    }

    #[test]
    fn the_judge_says_what_a_search_through_all_orders_says(fates in fates(), first in twists(), second in twists()) {
        let mut entries = legal(&fates);
        twist(&mut entries, first);
        twist(&mut entries, second);
        prop_assume!(names_what_was_seen(&entries));
        let found = judged(ops(&entries), 0);
        prop_assert_eq!(found.is_empty(), fits_some_order(&entries), "{:?} {:#?}", found, ops(&entries));
    }
}
