//! A plan for people and as JSON: the very commands that the executor starts.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Effect, Outcome, Probe, State, Step, locking};
use crate::paths::Paths;
use crate::process::Failure;
use crate::transport::{Call, Transport, quote};
use crate::ui::{Style, Tone};

const SCHEMA: u32 = 2;

/// Every step with what it is asked and what it does. A secret's content is nowhere in it.
pub fn print(steps: &[Step], transport: &dyn Transport, style: Style) -> String {
    let mut out = String::new();
    let mut at = None;
    let mut number = 0;
    for step in steps {
        if at != Some((step.wave, &step.node)) {
            if at.is_some_and(|(wave, _)| wave != step.wave) {
                let _ = writeln!(out, "{}", style.paint(Tone::Dim, &between(steps, step)));
            }
            at = Some((step.wave, &step.node));
            let node = step.node.as_str();
            number = 0;
            let place = transport.place(node);
            let _ = writeln!(out, "{}  {}", style.paint(Tone::Bold, node), style.paint(Tone::Dim, &place));
        }
        number += 1;
        let (tone, state) = word(&step.state);
        let state = if state.is_empty() { String::new() } else { format!("  {}", style.paint(tone, state)) };
        let _ = writeln!(out, "{number:>3}. {}: {}{state}", step.id, about(step));
        for line in details(step) {
            let _ = writeln!(out, "       {line}");
        }
    }
    out
}

/// What must have happened before a later wave begins with `step`.
fn between(steps: &[Step], step: &Step) -> String {
    let before = steps.iter().filter(|other| other.wave < step.wave).max_by_key(|other| other.wave);
    if matches!(step.effect, Effect::GiveLock { .. }) {
        "in the end, also if something failed:".to_owned()
    } else if matches!(step.effect, Effect::TakeLock { .. }) {
        "which has forgotten the lock by then:".to_owned()
    } else if before.is_some_and(|before| before.is_lock() && before.id == "lock") {
        let (majority, nodes) = locking::needs(steps);
        format!("when {majority} of these {nodes} have granted the lock:")
    } else {
        "when all of that has ended well:".to_owned()
    }
}

/// How many steps there are; the lock's do not count.
pub fn count(steps: &[Step]) -> usize {
    steps.iter().filter(|step| !step.is_lock()).count()
}

/// One line: how many steps ended in which way.
pub fn summary(outcome: &Outcome) -> String {
    let states = [
        (State::Changed, "changed"),
        (State::WouldChange, "would change"),
        (State::AlreadySo, "already so"),
        (State::NotReached, "not reached"),
    ];
    let counted = states.iter().map(|(state, word)| (outcome.count(state), word)).filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = counted.map(|(count, word)| format!("{count} {word}")).collect();
    let failed = outcome.steps.iter().filter(|step| !step.is_lock() && matches!(step.state, State::Failed(_))).count();
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    format!("{} steps: {}", count(&outcome.steps), parts.join(", "))
}

fn word(state: &State) -> (Tone, &'static str) {
    match state {
        State::Planned => (Tone::Plain, ""),
        State::AlreadySo => (Tone::Dim, "already so"),
        State::WouldChange => (Tone::Warn, "changes"),
        State::Changed => (Tone::Good, "changed"),
        State::Failed(_) => (Tone::Bad, "failed"),
        State::NotReached => (Tone::Dim, "not reached"),
        State::Done => (Tone::Dim, "done"),
        State::Without(_) => (Tone::Warn, "not here"),
    }
}

fn about(step: &Step) -> String {
    match &step.effect {
        Effect::MakeUser { name, .. } => format!("system user {name}"),
        Effect::MakeDirectory { path, owner, mode } => format!("directory {path}, {owner} {mode}"),
        Effect::SyncFiles { to, owner, mode, files } => format!("{} files to {to}/, {owner} {mode}", files.len()),
        Effect::PutFile { path, owner, mode, .. } => match owner {
            Some(owner) => format!("file {path}, {owner} {mode}"),
            None => format!("file {path}, {mode}"),
        },
        Effect::MakeLink { path, to } => format!("link {path} to {to}"),
        Effect::Run { argv, .. } => format!("run {}", shell(argv)),
        Effect::TakeLock { path, verb, wait_seconds, break_foreign, log } => {
            let foreign = match (break_foreign, wait_seconds) {
                (true, _) => "; that of another operator is broken".to_owned(),
                (false, Some(seconds)) => format!("; that of another operator is waited for, {seconds} s at most"),
                (false, None) => String::new(),
            };
            let noted = log.as_ref().map(|log| format!("; noted in {log}")).unwrap_or_default();
            format!("take {path} for '{verb}'{foreign}{noted}")
        }
        Effect::GiveLock { path, .. } => format!("give {path} back"),
    }
}

fn details(step: &Step) -> Vec<String> {
    match (&step.effect, step.call(), step.probe()) {
        (Effect::SyncFiles { files, .. }, ..) => files
            .iter()
            .map(|file| {
                let known = file.sha256.as_ref().map_or_else(|| "secret".to_owned(), |hash| format!("sha256 {hash}"));
                format!("{}  {known}", Paths::shown(&file.from))
            })
            .collect(),
        (Effect::PutFile { content, .. }, ..) => content.lines().map(|line| format!("| {line}")).collect(),
        (Effect::Run { .. }, _, Probe::Asks(unless)) => {
            let unless = format!("unless {}", shell(&unless.argv));
            let explain = step.explain.as_ref().map(|explain| format!("if it fails, why: {}", shell(&explain.argv)));
            std::iter::once(unless).chain(explain).collect()
        }
        (_, Call::Run(argv), _) => vec![shell(&argv)],
        _ => Vec::new(),
    }
}

/// A command as one could type it.
fn shell(argv: &[String]) -> String {
    argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// The plan with all commands that are started. A session with a node starts here, and runs there what asks and what does, for
/// each step; files are sent by a command of their own, which starts here.
pub fn json(steps: &[Step], transport: &dyn Transport, done: bool) -> Result<Value, Failure> {
    let mut sessions = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let first = steps.iter().position(|other| other.node == step.node) == Some(at);
        if let Some(opening) = transport.opening(&step.node)?.filter(|_| first) {
            sessions.push(json!({ "node": step.node, "command": opening.command, "stdin": opening.stdin }));
        }
    }
    let steps = steps.iter().map(|step| of(step, transport)).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "schema": SCHEMA, "done": done, "sessions": sessions, "steps": steps }))
}

fn of(step: &Step, transport: &dyn Transport) -> Result<Value, Failure> {
    let (kind, asks, prints) = match step.probe() {
        Probe::Asks(unless) => ("asks", Call::Run(unless.argv), unless.prints),
        Probe::Compares(argv) => ("compares", Call::Run(argv), None),
        Probe::InTheEffect => ("in_the_effect", step.call(), None),
    };
    let (state, why) = match &step.state {
        State::Failed(why) => (json!("failed"), Some(why)),
        State::Without(why) => (json!("without"), Some(why)),
        other => (json!(other), None),
    };
    Ok(json!({
        "id": step.id,
        "node": step.node,
        "wave": step.wave,
        "explain": step.explain,
        "within_seconds": step.within.map(|limit| limit.as_secs()),
        "effect": step.effect,
        "probe": { "kind": kind, "command": transport.command(&step.node, &asks)?, "prints": prints },
        "command": transport.command(&step.node, &step.call())?,
        "note": step.note().map(|note| transport.command(&step.node, &note)).transpose()?.flatten(),
        "state": state,
        "why": why,
    }))
}
