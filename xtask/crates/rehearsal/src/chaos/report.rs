//! A verdict as people read it.

use std::fmt::Write as _;
use std::time::Duration;

use super::history::Kind;
use super::verdict::{JudgedWindow, Verdict};
use unibus_ops::ui::{Cell, Style, Table, Tone, took};

/// More violations of one window than this say nothing new.
const SHOWN: usize = 5;

/// The table, and what is wrong.
pub(crate) fn text(verdict: &Verdict, style: Style) -> String {
    let head = [
        "window",
        "nodes",
        "took",
        "writes",
        "connects",
        "messages",
        "api writes",
        "said",
        "removals",
        "not done",
        "unknown",
        "recovered",
        "longest gap",
        "",
    ];
    let mut table = Table::new(&head);
    for window in &verdict.windows {
        table.row(row(window));
    }
    let mut out = table.render(style);
    for of in &verdict.conversations {
        // The least that anybody has read is what all of them have.
        let (readers, read) = (of.readers.len(), of.readers.values().min().copied().unwrap_or_default());
        let doubt = of.unknown;
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}: {} messages acknowledged, {doubt} of unknown outcome; {readers} members each read {read} or more, {} readings in all",
            of.room, of.acknowledged, of.readings
        );
    }
    out.push_str(&violations(verdict, style));
    out
}

/// What is wrong, a line each.
pub(crate) fn violations(verdict: &Verdict, style: Style) -> String {
    let mut out = String::new();
    let mut omitted: usize = 0;
    let mut shown: Vec<(&str, usize)> = Vec::new();
    for (window, violation) in verdict.all_violations() {
        let count = match shown.iter_mut().find(|(name, _)| *name == window) {
            Some((_, count)) => count,
            None => {
                shown.push((window, 0));
                let Some((_, count)) = shown.last_mut() else { continue };
                count
            }
        };
        *count += 1;
        if *count > SHOWN {
            omitted += 1;
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}: {}", style.paint(Tone::Bad, window), violation.what);
    }
    if omitted > 0 {
        let _ = writeln!(out, "and {omitted} more; --json lists all");
    }
    out
}

fn row(judged: &JudgedWindow) -> Vec<Cell> {
    let window = &judged.window;
    let tally = |kind: Kind| judged.kinds.get(&kind).copied().unwrap_or_default();
    let done = |kind: Kind| Cell::from(format!("{}/{}", tally(kind).acknowledged, tally(kind).attempted));
    let sum =
        |of: fn(&super::verdict::Tally) -> usize| Kind::UNCONTESTED.iter().map(|&kind| of(&tally(kind))).sum::<usize>();
    let gaps = Kind::STEADY.map(|kind| format!("{:.1}", seconds(tally(kind).longest_gap_ms)));
    let good = judged.violations.is_empty();
    vec![
        Cell::toned(Tone::Bold, window.fault.as_str()),
        if window.nodes.is_empty() { "-".into() } else { window.nodes.join(" ").into() },
        took(Duration::from_micros(window.end_us.saturating_sub(window.begin_us))).into(),
        done(Kind::Write),
        done(Kind::Connect),
        done(Kind::Message),
        done(Kind::ApiWrite),
        done(Kind::Say),
        done(Kind::Removal),
        sum(|tally| tally.refused).to_string().into(),
        sum(|tally| tally.unknown).to_string().into(),
        match judged.recovery_ms {
            _ if window.nodes.is_empty() => "-".into(),
            Some(ms) => format!("{:.1} s", seconds(ms)).into(),
            None => Cell::toned(Tone::Warn, "not seen"),
        },
        format!("{} s", gaps.join(" / ")).into(),
        Cell::judged(good, if good { "ok".to_owned() } else { format!("{} violations", judged.violations.len()) }),
    ]
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}
