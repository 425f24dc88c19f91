//! What a run measured: sums, gaps, times to recover, and a timeline.

use std::collections::BTreeMap;

use super::begun_in;
use crate::chaos::history::{History, Kind, Op, Outcome};
use crate::chaos::verdict::{Series, Tally, Timeline, Window};

/// An operation that takes longer waited for something, such as an election or a second node.
const PROMPT_US: u64 = 2_000_000;
/// One step of the timeline.
const STEP_US: u64 = 250_000;

/// The sums of each kind that was tried in the window.
pub(super) fn tallies(history: &History, window: &Window) -> BTreeMap<Kind, Tally> {
    let mut kinds: BTreeMap<Kind, Tally> = BTreeMap::new();
    for op in begun_in(history, window) {
        let tally = kinds.entry(op.kind).or_default();
        tally.attempted += 1;
        match op.outcome {
            Outcome::Ok => tally.acknowledged += 1,
            Outcome::Refused => tally.refused += 1,
            Outcome::Unknown => tally.unknown += 1,
        }
    }
    for kind in Kind::STEADY {
        kinds.entry(kind).or_default().longest_gap_ms = longest_gap_us(history, window, kind) / 1000;
    }
    kinds
}

fn longest_gap_us(history: &History, window: &Window, kind: Kind) -> u64 {
    let range = window.begin_us..=window.end_us;
    let done = history.ops.iter().filter(|op| op.kind == kind && op.ok() && range.contains(&op.end_us));
    let mut times: Vec<u64> = done.map(|op| op.end_us).chain([window.begin_us, window.end_us]).collect();
    times.sort_unstable();
    times.iter().zip(times.iter().skip(1)).map(|(from, to)| to.saturating_sub(*from)).max().unwrap_or(0)
}

/// Until writes and connects succeed promptly again, for good.
pub(super) fn recovery(history: &History, window: &Window) -> Option<u64> {
    if window.nodes.is_empty() {
        return None;
    }
    let kinds = [Kind::Write, Kind::Connect];
    let instants = kinds.map(|kind| recovered(history, window, kind));
    let latest = instants.into_iter().try_fold(0, |latest, instant| Some(latest.max(instant?)))?;
    let origin = if window.quorum { window.begin_us } else { window.heal_us };
    Some(latest.saturating_sub(origin) / 1000)
}

/// From when on operations of this kind succeed promptly. With a quorum those count that went only through other nodes than
/// the faulty ones; without one, all of them after the repair began.
fn recovered(history: &History, window: &Window, kind: Kind) -> Option<u64> {
    let spared = |op: &&Op| !op.tried.iter().any(|node| window.nodes.contains(node));
    let (from, to) = (if window.quorum { window.begin_us } else { window.heal_us }, window.end_us);
    let mut ops: Vec<&Op> = history
        .ops
        .iter()
        .filter(|op| op.kind == kind && (from..to).contains(&op.begin_us))
        .filter(|op| !window.quorum || spared(op))
        .collect();
    ops.sort_by_key(|op| op.begin_us);
    let trouble = |op: &Op| !op.ok() || op.end_us.saturating_sub(op.begin_us) > PROMPT_US;
    let Some(last) = ops.iter().rposition(|op| trouble(op)) else {
        return (!ops.is_empty()).then_some(from);
    };
    ops.iter().skip(last).filter(|op| op.ok()).map(|op| op.end_us).min()
}

/// Operations by the step in which they ended.
pub(super) fn timeline(history: &History, windows: &[Window]) -> Timeline {
    let origin_us = windows.first().map_or(0, |window| window.begin_us);
    let end_us = windows.last().map_or(origin_us, |window| window.end_us);
    let steps = usize::try_from(end_us.saturating_sub(origin_us) / STEP_US + 1).unwrap_or(usize::MAX);
    let mut kinds: BTreeMap<Kind, Series> = BTreeMap::new();
    for op in history.ops.iter().filter(|op| (origin_us..=end_us).contains(&op.end_us)) {
        let series = kinds.entry(op.kind).or_insert_with(|| Series {
            ok: vec![0; steps],
            refused: vec![0; steps],
            unknown: vec![0; steps],
            conflict: vec![0; steps],
        });
        let counts = match op.outcome {
            Outcome::Ok => &mut series.ok,
            Outcome::Refused if op.is_expected_conflict() => &mut series.conflict,
            Outcome::Refused => &mut series.refused,
            Outcome::Unknown => &mut series.unknown,
        };
        let step = usize::try_from(op.end_us.saturating_sub(origin_us) / STEP_US).unwrap_or(usize::MAX);
        if let Some(count) = counts.get_mut(step) {
            *count += 1;
        }
    }
    Timeline { origin_us, step_us: STEP_US, kinds }
}
