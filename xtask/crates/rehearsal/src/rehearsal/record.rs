//! What happened in a rehearsal, and when: what the report is made of.

use std::time::{Duration, Instant};

use serde::Serialize;
use time::OffsetDateTime;

use crate::chaos::Verdict;

const SCHEMA: u32 = 1;

/// One rehearsal.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    schema: u32,
    pub(super) began_unix: i64,
    /// From the start to all machines taking logins, the preparation on this host left out.
    pub(super) boot_seconds: Option<f64>,
    pub(super) chapters: Vec<Played>,
    /// What chaos judged, by the command.
    pub(super) verdicts: Vec<(String, Verdict)>,
    pub(super) seconds: f64,
    pub(super) ok: bool,
    /// Why it stopped before its end.
    pub(super) failure: Option<String>,
    #[serde(skip)]
    begun: Instant,
}

/// One chapter, as far as it was carried out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Played {
    pub(super) name: String,
    /// Since the rehearsal began.
    pub(super) at_seconds: f64,
    pub(super) commands: Vec<Done>,
}

/// One command.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Done {
    pub(super) command: String,
    pub(super) seconds: f64,
    pub(super) code: Option<i32>,
    /// It answered as expected.
    pub(super) ok: bool,
}

impl Record {
    /// A rehearsal that begins now.
    pub(super) fn begin() -> Self {
        Self {
            schema: SCHEMA,
            began_unix: OffsetDateTime::now_utc().unix_timestamp(),
            boot_seconds: None,
            chapters: Vec::new(),
            verdicts: Vec::new(),
            seconds: 0.0,
            ok: false,
            failure: None,
            begun: Instant::now(),
        }
    }

    /// One for what is carried out at the same time, to be taken in when that is over.
    pub(super) fn beside(&self) -> Self {
        Self { began_unix: self.began_unix, begun: self.begun, ..Self::begin() }
    }

    /// Takes in what was carried out at the same time.
    pub(super) fn take(&mut self, other: Self) {
        self.boot_seconds = self.boot_seconds.or(other.boot_seconds);
        self.chapters.extend(other.chapters);
        self.chapters.sort_by(|one, other| one.at_seconds.total_cmp(&other.at_seconds));
        self.verdicts.extend(other.verdicts);
    }

    /// The machines take logins.
    pub(super) fn booted(&mut self, took: Duration) {
        self.boot_seconds = Some(took.as_secs_f64());
    }

    /// A chapter begins.
    pub(super) fn chapter(&mut self, name: &str) {
        let at_seconds = self.begun.elapsed().as_secs_f64();
        self.chapters.push(Played { name: name.to_owned(), at_seconds, commands: Vec::new() });
    }

    /// A command of the last chapter has ended.
    pub(super) fn command(&mut self, done: Done) {
        if let Some(chapter) = self.chapters.last_mut() {
            chapter.commands.push(done);
        }
    }

    /// A command has judged what clients noticed.
    pub(super) fn verdict(&mut self, command: &str, verdict: Verdict) {
        self.verdicts.push((command.to_owned(), verdict));
    }

    /// It is over.
    pub(super) fn end(&mut self, failure: Option<&anyhow::Error>) {
        self.seconds = self.begun.elapsed().as_secs_f64();
        self.ok = failure.is_none();
        self.failure = failure.map(|error| format!("{error:#}"));
    }

    /// How long it took.
    pub(super) fn took(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

impl Played {
    /// Whether every command of it answered as expected.
    pub(super) fn ok(&self) -> bool {
        self.commands.iter().all(|done| done.ok)
    }

    /// How long its commands took.
    pub(super) fn took(&self) -> Duration {
        Duration::from_secs_f64(self.commands.iter().map(|done| done.seconds).sum())
    }
}
