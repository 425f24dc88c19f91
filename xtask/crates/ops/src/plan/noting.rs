//! What is noted on the nodes about each run that changes them: who began it, from where, and what came of it. A run whose end is
//! missing goes on, or was killed: what came of it is unknown.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use unibus_names::printable::one_line_of;

use super::lock::Record;
use super::{State, Step, words};
use crate::paths;
use crate::process::bounded;
use crate::transport::Call;

/// A run's variable that names the run it is a part of.
pub(crate) const PART_OF: &str = "UNIBUS_PART_OF";
/// The form of a note; one with another number was written by a newer xtask.
const SCHEMA: u32 = 1;
/// Bytes of one text of a note.
const MOST_TEXT: usize = 300;
/// git reads the clone's index.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// Takes the path; reads one line, and adds it to the file, 0600. What is half a MiB makes way for a new file, and the one before that is
/// kept beside it. Before the first `stage` there is no place for it, and nothing is noted.
const NOTE: &str = "set -eu; umask 077; case $1 in */*) d=${1%/*};; *) d=.;; esac; [ -d \"$d\" ] || exit 0; \
    IFS= read -r line || { echo 'the note arrived incomplete' >&2; exit 1; }; \
    exec 9< \"$d\"; flock -w 10 9 || { echo \"$d is locked by another command\" >&2; exit 1; }; \
    if [ -e \"$1\" ] && [ \"$(wc -c < \"$1\")\" -gt 524288 ]; then mv -f -- \"$1\" \"$1.before\"; fi; \
    printf '%s\\n' \"$line\" >> \"$1\"; sync -- \"$1\"";
/// Takes the path; prints all notes that there are.
const READ: &str = "for f in \"$1.before\" \"$1\"; do [ ! -e \"$f\" ] || cat -- \"$f\"; done";

/// The command that adds a note. Its words are always the same; the note comes by standard input.
pub(super) fn note_call(path: &str, stdin: String) -> Call {
    Call::Feed { argv: words(&["sh", "-c", NOTE, "sh", path]), stdin }
}

/// The command that prints the notes.
pub fn read_notes(path: &str) -> Vec<String> {
    words(&["sh", "-c", READ, "sh", path])
}

/// One line of the log of operations. The end repeats what the beginning said, so that one line is enough to know a run by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    schema: u32,
    /// Tells the run from every other.
    pub token: String,
    /// user@host.
    pub holder: String,
    /// Its process there.
    pub pid: u32,
    /// What was typed after `cargo xtask`, without flags.
    pub verb: String,
    /// The run that it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// The clone it was typed in, and its commit, as git describes it.
    pub clone: Option<String>,
    /// That commit.
    pub commit: Option<String>,
    /// UTC, by the clock of that machine.
    pub since: String,
    /// How it ended; none: this was noted when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub until: String,
    /// Whether it did all that it was to do.
    pub done: bool,
    /// Steps that changed something.
    pub changed: usize,
    /// Why it did not do all, if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What came of a run, for its note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Why it did not do all that it was to do; none: it did.
    pub failed: Option<String>,
    /// Steps that changed something.
    pub changed: usize,
}

impl Ended {
    /// What came of these steps.
    pub(super) fn of<'a>(steps: impl Iterator<Item = &'a Step>) -> Self {
        let mut ended = Self::default();
        for step in steps {
            match &step.state {
                State::Changed if !step.is_lock() => ended.changed += 1,
                State::Failed(why) if ended.failed.is_none() => {
                    ended.failed = Some(format!("{}: {}: {why}", step.node, step.id));
                }
                _ => {}
            }
        }
        ended
    }
}

impl Note {
    /// What is noted when the run of `record` begins.
    pub(super) fn begin(record: &Record) -> Self {
        let clone = paths::found();
        Self {
            schema: SCHEMA,
            token: record.token.clone(),
            holder: record.holder.clone(),
            pid: record.process.pid,
            verb: record.verb.clone(),
            part_of: env::var(PART_OF).ok().map(short),
            clone: clone.map(|clone| short(clone.display().to_string())),
            commit: clone.and_then(commit),
            since: record.since.clone(),
            end: None,
        }
    }

    /// What is noted when it ends.
    pub(super) fn ended(&self, Ended { failed, changed }: Ended) -> Self {
        let until = now().unwrap_or_default();
        let end = End { until, done: failed.is_none(), changed, why: failed.map(short) };
        Self { end: Some(end), ..self.clone() }
    }

    /// The line.
    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).map(|line| format!("{line}\n")).unwrap_or_default()
    }

    /// Reads a line; none where it is none, or of another form.
    pub fn read(line: &str) -> Option<Self> {
        crate::answer::read(line.as_bytes()).ok().filter(|note: &Self| note.schema == SCHEMA)
    }
}

/// The time in UTC, to the second.
pub(super) fn now() -> Result<String> {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).context("writing the time")
}

/// The commit of the clone that this run works on.
pub(crate) fn commit_here() -> Option<String> {
    commit(paths::found()?)
}

fn short(text: String) -> String {
    one_line_of(&text, MOST_TEXT).into_owned()
}

/// The commit that the clone is at, with -dirty where something of it was changed; none where git cannot say.
fn commit(clone: &Path) -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(clone).args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    let output = bounded(git, b"", COMMIT_WITHIN).ok().filter(crate::process::Output::ok)?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(short(said.trim().to_owned())).filter(|commit| !commit.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::lock::tests::record;
    use super::*;
    use crate::transport::{Local, Transport};

    #[test]
    fn note_is_a_private_line_and_the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let nodes = Local::new(dir.path());
        let within = Duration::from_secs(20);
        let begun = Note::begin(&record("anna@laptop", 7, "t"));
        let ended = begun.ended(Ended { failed: Some("b: restart: it\nfailed".to_owned()), changed: 2 });
        for note in [&begun, &ended] {
            assert!(nodes.call("a", &note_call("ops.jsonl", note.line()), within).unwrap().ok());
        }
        let file = dir.path().join("a/ops.jsonl");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let argv = read_notes("ops.jsonl");
        let read = || {
            let output = nodes.call("a", &Call::Run(argv.clone()), within).unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let notes: Vec<Note> = read().lines().map(|line| Note::read(line).unwrap()).collect();
        assert_eq!(notes, [begun.clone(), ended.clone()]);
        assert_eq!(ended.end.as_ref().unwrap().why.as_deref(), Some("b: restart: it\\nfailed"));
        // What is cut off is no note.
        assert!(!nodes.call("a", &note_call("ops.jsonl", "no end".to_owned()), within).unwrap().ok());
        fs::write(&file, "x\n".repeat(300_000)).unwrap();
        assert!(nodes.call("a", &note_call("ops.jsonl", begun.line()), within).unwrap().ok());
        assert_eq!(fs::read_to_string(&file).unwrap(), begun.line());
        assert!(read().starts_with("x\n") && read().ends_with(&begun.line()));
        // Where nothing was staged yet there is no place for it.
        assert!(nodes.call("a", &note_call("none/ops.jsonl", begun.line()), within).unwrap().ok());
    }

    #[test]
    fn line_of_another_form_is_no_note() {
        let mut newer = serde_json::to_value(Note::begin(&record("anna@laptop", 7, "t"))).unwrap();
        newer["schema"] = 2.into();
        for line in ["", "x", "{}", &newer.to_string()] {
            assert_eq!(Note::read(line), None, "{line}");
        }
    }
}
