//! Where a node's log is read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::line::{Line, of_file, of_journal};
use super::{Reader, Wanted};
use crate::paths::Paths;
use crate::process::{Output, end_group, spawn};
use crate::staging::UNIT;
use crate::transport::Transport;

/// Bytes of a line that are read; the rest of it is left out. A journal's entry is longer than what it says.
const MOST_LINE: u64 = 1 << 20;
/// Bytes of complaints that are kept.
const MOST_COMPLAINTS: u64 = 64 << 10;
/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// What a server says once its journal is read: one that follows it may have no entry for long.
const BEGINS: &[u8] = b"unibus: log";

/// A program that reads a journal.
pub(super) struct Source(Arc<Mutex<Child>>);

impl Source {
    /// Ends it, and with it what it runs on the node: that notices that its reader is gone.
    pub(super) fn end(&self) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            end_group(&child);
            let _ = child.wait();
        }
    }
}

/// Reads a node's journal, by a program that runs until it has ended or is ended.
pub(super) fn read_journal(transport: &dyn Transport, node: &str, wanted: &Wanted, reader: Reader) -> Option<Source> {
    let lines = wanted.last().map_or_else(|| "--lines=all".to_owned(), |lines| format!("--lines={lines}"));
    let since = wanted.since.map(|since| format!("--since=@{}", since.0.div_euclid(1000)));
    let begins = String::from_utf8_lossy(BEGINS);
    let script = format!("echo '{begins}'; exec \"$@\"");
    let mut argv = vec!["sh", "-c", &script, "sh", "journalctl", "--unit", UNIT, "--output=json"];
    argv.extend(["--output-fields=MESSAGE", "--no-pager", "--quiet", &lines]);
    argv.extend(since.as_deref());
    argv.extend(wanted.follow.then_some("--follow"));
    let started = transport.relay(node, &argv).and_then(|words| {
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        spawn(command.args(words))
    });
    let mut child = match started {
        Ok(child) => child,
        Err(failure) => {
            reader.end(Some(failure.why()));
            return None;
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    // Nothing is told to it.
    drop(child.stdin.take());
    let child = Arc::new(Mutex::new(child));
    let own = Arc::clone(&child);
    thread::spawn(move || {
        let complaints = thread::spawn(move || complaints(err));
        let has_begun = out.is_some_and(|out| entries(out, &reader));
        let (code, stderr) = (code(&own), complaints.join().unwrap_or_default());
        let output = Output { code, stdout: Vec::new(), stderr };
        let why = if output.stderr.is_empty() { "it ended without a word".to_owned() } else { output.reason() };
        reader.end((!has_begun || !output.ok()).then_some(why));
    });
    Some(Source(child))
}

/// Hands the entries of a journal over. Says whether the node has begun to tell any.
fn entries(out: ChildStdout, reader: &Reader) -> bool {
    let (mut from, mut begun) = (BufReader::new(out), false);
    while let Ok(Some(line)) = line(&mut from) {
        if !begun {
            begun = line.trim_ascii_end().ends_with(BEGINS);
            if begun {
                reader.begin();
            }
        } else if let Some(line) = of_journal(&line)
            && !reader.line(line)
        {
            break;
        }
    }
    begun
}

fn complaints(err: Option<ChildStderr>) -> String {
    let Some(mut err) = err else { return String::new() };
    let mut kept = Vec::new();
    let _ = err.by_ref().take(MOST_COMPLAINTS).read_to_end(&mut kept);
    // A pipe that is full would stop who writes to it.
    let _ = io::copy(&mut err, &mut io::sink());
    String::from_utf8_lossy(&kept).trim_end().to_owned()
}

/// The exit code of a program that has closed its output.
fn code(child: &Mutex<Child>) -> Option<i32> {
    loop {
        match child.lock().unwrap_or_else(PoisonError::into_inner).try_wait() {
            Ok(Some(status)) => return status.code(),
            Ok(None) => {}
            Err(_) => return None,
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A line without its end, cut where it is too long; none at the end.
fn line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if from.by_ref().take(MOST_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if u64::try_from(line.len()) == Ok(MOST_LINE) {
        from.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

/// Reads a node's log file, and the one before it where there is one.
pub(super) fn read_file(path: PathBuf, wanted: &Wanted, reader: Reader) {
    let wanted = wanted.clone();
    thread::spawn(move || {
        let read = follow(&path, &wanted, &reader);
        reader.end(read.err().map(|error| format!("reading {}: {error}", Paths::shown(&path))));
    });
}

fn follow(path: &Path, wanted: &Wanted, reader: &Reader) -> io::Result<()> {
    let mut tail =
        Tail { lines: VecDeque::new(), last: wanted.last(), since: wanted.since.map(|since| since.0 * 1_000) };
    let mut before = 0;
    let mut read = |from: &mut BufReader<File>, hand: &mut dyn FnMut(Line) -> bool| -> io::Result<bool> {
        while let Some(bytes) = line(from)? {
            let line = of_file(&bytes, before);
            before = line.at;
            if !hand(line) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if let Ok(old) = File::open(path.with_extension("1")) {
        read(&mut BufReader::new(old), &mut |line| tail.take(line))?;
    }
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && wanted.follow => None,
        other => Some(other?),
    };
    reader.begin();
    let mut file = file.map(BufReader::new);
    if let Some(file) = &mut file {
        read(file, &mut |line| tail.take(line))?;
    }
    for line in tail.lines {
        if !reader.line(line) {
            return Ok(());
        }
    }
    while wanted.follow && !reader.is_over() {
        // Looked at before what is left of the old one is read: nothing is written to that any more.
        let turned = match (&file, path.metadata()) {
            (Some(file), Ok(now)) => file.get_ref().metadata()?.ino() != now.ino(),
            (None, Ok(_)) => true,
            (_, Err(_)) => false,
        };
        if let Some(file) = &mut file
            && !read(file, &mut |line| reader.line(line))?
        {
            return Ok(());
        }
        if turned {
            file = Some(BufReader::new(File::open(path)?));
        } else {
            thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// The lines at the end of a log that are wanted.
struct Tail {
    lines: VecDeque<Line>,
    last: Option<usize>,
    since: Option<i64>,
}

impl Tail {
    fn take(&mut self, line: Line) -> bool {
        if self.since.is_none_or(|since| line.at >= since) {
            self.lines.push_back(line);
        }
        if self.last.is_some_and(|last| self.lines.len() > last) {
            self.lines.pop_front();
        }
        true
    }
}
