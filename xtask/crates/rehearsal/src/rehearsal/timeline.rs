//! What clients noticed while the cluster was broken, as a picture: a lane for each kind of operation, a band for each fault.

use std::fmt::Write as _;

use super::report::escape;
use crate::chaos::{Kind, Series, Verdict};

const WIDTH: f64 = 1100.0;
/// Room for the names of the lanes.
const LEFT: f64 = 80.0;
const LANE: f64 = 44.0;
const GAP: f64 = 12.0;
/// A row of labels; there are two, so that neighbours do not run into each other.
const LABEL: f64 = 14.0;
const LABELS: f64 = 2.0 * LABEL + 6.0;
/// The marks of the axis are so many seconds apart, the first that gives no more than 15 of them.
const TICKS: [f64; 6] = [5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// The picture, with what it shows in a sentence.
pub(super) fn html(title: &str, verdict: &Verdict) -> String {
    let timeline = &verdict.timeline;
    let columns = timeline.kinds.values().map(Series::len).max().unwrap_or(0);
    let step = seconds(timeline.step_us);
    let whole = (count(columns) * step).max(1.0);
    let x = |at: f64| LEFT + at.clamp(0.0, whole) / whole * (WIDTH - LEFT);
    let mut top = LABELS;
    let mut lanes = String::new();
    for kind in Kind::STEADY {
        let Some(series) = timeline.kinds.get(&kind) else { continue };
        // Writing to a String cannot fail, here and below.
        let name = format!("{kind}s").replace('_', " ");
        let _ = writeln!(lanes, "<text x=\"0\" y=\"{:.1}\">{name}</text>", top + LANE / 2.0);
        lanes.push_str(&lane(series, top, step, &x));
        top += LANE + GAP;
    }
    let mut bands = String::new();
    for (index, window) in
        verdict.windows.iter().map(|judged| &judged.window).filter(|window| !window.nodes.is_empty()).enumerate()
    {
        let at = |us: u64| x(seconds(us.saturating_sub(timeline.origin_us)));
        let (from, to) = (at(window.begin_us), at(window.end_us));
        let row = if index.is_multiple_of(2) { LABEL } else { 2.0 * LABEL };
        let class = if window.quorum { "band" } else { "band lost" };
        let label = escape(&format!("{} {}", window.fault, window.nodes.join(" ")));
        let _ = writeln!(
            bands,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{LABELS}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text x=\"{from:.1}\" y=\"{row:.1}\">{label}</text>",
            (to - from).max(1.0),
            (top - LABELS - GAP).max(0.0),
        );
    }
    format!(
        "<h2>{}</h2>\n<p>Operations by the {step:.1} s they ended in: <b class=\"ok\">acknowledged</b>, \
         <b class=\"unknown\">unknown</b>, <b class=\"refused\">refused</b>, \
         <b class=\"conflict\">conflict</b>: another write of the same record came first, as it must. Grey: a fault and its repair; dark: no quorum, \
         so everything must be refused.</p>\n<svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">\n{bands}{lanes}{}</svg>\n",
        escape(title),
        top + LABEL,
        axis(whole, top, &x)
    )
}

fn lane(series: &Series, top: f64, step: f64, x: &dyn Fn(f64) -> f64) -> String {
    let mut out = String::new();
    let most = series.iter().map(|outcomes| outcomes.iter().sum::<u32>()).max().unwrap_or(0).max(1);
    let mut from = 0.0;
    for [ok, refused, unknown, conflict] in series.iter() {
        let mut bottom = top + LANE;
        for (many, class) in [(ok, "ok"), (conflict, "conflict"), (unknown, "unknown"), (refused, "refused")] {
            if many == 0 {
                continue;
            }
            let height = LANE * f64::from(many) / f64::from(most);
            bottom -= height;
            let _ = writeln!(
                out,
                "<rect class=\"{class}\" x=\"{:.1}\" y=\"{bottom:.1}\" width=\"{:.1}\" height=\"{height:.1}\">\
                 <title>{from:.1} s: {many} {class}</title></rect>",
                x(from),
                (x(from + step) - x(from) - 0.3).max(0.3)
            );
        }
        from += step;
    }
    out
}

fn axis(whole: f64, top: f64, x: &dyn Fn(f64) -> f64) -> String {
    let every = TICKS.into_iter().find(|every| whole / every <= 15.0).unwrap_or(whole);
    let mut out = String::new();
    let mut at = 0.0;
    while at <= whole {
        let _ = writeln!(
            out,
            "<line class=\"axis\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{LABELS}\" y2=\"{1:.1}\"/>\
             <text class=\"dim\" x=\"{0:.1}\" y=\"{2:.1}\">{at:.0} s</text>",
            x(at),
            top - GAP,
            top + 2.0
        );
        at += every;
    }
    out
}

/// As exact as a picture needs it.
#[expect(clippy::cast_precision_loss, reason = "microseconds of a day are exact")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "nobody draws so many columns")]
fn count(columns: usize) -> f64 {
    columns as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict() -> Verdict {
        serde_json::from_value(serde_json::json!({
            "schema": 1, "ok": true, "bound_ms": 13_130, "violations": [],
            "windows": [{
                "fault": "kill", "nodes": ["<magnus>"], "quorum": true, "begin_us": 3_000_000, "injected_us": 3_000_000,
                "heal_us": 4_000_000, "end_us": 5_000_000, "kinds": {}, "recovery_ms": 800, "violations": []
            }],
            "timeline": { "origin_us": 1_000_000, "step_us": 1_000_000, "kinds": {
                "write": { "ok": [2, 0, 1, 1], "refused": [0, 1, 0, 0], "unknown": [0, 1, 0, 0] },
                "api_write": { "ok": [1], "refused": [0], "unknown": [0], "conflict": [3] }
            } }
        }))
        .unwrap()
    }

    #[test]
    fn a_step_of_time_shows_each_outcome_by_its_share() {
        let html = html("faults", &verdict());
        for part in [
            "0.0 s: 3 conflict",
            "0.0 s: 2 ok",
            "1.0 s: 1 unknown",
            "1.0 s: 1 refused",
            "height=\"44.0\"",
            "height=\"22.0\"",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
    }

    #[test]
    fn a_fault_is_a_labelled_band_where_it_was() {
        let html = html("faults", &verdict());
        assert!(html.contains("kill &lt;magnus&gt;"), "{html}");
        // From the middle to the end of a width of 1020.
        assert!(html.contains("class=\"band\" x=\"590.0\" y=\"34\" width=\"510.0\""), "{html}");
    }

    #[test]
    fn nothing_at_all_is_still_a_picture() {
        let mut verdict = verdict();
        verdict.windows.clear();
        verdict.timeline.kinds.clear();
        assert!(html("faults", &verdict).contains("<svg"));
    }
}
