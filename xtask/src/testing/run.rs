//! One test program: it runs, says for itself what it does, and is counted.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Program;

/// What the tests find in their environment, beside what cargo gives them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(pub(crate) Vec<(&'static str, OsString)>);

/// What came of a test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) title: String,
    pub(crate) passed: usize,
    pub(crate) ignored: usize,
    /// The names of those that failed.
    pub(crate) failed: Vec<String>,
    /// Why the program ended early, if it did.
    pub(crate) broken: Option<String>,
    pub(crate) took: Duration,
}

impl Tally {
    /// Whether everything that ran passed.
    pub(crate) fn ok(&self) -> bool {
        self.failed.is_empty() && self.broken.is_none()
    }

    fn hear(&mut self, line: &str) {
        let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            return;
        };
        match verdict.split([',', ' ']).next() {
            Some("ok") => self.passed += 1,
            Some("ignored") => self.ignored += 1,
            Some("FAILED") => self.failed.push(name.to_owned()),
            _ => {}
        }
    }
}

/// Runs a program with these words; `before` is what it is started by, if anything.
pub(crate) fn run(program: &Program, words: &[String], environment: &Environment, before: &[&str]) -> Result<Tally> {
    let begun = Instant::now();
    let mut command = match before.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program.path);
            command
        }
        None => Command::new(&program.path),
    };
    command
        .current_dir(&program.dir)
        .env("CARGO_MANIFEST_DIR", &program.dir)
        .envs(environment.0.iter().cloned())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let title = program.title();
    let mut child = command.spawn().with_context(|| format!("starting the tests of {title}"))?;
    let mut tally = Tally { title, passed: 0, ignored: 0, failed: Vec::new(), broken: None, took: Duration::default() };
    if let Some(stdout) = child.stdout.take() {
        // A test may print what is no text.
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line.context("reading what the tests say")?).into_owned();
            tally.hear(&line);
            println!("{line}");
        }
    }
    let status = child.wait().context("waiting for the tests")?;
    // The harness ends with 101 where a test failed, which is counted already.
    if !status.success() && tally.failed.is_empty() {
        tally.broken = Some(status.to_string());
    }
    tally.took = begun.elapsed();
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted() {
        let mut tally = Tally {
            title: String::new(),
            passed: 0,
            ignored: 0,
            failed: Vec::new(),
            broken: None,
            took: Duration::default(),
        };
        for line in [
            "running 4 tests",
            "test a::b ... ok",
            "test a::c has been running for over 60 seconds",
            "test a::c ... FAILED",
            "test a::d ... ignored, takes minutes",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored",
        ] {
            tally.hear(line);
        }
        assert_eq!((tally.passed, tally.ignored, tally.failed.clone()), (1, 1, vec!["a::c".to_owned()]));
        assert!(!tally.ok());
    }
}
