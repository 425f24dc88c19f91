//! Checks for people and for programs.

use std::fmt::Write as _;

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
pub fn json(checks: &[Check], answers: &[Answer]) -> serde_json::Result<String> {
    let nodes = answers.iter().filter_map(|answer| answer.posture.as_ref().ok()).collect();
    serde_json::to_string(&Verdict { schema: SCHEMA, ok: all_hold(checks), checks, nodes })
}

/// What holds, one line a check with all its nodes; then every failure with its remedy, where the eye ends up.
pub fn table(checks: &[Check], style: Style) -> String {
    let mut table = Table::new(&["check", "", "nodes", "is"]);
    let mut ids: Vec<&str> = Vec::new();
    for check in checks {
        if !ids.contains(&check.id.as_str()) {
            ids.push(&check.id);
        }
    }
    for id in ids {
        let of_id = || checks.iter().filter(|check| check.id == id);
        let good: Vec<&Check> = of_id().filter(|check| check.ok && !check.warns && !check.informs).collect();
        let Some(first) = good.first() else { continue };
        let nodes = good.iter().map(|check| node(check)).collect::<Vec<_>>().join(" ");
        let same = good.iter().all(|check| check.got == first.got);
        let got = if same {
            first.got.clone()
        } else if id == "routes" {
            "to every other node".to_owned()
        } else {
            // The least of what differs: of dates, the one that comes first.
            format!("{} …", good.iter().map(|check| check.got.as_str()).min().unwrap_or_default())
        };
        table.row(vec![id.into(), Cell::toned(Tone::Good, "ok"), nodes.into(), got.into()]);
    }
    let mut out = table.render(style);
    for Check { id, got, remedy, .. } in checks.iter().filter(|check| check.warns) {
        let (warning, id) = (style.paint(Tone::Warn, "WARNING"), style.paint(Tone::Bold, id));
        let _ = writeln!(
            out,
            "\n{warning} {id}\n  is      {got}\n  remedy  {remedy}\n  this decides nothing: the cluster is well"
        );
    }
    for Check { id, got, remedy, .. } in checks.iter().filter(|check| check.informs) {
        let (note, id) = (style.paint(Tone::Bold, "note"), style.paint(Tone::Bold, id));
        let _ = writeln!(out, "\n{note} {id}\n  is      {got}\n  next    {remedy}");
    }
    for failure in failures(checks) {
        let failed = style.paint(Tone::Bad, "FAILED");
        let (id, nodes) = (style.paint(Tone::Bold, failure.family), failure.nodes.join(", "));
        let _ = writeln!(out, "\n{failed} {id} on {nodes}");
        if !failure.parts.is_empty() {
            let _ = writeln!(out, "  of      {}", failure.parts.join(", "));
        }
        let Check { want, got, remedy, .. } = failure.first;
        let _ = writeln!(out, "  want    {want}\n  got     {got}\n  remedy  {remedy}");
    }
    let failed = checks.iter().filter(|check| !check.ok).count();
    let verdict = if all_hold(checks) {
        style.paint(Tone::Good, &format!("all {} checks hold", checks.len()))
    } else {
        style.paint(Tone::Bad, &format!("{failed} of {} checks failed", checks.len()))
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}

/// Failures that say the same, of several buckets or on several nodes.
struct Failure<'a> {
    family: &'a str,
    /// What follows the family's name in the checks' ids.
    parts: Vec<&'a str>,
    nodes: Vec<&'a str>,
    first: &'a Check,
}

fn failures(checks: &[Check]) -> Vec<Failure<'_>> {
    let mut found: Vec<Failure<'_>> = Vec::new();
    for check in checks.iter().filter(|check| !check.ok) {
        let (family, part) = family(&check.id);
        let same = found.iter_mut().find(|failure| {
            let first = failure.first;
            failure.family == family
                && (&first.want, &first.got, &first.remedy) == (&check.want, &check.got, &check.remedy)
        });
        let failure = match same {
            Some(failure) => failure,
            None => {
                found.push(Failure { family, parts: Vec::new(), nodes: Vec::new(), first: check });
                let Some(failure) = found.last_mut() else { continue };
                failure
            }
        };
        for (list, word) in [(&mut failure.parts, part), (&mut failure.nodes, Some(node(check)))] {
            if let Some(word) = word
                && !list.contains(&word)
            {
                list.push(word);
            }
        }
    }
    found
}

/// `replicas.UNIBUS_users` is one of the `replicas`.
fn family(id: &str) -> (&str, Option<&str>) {
    id.split_once('.').map_or((id, None), |(family, part)| (family, Some(part)))
}

/// All failures in one line: each kind of check with its nodes.
pub fn summary(checks: &[Check]) -> String {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in checks.iter().filter(|check| !check.ok) {
        let (kind, node) = (family(&check.id).0, node(check));
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, nodes)) if nodes.contains(&node) => {}
            Some((_, nodes)) => nodes.push(node),
            None => kinds.push((kind, vec![node])),
        }
    }
    kinds.iter().map(|(kind, nodes)| format!("{kind} ({})", nodes.join(", "))).collect::<Vec<_>>().join(", ")
}

fn node(check: &Check) -> &str {
    if check.node == super::CLUSTER { "the cluster" } else { &check.node }
}

/// What is still missing on one node, in a few words.
pub fn missing(checks: &[Check], node: &str) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for check in checks.iter().filter(|check| !check.ok && check.node == node) {
        let kind = family(&check.id).0;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() { String::new() } else { format!("waiting for {}", kinds.join(", ")) }
}
