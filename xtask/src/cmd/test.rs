//! `test`: every check there is, in the order in which they fail fastest.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Global;
use crate::cargo;
use crate::paths::Paths;
use crate::ui::{Cell, Progress, Style, Table, took};
use crate::{engine, tools};

/// Format, lints, dependencies, documentation, then all tests with real engines and real clients. What is missing
/// is fetched into deploy/build; nothing is skipped.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Given to `cargo test --workspace` as it is: a name to filter by, or `-- --nocapture`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    filter: Vec<String>,
}

/// What the tests find in their environment, beside what cargo gives them.
const PYTHON_VAR: &str = "UNIBUS_TEST_PYTHON";
const JS_VAR: &str = "UNIBUS_TEST_JS";
const ENGINE_VAR: &str = "UNIBUS_TEST_ENGINE";
const MEMBERSHIPD_VAR: &str = "UNIBUS_TEST_MEMBERSHIPD";
const FAULTS_VAR: &str = "UNIBUS_TEST_MEMBERSHIPD_FAULTS";

/// Tests at once. Those that take long wait for clusters that elect and expire, and hardly compute.
const THREADS: &str = "4";

/// Times of the steps, for the summary.
struct Summary {
    steps: Vec<(&'static str, Duration, bool)>,
    progress: Progress,
}

/// Runs everything; the first failure ends it.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let mut summary = Summary { steps: Vec::new(), progress: Progress::new() };
    let outcome = all(&paths, args, &mut summary);
    let mut table = Table::new(&["step", "", "took"]);
    for (name, time, ok) in &summary.steps {
        table.row(vec![(*name).into(), Cell::judged(*ok, if *ok { "ok" } else { "FAILED" }), took(*time).into()]);
    }
    eprint!("\n{}", table.render(Style::stderr()));
    outcome
}

fn all(paths: &Paths, args: &Args, summary: &mut Summary) -> Result<()> {
    let cargo = |words: &[&str]| {
        let mut command = cargo::cargo(paths);
        command.args(words);
        command
    };
    summary.quiet("format", cargo(&["fmt", "--all", "--check"]))?;
    let lints = ["clippy", "--locked", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    summary.quiet("lints", cargo(&lints))?;
    let deny = summary.step("cargo-deny", |line| tools::cargo_deny(paths, line))?;
    // Also those that only other systems need: a build does not fetch them, and they are judged too.
    summary.quiet("crates", cargo(&["fetch", "--locked"]))?;
    let mut check = Command::new(deny);
    // Nothing of this needs the network any more.
    check.current_dir(paths.root()).args(["--all-features", "--offline", "check", "bans", "licenses", "sources"]);
    summary.quiet("dependencies", check)?;
    let mut doc = cargo(&["doc", "--locked", "--no-deps", "--workspace", "--document-private-items"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    summary.quiet("documentation", doc)?;
    let engine = summary.step("engine", |_| engine::obtain(paths, None))?;
    let python = summary.step("python clients", |line| tools::python_clients(paths, line))?;
    let js = summary.step("JavaScript client", |line| tools::js_clients(paths, line))?;
    let faults = summary.step("fault build", |line| cargo::build_faults(paths, line))?;
    let plain = summary.step("membershipd", |line| cargo::build_membershipd(paths, line))?;

    let mut tests = cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    tests
        .args(&args.filter)
        .env("RUST_TEST_THREADS", THREADS)
        .env(ENGINE_VAR, &engine.path)
        .env(PYTHON_VAR, &python)
        .env(JS_VAR, &js)
        .env(MEMBERSHIPD_VAR, &plain)
        .env(FAULTS_VAR, &faults);
    let begun = Instant::now();
    eprintln!("running {}", cargo::shown(&tests));
    // The tests speak for themselves, as they go.
    let status = tests.status().context("starting cargo test");
    let ok = status.as_ref().is_ok_and(std::process::ExitStatus::success);
    summary.steps.push(("tests", begun.elapsed(), ok));
    if !status?.success() {
        bail!("cargo test failed; what it said is above");
    }
    Ok(())
}

impl Summary {
    /// A command whose output matters only when it fails.
    fn quiet(&mut self, name: &'static str, command: Command) -> Result<()> {
        self.step(name, |line| {
            line.set(cargo::shown(&command));
            cargo::run(command, line).map(drop)
        })
    }

    fn step<T>(&mut self, name: &'static str, work: impl FnOnce(&crate::ui::Line) -> Result<T>) -> Result<T> {
        let line = self.progress.line(name);
        let begun = Instant::now();
        let done = work(&line);
        let time = begun.elapsed();
        match &done {
            Ok(_) => line.done(&took(time)),
            Err(_) => line.failed(&took(time)),
        }
        self.steps.push((name, time, done.is_ok()));
        done
    }
}
