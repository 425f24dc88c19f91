//! How long this clone takes to build, next to the previous release: cold, and after a line was changed.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::previous::Previous;
use unibus_ops::cargo;
use unibus_ops::paths::Paths;
use unibus_ops::shell::shell_in;
use unibus_ops::ui::{Progress, Style, Table, took};

/// What is changed before a build.
#[derive(Clone, Copy)]
enum Change {
    /// Nothing was ever built.
    Cold,
    /// A line in the first of these files that there is.
    Line(&'static [&'static str]),
}

const DOMAIN: Change =
    Change::Line(&["membershipd/crates/core/src/domain/limits.rs", "membershipd/src/domain/limits.rs"]);
const HANDLER: Change = Change::Line(&["membershipd/src/api/rooms.rs"]);
const VERB: Change = Change::Line(&["xtask/src/cmd/verify.rs"]);
const ALL: &[&str] = &["build", "--workspace"];
const DAEMON: &[&str] = &["build", "--package", "membershipd"];
const RELEASE: &[&str] = &["build", "--release", "--package", "membershipd"];
const HELP: &[&str] = &["xtask", "--help"];

/// In this order: what is cold is so for the ones after it, too.
const BUILDS: [(&str, Change, &[&str]); 9] = [
    ("cold: cargo xtask --help", Change::Cold, HELP),
    ("cold: cargo build --workspace", Change::Cold, ALL),
    ("a line in domain: cargo build --workspace", DOMAIN, ALL),
    ("a line in domain: cargo build -p membershipd", DOMAIN, DAEMON),
    ("a line in an API handler: cargo build --workspace", HANDLER, ALL),
    ("a line in a verb: cargo build --workspace", VERB, ALL),
    ("a line in a verb: cargo xtask --help", VERB, HELP),
    ("cold: cargo build --release -p membershipd", Change::Cold, RELEASE),
    ("a line in an API handler: cargo build --release -p membershipd", HANDLER, RELEASE),
];

/// Builds both, step by step and in turns, so that both meet the same machine, and shows the times.
pub(super) fn run(paths: &Paths, progress: &Progress) -> Result<()> {
    let place = paths.build().join("prove-builds");
    let previous = Previous::load(&paths.previous())?;
    let this = Previous { version: "this".to_owned(), commit: "HEAD".to_owned() };
    let trees = [&previous, &this].map(|release| place.join(&release.version));
    let line = progress.line("builds");
    clear(&place)?;
    for (release, tree) in [&previous, &this].into_iter().zip(&trees) {
        release.unpack(paths, tree)?;
    }
    let mut table = Table::new(&["build", &previous.version, "this clone", "ratio"]);
    for (name, change, words) in BUILDS {
        let mut times = Vec::new();
        for tree in &trees {
            line.set(format!("{name} in {}", Paths::shown(tree)));
            times.push(build(tree, change, words, &line)?);
        }
        let ratio = times.last().zip(times.first()).map_or(0.0, |(now, then)| now.as_secs_f64() / then.as_secs_f64());
        let seconds = times.iter().map(|time| took(*time).into());
        table.row([name.into()].into_iter().chain(seconds).chain([format!("{ratio:.2}").into()]).collect());
    }
    line.done("measured");
    clear(&place)?;
    out!("\n{}", table.render(Style::stdout()));
    Ok(())
}

fn build(tree: &Path, change: Change, words: &[&str], line: &unibus_ops::ui::Line) -> Result<Duration> {
    let target = tree.join("target");
    match change {
        Change::Cold => clear(&target)?,
        Change::Line(files) => {
            let files: Vec<PathBuf> = files.iter().map(|file| tree.join(file)).collect();
            let file = files.iter().find(|file| file.is_file()).context("the file to change is not where it was")?;
            let shown = Paths::shown(file);
            let open = fs::OpenOptions::new().append(true).open(file);
            open.and_then(|mut file| file.write_all(b"// One more line.\n"))
                .with_context(|| format!("writing {shown}"))?;
        }
    }
    let shell = shell_in(tree)?;
    let command = cargo::cargo(&shell).args(words).env("CARGO_TARGET_DIR", &target).env_remove("UNIBUS_ROOT");
    let begun = Instant::now();
    cargo::run(command, line)?;
    Ok(begun.elapsed())
}

fn clear(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", Paths::shown(dir)))
        }
        _ => Ok(()),
    }
}
