//! Checks for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::diagnosis::family;
use super::{Answer, Cause, Check, Diagnosis, Failed, State, all_hold};
use crate::posture::Posture;
use crate::ui::{Cell, Style, Table, Tone};

const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Verdict<'a> {
    schema: u32,
    ok: bool,
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
    checks: &'a [Check],
    nodes: Vec<&'a Posture>,
}

/// The verdict as JSON, on one line.
pub fn json(checks: &[Check], diagnosis: &Diagnosis, answers: &[Answer]) -> serde_json::Result<String> {
    let nodes = answers.iter().filter_map(|answer| answer.posture.as_ref().ok()).collect();
    serde_json::to_string(&Verdict { schema: SCHEMA, ok: all_hold(checks), diagnosis, checks, nodes })
}

/// What the cluster is like, in its colour.
pub fn headline(diagnosis: &Diagnosis, style: Style) -> String {
    let tone = match diagnosis.state {
        State::Healthy => Tone::Good,
        State::Degraded => Tone::Warn,
        State::Denied => Tone::Bad,
    };
    style.paint(tone, &diagnosis.headline)
}

/// The headline; each cause with what follows from it and the command to give next; then what holds, one line a check with all its nodes.
pub fn table(checks: &[Check], diagnosis: &Diagnosis, style: Style) -> String {
    let mut out = headline(diagnosis, style) + "\n";
    for cause in &diagnosis.causes {
        out.push_str(&told(cause, style));
    }
    out.push('\n');
    out.push_str(&holding(checks, style));
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
    let failed = checks.iter().filter(|check| !check.ok).count();
    let verdict = if all_hold(checks) {
        style.paint(Tone::Good, &format!("all {} checks hold", checks.len()))
    } else {
        style.paint(Tone::Bad, &format!("{failed} of {} checks failed", checks.len()))
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}

/// A cause, with its consequences folded.
fn told(cause: &Cause, style: Style) -> String {
    let (word, name) = (style.paint(Tone::Bad, "CAUSE"), style.paint(Tone::Bold, &cause.cause));
    let mut out = format!("\n{word} {name}\n");
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "  {name:<7} {text}");
    };
    line("failed", &named(&cause.checks, |id| id));
    for got in &cause.got {
        line("got", got);
    }
    if !cause.consequences.is_empty() {
        line("so", &named(&cause.consequences, family));
    }
    line("next", &cause.next);
    out
}

/// Failed checks by a name made of their ids, each with its nodes: `routes (magnus, datardos), leader (magnus)`.
fn named(failed: &[Failed], name: fn(&str) -> &str) -> String {
    by_name(failed.iter().map(|failed| (name(&failed.id), failed.node.as_str())))
}

/// What holds.
fn holding(checks: &[Check], style: Style) -> String {
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
        let nodes = good.iter().map(|check| shown(&check.node)).collect::<Vec<_>>().join(" ");
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
    table.render(style)
}

/// All failures in one line: each kind of check with its nodes.
pub fn summary(checks: &[Check]) -> String {
    by_name(checks.iter().filter(|check| !check.ok).map(|check| (family(&check.id), check.node.as_str())))
}

fn by_name<'a>(failed: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut kinds: Vec<(&str, Vec<&str>)> = Vec::new();
    for (kind, node) in failed {
        let node = shown(node);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, nodes)) if nodes.contains(&node) => {}
            Some((_, nodes)) => nodes.push(node),
            None => kinds.push((kind, vec![node])),
        }
    }
    kinds.iter().map(|(kind, nodes)| format!("{kind} ({})", nodes.join(", "))).collect::<Vec<_>>().join(", ")
}

/// A node by its name in a sentence.
fn shown(node: &str) -> &str {
    if node == super::CLUSTER { "the cluster" } else { node }
}

/// What is still missing on one node, in a few words.
pub fn missing(checks: &[Check], node: &str) -> String {
    let mut kinds: Vec<&str> = Vec::new();
    for check in checks.iter().filter(|check| !check.ok && check.node == node) {
        let kind = family(&check.id);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() { String::new() } else { format!("waiting for {}", kinds.join(", ")) }
}
