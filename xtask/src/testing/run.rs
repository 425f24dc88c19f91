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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) title: String,
    pub(crate) passed: usize,
    pub(crate) ignored: usize,
    /// The names of those that failed.
    pub(crate) failed: Vec<String>,
    /// Why the program ended early, if it did.
    pub(crate) broken: Option<String>,
    pub(crate) took: Duration,
    /// Whether the names of those that failed are being listed.
    listing: bool,
}

impl Tally {
    /// Whether everything that ran passed.
    pub(crate) fn ok(&self) -> bool {
        self.failed.is_empty() && self.broken.is_none()
    }

    /// Counts by the last line of the harness, and takes the names from its list: what a test prints may stand in the middle
    /// of any other line.
    fn hear(&mut self, line: &str) {
        if line == "failures:" {
            // The first of two such headings is that of what the tests printed.
            self.failed.clear();
            self.listing = true;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.listing = false;
            self.passed += number_before(counts, " passed");
            self.ignored += number_before(counts, " ignored");
        } else if self.listing
            && let Some(name) = line.strip_prefix("    ")
            && !name.contains(' ')
        {
            self.failed.push(name.to_owned());
        }
    }
}

/// `ok. 4 passed; 0 failed`: the number before the word; 0 where it is not there.
fn number_before(counts: &str, word: &str) -> usize {
    let number = counts.split(word).next().and_then(|before| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
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
    let mut tally = Tally { title, ..Tally::default() };
    if let Some(stdout) = child.stdout.take() {
        // A test may print what is no text.
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line.context("reading what the tests say")?).into_owned();
            tally.hear(&line);
            outln!("{line}");
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
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test a::b ... what it prints",
            "ok",
            "test a::c ... FAILED",
            "failures:",
            "---- a::c stdout ----",
            "    word",
            "failures:",
            "    a::c",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.12s",
        ] {
            tally.hear(line);
        }
        assert_eq!((tally.passed, tally.ignored, tally.failed.clone()), (2, 1, vec!["a::c".to_owned()]));
        assert!(!tally.ok());
    }
}
