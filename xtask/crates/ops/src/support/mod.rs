//! What an operator gives to those who help with a cluster: a text about it without keys, names of members, or what they say.

mod redact;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use self::redact::LEFT_OUT;
use crate::answer;
use crate::doctor;
use crate::install_dir::CLUSTER_ENV;
use crate::operations;
use crate::overview::overview;
use crate::paths::Paths;
use crate::staging::UNIT;
use crate::target::Target;
use crate::ui::Style;
use crate::verify::{Answer, unix_ms};

/// What is in it, in the order in which it comes: shown before anything is written.
pub const CONTENTS: [(&str, &str); 8] = [
    ("versions", "of xtask, its commit, this machine's kernel; those of daemons and engines"),
    ("doctor", "what this machine lacks for a deployment; it names paths of this machine"),
    ("status", "the screen of `status`, with node names"),
    ("verify", "its checks, and of each node's posture what is listed in xtask/crates/ops/src/support/redact.rs"),
    (
        "settings",
        "each node's cluster.env: names, addresses, ports; of settings that are not on the list the name alone",
    ),
    (
        "log",
        "the last 200 lines of each node's log: time, level, part, and plain words; users' names, keys, addresses and quotes left out",
    ),
    ("operations", "the last 20 runs of verbs: by which operator, when, what came of them"),
    ("stage", "the plan of `stage`, with hashes of what is no secret"),
];

/// Lines of each log.
const LINES: &str = "200";
const WITHIN: Duration = Duration::from_secs(40);
/// A secret is no shorter; what is would be found in any text.
const SECRET: usize = 16;

#[derive(Deserialize)]
struct Users {
    users: Vec<User>,
}

#[derive(Deserialize)]
struct User {
    handle: String,
}

/// The text. `plan` is what `stage --json` said, or why there is none.
pub fn text(target: &Target, paths: &Paths, topology: &Path, plan: &str) -> Result<String> {
    let (checks, answers) = target.verify();
    let names = names(target);
    let mut out = String::new();
    let mut section = |name: &str, text: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "== {name} ==\n{}\n", text.trim_end());
    };
    section("versions", &versions(&answers));
    let here = doctor::this_machine(paths, topology);
    let here =
        here.map_or_else(|error| format!("{error:#}"), |checks| doctor::of_this_machine(&checks, Style::plain()));
    section("doctor", &here);
    // Of a damaged history the screen names the room.
    let screen = if answers.iter().flat_map(|answer| &answer.posture).any(|posture| !posture.damaged.is_empty()) {
        format!("{LEFT_OUT} (it names rooms whose history is damaged; their number is below)")
    } else {
        overview(&target.expected, &answers, unix_ms(), Style::plain()).text
    };
    section("status", &screen);
    let judged = json!({
        "checks": checks.iter().map(redact::check).collect::<Vec<_>>(),
        "nodes": answers.iter().map(|answer| match &answer.posture {
            Ok(posture) => redact::posture(posture),
            Err(why) => json!({ "node": answer.node, "error": why.to_string() }),
        }).collect::<Vec<_>>(),
    });
    section("verify", &serde_json::to_string_pretty(&judged).context("writing JSON")?);
    section("settings", &from_each(target, &["cat", "--", CLUSTER_ENV], &|text| redact::settings(text)));
    let log: &[&str] = match target.install_dir() {
        Some(_) => &["journalctl", "--unit", UNIT, "--lines", LINES, "--output", "cat", "--quiet", "--no-pager"],
        None => &["tail", "-n", LINES, "log"],
    };
    let redacted = |text: &str| {
        text.lines().map(|line| format!("{}\n", redact::log_line(line, names.as_ref()))).collect::<String>()
    };
    section("log", &from_each(target, log, &redacted));
    let (all, _) = operations::read(target);
    let last = all.get(all.len().saturating_sub(20)..).unwrap_or_default();
    section("operations", &operations::table(last, Style::plain()));
    section("stage", plan);
    Ok(out)
}

fn versions(answers: &[Answer]) -> String {
    let system = rustix::system::uname();
    let (kernel, release) = (system.sysname().to_string_lossy(), system.release().to_string_lossy());
    let commit = crate::plan::commit_here().unwrap_or_else(|| "unknown".to_owned());
    let mut text = format!("xtask {} at {commit} on {kernel} {release}\n", env!("CARGO_PKG_VERSION"));
    for answer in answers {
        let told = match &answer.posture {
            Ok(posture) => {
                let engine = posture.engine.as_ref().map_or("none", |engine| engine.version.as_str());
                format!("membershipd {}, engine {engine}", posture.version)
            }
            Err(_) => "no answer".to_owned(),
        };
        let _ = writeln!(text, "{}: {told}", answer.node);
    }
    text
}

/// What each node says, made fit to be shown.
fn from_each(target: &Target, argv: &[&str], fit: &dyn Fn(&str) -> String) -> String {
    let transport = target.transport.as_ref();
    let said: Vec<(String, Result<String, String>)> = thread::scope(|scope| {
        let asking = target.nodes().iter().map(|node| {
            scope.spawn(move || match transport.run(node, argv, b"", WITHIN) {
                Ok(output) if output.ok() => (node.clone(), Ok(String::from_utf8_lossy(&output.stdout).into_owned())),
                Ok(output) => (node.clone(), Err(output.reason())),
                Err(failure) => (node.clone(), Err(failure.why())),
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().filter_map(|one| one.join().ok()).collect()
    });
    let shown = said.into_iter().map(|(node, said)| match said {
        Ok(text) => format!("-- {node}\n{}", fit(&text)),
        Err(why) => format!("-- {node}: not read: {why}\n"),
    });
    shown.collect()
}

/// The names of all users, by the word of the first node that can say; none: no node can.
fn names(target: &Target) -> Option<BTreeSet<String>> {
    let argv = ["./membershipd", "user", "list", "--json", "--runtime-dir", target.runtime_dir.as_str()];
    target.nodes().iter().find_map(|node| {
        let output = target.transport.run(node, &argv, b"", WITHIN).ok().filter(crate::process::Output::ok)?;
        let users: Users = answer::read(&output.stdout).ok()?;
        Some(users.users.into_iter().map(|user| user.handle).collect())
    })
}

/// Fails where a secret of this machine is in `text`: the lists above are what keeps them out, and this is how a mistake in one is
/// noticed before anything leaves.
pub fn refuse_secrets(text: &str, dirs: &[PathBuf]) -> Result<()> {
    for dir in dirs {
        for file in private_files(dir)? {
            let secret = fs::read(&file).with_context(|| format!("reading {}", Paths::shown(&file)))?;
            let secret = String::from_utf8_lossy(&secret);
            let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SECRET && !line.starts_with("-----"));
            if lines.into_iter().any(|line| text.contains(line)) {
                bail!(
                    "nothing was written: what is in {} would have been in it, which is a mistake of this program; please tell \
                     its maintainers, without that file",
                    Paths::shown(&file)
                );
            }
        }
    }
    Ok(())
}

/// Files below `dir` that hold a secret: by their name, as everything that is no certificate, setting or address.
fn private_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return Ok(found) };
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", Paths::shown(dir)))?;
        let (path, kind) = (entry.path(), entry.file_type().context("looking at a file")?);
        let secret = ["key", "nk", "pass"].iter().any(|end| path.extension().is_some_and(|name| name == *end));
        if kind.is_dir() {
            found.extend(private_files(&path)?);
        } else if kind.is_file() && secret {
            found.push(path);
        }
    }
    Ok(found)
}

/// What a bundle of a local cluster says in the place of a plan.
pub fn no_plan(why: &str) -> String {
    format!("{LEFT_OUT} ({why})")
}

/// As JSON for programs: where it is, and what is in it.
pub fn told(file: &Path, bytes: usize) -> Value {
    json!({ "schema": 1, "file": Paths::shown(file), "bytes": bytes, "contents": CONTENTS.map(|(name, _)| name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_of_this_machine_is_found_wherever_it_lies() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("secrets/test/a");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("control.nk"), "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n").unwrap();
        fs::write(dir.path().join("ca.key"), "-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0B\n").unwrap();
        fs::write(dir.path().join("ca.crt"), "shown to all who ask\n").unwrap();
        let dirs = [dir.path().to_path_buf()];
        refuse_secrets("-----BEGIN PRIVATE KEY-----\nshown to all who ask", &dirs).unwrap();
        for text in ["x MIIBVQIBADANBgkqhkiG9w0B", "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"] {
            assert!(refuse_secrets(text, &dirs).unwrap_err().to_string().contains("nothing was written"), "{text}");
        }
    }
}
