//! What was taken away is gone when that is acknowledged: of users who are disabled, and of members who are removed.

use super::about;
use crate::chaos::history::{History, Kind, Op};
use crate::chaos::verdict::{Rule, Violation};

/// One way to lose a right.
struct Revocation {
    /// The operation that takes it away; its key names who loses it.
    by: Kind,
    /// What is tried with it, under the same key.
    uses: &'static [Kind],
    rule: Rule,
    /// What was acknowledged, as a violation says it.
    said: &'static str,
    /// Whom there must have been, as the lack of one is said.
    whom: &'static str,
}

const REVOCATIONS: [Revocation; 2] = [
    Revocation {
        by: Kind::Disable,
        uses: &[Kind::VictimMessage, Kind::VictimConnect],
        rule: Rule::DisabledUserServed,
        said: "its disabling",
        whom: "user was disabled",
    },
    Revocation {
        by: Kind::Removal,
        uses: &[Kind::MemberPublish, Kind::MemberReceive, Kind::MemberRead],
        rule: Rule::RemovedMemberServed,
        said: "the removal",
        whom: "member was removed from a room",
    },
];

/// Every use of a right that began after it was acknowledged to be gone.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for revocation in &REVOCATIONS {
        for (whose, at_us) in revocation.acknowledged(history) {
            for op in revocation.later(history, whose, at_us).filter(|op| op.ok()) {
                let (late, by) = (op.begin_us.saturating_sub(at_us) / 1000, op.node.as_deref().unwrap_or("?"));
                let (kind, said) = (op.kind, revocation.said);
                let what = format!("{kind} of {whose} succeeded at {by} {late} ms after {said} was acknowledged");
                found.push(about(op, revocation.rule, what));
            }
        }
    }
    found
}

/// What is missing to prove that rights end, in words: each must have been used, taken away, and tried in vain `least` times,
/// over all its uses.
pub(super) fn unproven(history: &History, least: usize) -> Vec<String> {
    let lacking = REVOCATIONS.iter().filter(|revocation| !revocation.was_tried_in_vain(history, least));
    let say =
        |lacking: &Revocation| format!("no {} who then tried at least {least} times: nothing is proved", lacking.whom);
    lacking.map(say).collect()
}

impl Revocation {
    /// Whose right was acknowledged to be gone, and when.
    fn acknowledged<'a>(&self, history: &'a History) -> impl Iterator<Item = (&'a str, u64)> {
        let done = history.ops.iter().filter(|op| op.kind == self.by && op.ok());
        done.filter_map(|op| Some((op.key.as_deref()?, op.end_us)))
    }

    fn uses_of<'a>(&self, history: &'a History, whose: &'a str) -> impl Iterator<Item = &'a Op> {
        history.ops.iter().filter(move |op| self.uses.contains(&op.kind) && op.key.as_deref() == Some(whose))
    }

    fn later<'a>(&self, history: &'a History, whose: &'a str, at_us: u64) -> impl Iterator<Item = &'a Op> {
        self.uses_of(history, whose).filter(move |op| op.begin_us >= at_us)
    }

    fn was_tried_in_vain(&self, history: &History, least: usize) -> bool {
        self.acknowledged(history).any(|(whose, at_us)| {
            self.uses.iter().all(|kind| {
                // Who was never served proves nothing either.
                let served = self.uses_of(history, whose).any(|op| op.kind == *kind && op.ok());
                let tried = self.later(history, whose, at_us).filter(|op| op.kind == *kind).count();
                served && tried >= least.div_ceil(self.uses.len())
            })
        })
    }
}
