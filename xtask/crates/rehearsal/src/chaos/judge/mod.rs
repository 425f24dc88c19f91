//! The judge: history and windows in, verdict out. Pure: it asks nobody and reads no clock.

mod contested;
mod conversations;
mod measure;
mod registers;
mod revocations;
#[cfg(test)]
mod tests;

use super::history::{History, Kind, Op};
use super::verdict::{JudgedWindow, Rule, SCHEMA, Verdict, Violation, Window};
use measure::{recovery, tallies, timeline};

/// What is demanded of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// After this time without a quorum nobody may be served.
    pub(crate) bound_us: u64,
    /// So many operations of each steady kind prove something.
    pub(crate) least: usize,
    /// Whether a user must have been disabled, and a member removed from a room, who then tried in vain.
    pub(crate) revokes: bool,
    /// Whether something must have been said in each window with a quorum, in a room that keeps it, and read in the end.
    pub(crate) converses: bool,
    /// Whether no steady operation may fail at all, but for those that others stand in the way of.
    pub(crate) flawless: bool,
}

/// The verdict on a run.
pub(crate) fn judge(history: &History, windows: &[Window], rules: &Rules) -> Verdict {
    let mut whole = Vec::new();
    let mut judged: Vec<JudgedWindow> = windows.iter().map(|window| judge_window(history, window, rules)).collect();
    let begun = windows.first().map_or(0, |window| window.begin_us);
    if let Some(missing) = history.missing() {
        whole.push(violation(Rule::IncompleteHistory, begun, format!("the history is not whole: {missing}")));
    }
    if windows.is_empty() {
        whole.push(violation(Rule::IncompleteHistory, begun, "there is no window: nothing was judged".to_owned()));
    }
    whole.extend(unproven(history, rules).map(|what| violation(Rule::TooLittleLoad, begun, what)));
    let found = [
        registers::check(history),
        contested::check(history, rules.bound_us),
        revocations::check(history),
        conversations::check(history, rules.converses),
    ];
    for violation in found.into_iter().flatten() {
        // Where it happened; what is seen after the last window belongs to the run.
        let at = violation.at_us;
        match judged.iter_mut().find(|judged| (judged.window.begin_us..judged.window.end_us).contains(&at)) {
            Some(window) => window.violations.push(violation),
            None => whole.push(violation),
        }
    }
    let ok = whole.is_empty() && judged.iter().all(|window| window.violations.is_empty());
    Verdict {
        schema: SCHEMA,
        ok,
        bound_ms: rules.bound_us / 1000,
        windows: judged,
        conversations: conversations::counts(history),
        violations: whole,
        timeline: timeline(history, windows),
    }
}

/// Whether enough was done in a window so far to prove something.
pub(crate) fn proves_enough(history: &History, window: &Window, rules: &Rules) -> bool {
    too_little(history, window, rules).is_empty()
}

/// Whether what is demanded about rights that were taken away is proved so far.
pub(crate) fn proves_revocations(history: &History, rules: &Rules) -> bool {
    unproven(history, rules).next().is_none()
}

/// Which right nobody has lost and then tried in vain, where somebody must have.
fn unproven(history: &History, rules: &Rules) -> impl Iterator<Item = String> {
    rules.revokes.then(|| revocations::unproven(history, rules.least)).into_iter().flatten()
}

/// Whether the other nodes serve again, in spite of what is done to some.
pub(crate) fn recovered(history: &History, window: &Window) -> bool {
    recovery(history, window).is_some()
}

fn judge_window(history: &History, window: &Window, rules: &Rules) -> JudgedWindow {
    let mut violations = without_quorum(history, window, rules);
    violations.extend(too_little(history, window, rules));
    if let Some(ill) = &window.ill {
        let what = format!("the cluster was not well again in time: {ill}");
        violations.push(violation(Rule::NotHealed, window.heal_us, what));
    }
    if rules.flawless {
        let failed = begun_in(history, window).filter(|op| Kind::UNCONTESTED.contains(&op.kind) && !op.ok());
        violations.extend(failed.map(|op| about(op, Rule::FailedOperation, format!("{} {}", op.kind, told(op)))));
    }
    JudgedWindow {
        window: window.clone(),
        kinds: tallies(history, window),
        recovery_ms: recovery(history, window),
        violations,
    }
}

/// What began so late that every lease had ended and every kick was done, and was over before the repair began.
fn in_the_dark<'a>(history: &'a History, window: &'a Window, rules: &Rules) -> impl Iterator<Item = &'a Op> {
    let dark_us = window.injected_us.saturating_add(rules.bound_us);
    history.ops.iter().filter(move |op| op.begin_us > dark_us && op.end_us < window.heal_us)
}

fn without_quorum(history: &History, window: &Window, rules: &Rules) -> Vec<Violation> {
    if window.quorum {
        return Vec::new();
    }
    let granted = in_the_dark(history, window, rules).filter(|op| op.ok());
    let say = |op: &Op| {
        let late = op.begin_us.saturating_sub(window.injected_us) / 1000;
        let by = op.node.as_deref().unwrap_or("nobody knows who");
        let what = format!("{} was granted by {by}, {late} ms after the quorum was lost", op.kind);
        about(op, Rule::ServedWithoutQuorum, what)
    };
    granted.map(say).collect()
}

/// A window in which hardly anything was tried proves nothing, however well that went.
fn too_little(history: &History, window: &Window, rules: &Rules) -> Vec<Violation> {
    let mut found = Vec::new();
    for kind in Kind::STEADY {
        let of_kind = |op: &&Op| op.kind == kind;
        let (count, what) = if window.quorum {
            let served = begun_in(history, window).filter(|op| op.ok() && op.begin_us >= window.injected_us);
            (served.filter(of_kind).count(), "acknowledged")
        } else {
            (in_the_dark(history, window, rules).filter(of_kind).count(), "attempted after the bound")
        };
        if count < rules.least {
            let what = format!("{count} of {kind} {what}, {} are needed to prove anything", rules.least);
            found.push(violation(Rule::TooLittleLoad, window.injected_us, what));
        }
    }
    let said = |op: &Op| op.kind == Kind::Say && op.ok() && op.begin_us >= window.injected_us;
    if rules.converses && window.quorum && !begun_in(history, window).any(said) {
        let what = "nothing that was said in a room was acknowledged: nothing is proved".to_owned();
        found.push(violation(Rule::TooLittleLoad, window.injected_us, what));
    }
    found
}

fn begun_in<'a>(history: &'a History, window: &Window) -> impl Iterator<Item = &'a Op> + use<'a> {
    let range = window.begin_us..window.end_us;
    history.ops.iter().filter(move |op| range.contains(&op.begin_us))
}

fn told(op: &Op) -> String {
    let outcome = match op.outcome {
        super::history::Outcome::Ok => "succeeded",
        super::history::Outcome::Refused => "was refused",
        super::history::Outcome::Unknown => "has no known outcome",
    };
    let why = op.why.as_deref().unwrap_or("no reason given");
    format!("{outcome} through {}: {why}", op.tried.join(" and "))
}

fn about(op: &Op, rule: Rule, what: String) -> Violation {
    Violation { rule, op: Some(op.op), at_us: op.begin_us, what }
}

fn violation(rule: Rule, at_us: u64, what: String) -> Violation {
    Violation { rule, op: None, at_us, what }
}
