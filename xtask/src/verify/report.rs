//! Checks for people and for programs.

use serde::Serialize;

use super::{Answer, Check, all_hold};
use crate::posture::Posture;
use crate::ui::{Cell, Style, Table, Tone};

const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Verdict<'a> {
    schema: u32,
    ok: bool,
    checks: &'a [Check],
    nodes: Vec<&'a Posture>,
}

/// The verdict as JSON, on one line.
pub(crate) fn json(checks: &[Check], answers: &[Answer]) -> serde_json::Result<String> {
    let nodes = answers.iter().filter_map(|answer| answer.posture.as_ref().ok()).collect();
    serde_json::to_string(&Verdict { schema: SCHEMA, ok: all_hold(checks), checks, nodes })
}

/// What holds, one line a check with all its nodes; then every failure with its remedy, where the eye ends up.
pub(crate) fn table(checks: &[Check], style: Style) -> String {
    let mut table = Table::new(&["check", "", "nodes", "is"]);
    let mut ids: Vec<&str> = Vec::new();
    for check in checks {
        if !ids.contains(&check.id.as_str()) {
            ids.push(&check.id);
        }
    }
    for id in ids {
        let of_id = || checks.iter().filter(|check| check.id == id);
        let good: Vec<&Check> = of_id().filter(|check| check.ok).collect();
        let Some(first) = good.first() else { continue };
        let nodes = good.iter().map(|check| node(check)).collect::<Vec<_>>().join(" ");
        let same = good.iter().all(|check| check.got == first.got);
        let got = if same {
            first.got.clone()
        } else if id == "routes" {
            "to every other node".to_owned()
        } else {
            good.iter().map(|check| check.got.as_str()).collect::<Vec<_>>().join("; ")
        };
        table.row(vec![id.into(), Cell::toned(Tone::Good, "ok"), nodes.into(), got.into()]);
    }
    let mut out = table.render(style);
    for check in checks.iter().filter(|check| !check.ok) {
        let failed = style.paint(Tone::Bad, "FAILED");
        out.push_str(&format!("\n{failed} {} on {}\n", style.paint(Tone::Bold, &check.id), node(check)));
        out.push_str(&format!("  want    {}\n  got     {}\n  remedy  {}\n", check.want, check.got, check.remedy));
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    let verdict = if all_hold(checks) {
        style.paint(Tone::Good, &format!("all {} checks hold", checks.len()))
    } else {
        style.paint(Tone::Bad, &format!("{failed} of {} checks failed", checks.len()))
    };
    out.push_str(&format!("\n{verdict}\n"));
    out
}

fn node(check: &Check) -> &str {
    if check.node == super::CLUSTER { "the cluster" } else { &check.node }
}

/// What is still missing on one node, in a few words.
pub(crate) fn missing(checks: &[Check], node: &str) -> String {
    let ids: Vec<&str> =
        checks.iter().filter(|check| !check.ok && check.node == node).map(|check| check.id.as_str()).collect();
    if ids.is_empty() { String::new() } else { format!("waiting for {}", ids.join(", ")) }
}
