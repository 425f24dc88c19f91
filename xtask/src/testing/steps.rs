//! Steps that follow each other, with the time that each took.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use unibus_ops::cargo;
use unibus_ops::ui::{Cell, Line, Progress, Style, Table, took};

/// The steps so far.
pub(crate) struct Steps {
    steps: Vec<(String, Duration, bool)>,
    pub(crate) progress: Progress,
}

impl Steps {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { steps: Vec::new(), progress: Progress::new() }
    }

    /// A command whose output matters only when it fails.
    pub(crate) fn quiet(&mut self, name: &str, command: impl Into<Command>) -> Result<()> {
        let command: Command = command.into();
        self.step(name, |line| {
            line.set(cargo::shown(&command));
            cargo::run(command, line).map(drop)
        })
    }

    /// A step that shows one line of progress.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce(&Line) -> Result<T>) -> Result<T> {
        let line = self.progress.line(name);
        let begun = Instant::now();
        let done = work(&line);
        let time = begun.elapsed();
        match &done {
            Ok(_) => line.done(&took(time)),
            Err(_) => line.failed(&took(time)),
        }
        self.add(name, time, done.is_ok());
        done
    }

    /// A step that prints for itself.
    pub(crate) fn aloud<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let done = work();
        self.add(name, begun.elapsed(), done.is_ok());
        done
    }

    /// Takes note of a step that has ended.
    pub(crate) fn add(&mut self, name: &str, time: Duration, ok: bool) {
        self.steps.push((name.to_owned(), time, ok));
    }

    /// Shows every step with its time, on standard error.
    pub(crate) fn show(&self) {
        if self.steps.is_empty() {
            return;
        }
        let mut table = Table::new(&["step", "", "took"]);
        for (name, time, ok) in &self.steps {
            let judged = Cell::judged(*ok, if *ok { "ok" } else { "FAILED" });
            table.row(vec![name.as_str().into(), judged, took(*time).into()]);
        }
        let all: Duration = self.steps.iter().map(|(_, time, _)| *time).sum();
        table.row(vec!["all".into(), "".into(), took(all).into()]);
        err!("\n{}", table.render(Style::stderr()));
    }
}
