//! A child process that is bounded in time and in what it says: what hangs, or has no end, is ended and reported. Where a child is
//! started whose words another machine may have chosen, it is started here.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use unibus_names::printable::one_line;

pub(crate) use self::cause::{not_begun, refused_session, with_remedy};

mod cause;

/// Bytes that a command may write to its standard output. The largest that is asked for is a copy of this repository; what nodes answer
/// has some kilobytes.
pub(crate) const MOST_OUTPUT: u64 = 32 << 20;
/// Bytes that a command may write to its standard error.
pub(crate) const MOST_COMPLAINTS: u64 = 4 << 20;

/// What a command on a node left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All of it.
    pub stdout: Vec<u8>,
    /// All of it, without line ends at its end; what is no text, or no terminal should be told, is replaced.
    pub stderr: String,
}

impl Output {
    /// Whether the command succeeded.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Why it failed: the line that tells most of what it complained about.
    pub fn reason(&self) -> String {
        cause::telling(&self.stderr)
    }
}

/// Why there is no [`Output`].
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command did not begin: nothing was changed.
    Unreachable(String),
    /// The command may or may not have had its effect.
    Unknown(String),
}

impl Failure {
    /// The same, with the program that met it and the host it was meant for.
    pub fn at(self, program: &str, host: &str) -> Self {
        match self {
            Self::Unreachable(why) => Self::Unreachable(format!("{program} {host}: {why}")),
            Self::Unknown(why) => Self::Unknown(format!("{program} {host}: {why}")),
        }
    }

    /// Why, where it does not matter whether there was an effect.
    pub fn why(self) -> String {
        match self {
            Self::Unreachable(why) | Self::Unknown(why) => why,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => f.write_str(why),
            Self::Unknown(why) => write!(f, "{why}; whether it had an effect is unknown"),
        }
    }
}

impl std::error::Error for Failure {}

/// Runs `command` with `stdin`, and kills it when it takes longer than `within`.
pub fn bounded(command: impl Into<Command>, stdin: &[u8], within: Duration) -> Result<Output, Failure> {
    watched(command.into(), stdin, within, |_| Go::On)
}

/// Runs `command`, and writes its standard output to `file` as it comes: `most` bytes, and none that is more.
pub(crate) fn bounded_into(command: Command, to: (&File, u64), within: Duration) -> Result<Output, Failure> {
    let (file, most) = to;
    let file = file.try_clone().map_err(|error| Failure::Unreachable(format!("keeping the file open: {error}")))?;
    carry_out(command, Sink::File(file, most), b"", within, |_| Go::On)
}

/// What becomes of a command that has said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// It goes on.
    On,
    /// It is killed there and then.
    Die,
}

/// The same; `hear` is told each line of its standard error as it comes, and the command goes on meanwhile.
pub fn watched(
    command: Command,
    stdin: &[u8],
    within: Duration,
    hear: impl FnMut(&str) -> Go,
) -> Result<Output, Failure> {
    carry_out(command, Sink::Memory, stdin, within, hear)
}

/// Starts `command` with pipes for all it reads and writes, in a group of its own: what it starts in turn is ended with it, and a Ctrl-C
/// here is ours to handle.
pub(crate) fn spawn(command: &mut Command) -> Result<Child, Failure> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| Failure::Unreachable(format!("starting {program}: {error}")))
}

/// Where standard output goes.
enum Sink {
    Memory,
    /// A file, and how many bytes of it.
    File(File, u64),
}

fn carry_out(
    mut command: Command,
    sink: Sink,
    stdin: &[u8],
    within: Duration,
    mut hear: impl FnMut(&str) -> Go,
) -> Result<Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = spawn(&mut command)?;
    let deadline = Instant::now() + within;
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (sender, heard) = mpsc::channel();
    let out_sender = sender.clone();
    // The receiver is gone when the deadline passed.
    thread::spawn(move || {
        let read = out.map_or(Ok(Vec::new()), |pipe| collect(pipe, sink));
        let _ = out_sender.send(Heard::Out(read));
    });
    thread::spawn(move || {
        let read = err.map_or(Ok(()), |pipe| each_line(pipe, |line| drop(sender.send(Heard::Line(line)))));
        let _ = sender.send(Heard::Silence(read));
    });
    let stdin = stdin.to_vec();
    thread::spawn(move || {
        if let Some(mut input) = input {
            // A broken pipe hides the exit code that explains it; the exit code is what we report.
            let _ = input.write_all(&stdin);
        }
    });

    let unread = |child: &mut Child, error: io::Error| {
        end(child);
        let why = if error.kind() == TOO_MUCH { "so it was ended" } else { "it was ended" };
        Failure::Unknown(format!("reading from {program}: {error}; {why}"))
    };
    let (mut stdout, mut stderr, mut silent) = (None, Vec::new(), false);
    while stdout.is_none() || !silent {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Heard::Out(bytes)) => stdout = Some(bytes.map_err(|error| unread(&mut child, error))?),
            Ok(Heard::Silence(read)) => {
                read.map_err(|error| unread(&mut child, error))?;
                silent = true;
            }
            Ok(Heard::Line(line)) => {
                let line = text(&line);
                if hear(&line) == Go::Die {
                    end_group(&child);
                }
                stderr.push(line);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(overdue(&mut child, &program, within));
            }
        }
    }
    let Some(code) = wait(&mut child, deadline).map_err(|e| Failure::Unknown(format!("waiting for {program}: {e}")))?
    else {
        return Err(overdue(&mut child, &program, within));
    };
    let stderr = stderr.join("\n").trim_end().to_owned();
    Ok(Output { code: code.code(), stdout: stdout.unwrap_or_default(), stderr })
}

/// The kind of the error that says that there was too much.
pub(crate) const TOO_MUCH: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// There is more than `most` bytes of `what`.
pub(crate) fn too_much(what: &str, most: u64) -> io::Error {
    io::Error::new(TOO_MUCH, format!("there are more than {most} bytes of {what}"))
}

/// All that a pipe brings, if that is no more than may be.
fn collect(pipe: impl Read, sink: Sink) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let (count, most) = match sink {
        Sink::Memory => (pipe.take(MOST_OUTPUT + 1).read_to_end(&mut kept)?.try_into(), MOST_OUTPUT),
        Sink::File(mut file, most) => (Ok(io::copy(&mut pipe.take(most.saturating_add(1)), &mut file)?), most),
    };
    if count.is_ok_and(|count: u64| count <= most) { Ok(kept) } else { Err(too_much("output", most)) }
}

/// Hands each line of a pipe to `hear`, as long as there are not too many bytes of them.
fn each_line(pipe: impl Read, mut hear: impl FnMut(Vec<u8>)) -> io::Result<()> {
    let (mut from, mut left) = (BufReader::new(pipe.take(MOST_COMPLAINTS + 1)), MOST_COMPLAINTS);
    loop {
        let mut line = Vec::new();
        let count = u64::try_from(from.read_until(b'\n', &mut line)?).unwrap_or(u64::MAX);
        if count == 0 {
            return Ok(());
        }
        left = left.checked_sub(count).ok_or_else(|| too_much("complaints", MOST_COMPLAINTS))?;
        hear(line);
    }
}

/// A line of a program, for people: it may come from another machine.
pub(crate) fn text(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    one_line(line.trim_end_matches(['\r', '\n'])).into_owned()
}

/// What a child's pipes bring.
enum Heard {
    /// All of its standard output, at its end.
    Out(io::Result<Vec<u8>>),
    /// One line of its standard error.
    Line(Vec<u8>),
    /// The end of its standard error.
    Silence(io::Result<()>),
}

fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        // It has closed its output, so it is about to end.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Ends a child and all that it started.
fn end(child: &mut Child) {
    end_group(child);
    // The kill cannot be refused: it is our own child. Reaping it keeps no zombie.
    let _ = child.kill();
    let _ = child.wait();
}

fn overdue(child: &mut Child, program: &str, within: Duration) -> Failure {
    end(child);
    Failure::Unknown(format!("{program} gave no answer within {} s and was ended", within.as_secs_f32()))
}

/// Kills the group that the child leads. The child is not reaped yet, so its id cannot be anybody else's.
#[cfg(unix)]
pub(crate) fn end_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_exit_code_come_back() {
        let done = bounded(sh("cat; echo oops >&2; exit 7"), b"in", Duration::from_secs(10)).unwrap();
        assert_eq!(done, Output { code: Some(7), stdout: b"in".to_vec(), stderr: "oops".to_owned() });
        assert!(!done.ok());
    }

    #[test]
    fn more_than_a_pipe_holds_passes_both_ways() {
        let big = vec![b'x'; 1 << 20];
        let done = bounded(sh("cat"), &big, Duration::from_secs(20)).unwrap();
        assert_eq!(done.stdout.len(), big.len());
    }

    #[test]
    fn a_program_that_reads_nothing_is_no_error() {
        let big = vec![b'x'; 1 << 20];
        assert_eq!(bounded(sh("exit 3"), &big, Duration::from_secs(10)).unwrap().code, Some(3));
    }

    #[test]
    fn a_line_is_heard_while_the_command_runs_and_may_be_its_last() {
        let mut lines = Vec::new();
        let script = "echo one >&2; echo out; echo two >&2; sleep 60; echo three >&2";
        let done = watched(sh(script), b"", Duration::from_secs(20), |line| {
            lines.push(line.to_owned());
            if line == "two" { Go::Die } else { Go::On }
        });
        let done = done.unwrap();
        assert_eq!(done, Output { code: None, stdout: b"out\n".to_vec(), stderr: "one\ntwo".to_owned() });
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn what_hangs_is_ended_and_its_effect_is_unknown() {
        let begun = Instant::now();
        let failure = bounded(sh("sleep 60"), b"", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&failure, Failure::Unknown(why) if why.contains("0.2 s")), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn output_without_end_is_ended_and_told() {
        for (script, word) in [
            ("yes", "bytes of output"),
            ("yes >&2", "bytes of complaints"),
            ("tr '\\0' x </dev/zero >&2", "complaints"),
        ] {
            let failure = bounded(sh(script), b"", Duration::from_secs(60)).unwrap_err();
            assert!(
                matches!(&failure, Failure::Unknown(why) if why.contains(word) && why.contains("ended")),
                "{failure}"
            );
        }
        let (dir, within) = (tempfile::tempdir().unwrap(), Duration::from_secs(60));
        let file = File::create_new(dir.path().join("copy")).unwrap();
        let failure = bounded_into(sh("yes"), (&file, 1000), within).unwrap_err();
        assert!(failure.to_string().contains("more than 1000 bytes"), "{failure}");
        assert_eq!(file.metadata().unwrap().len(), 1001);
        bounded_into(sh("printf more"), (&file, 4), within).unwrap();
    }

    #[test]
    fn complaints_are_harmless_lines() {
        let done =
            bounded(sh(r"printf 'a\033[2J\302\233b\342\200\256c\r\nd\n' >&2"), b"", Duration::from_secs(10)).unwrap();
        assert_eq!(done.stderr, "a\\u001b[2J\\u009bb\\u202ec\nd");
    }

    #[test]
    fn what_a_hanging_program_started_is_ended_too() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!("(sleep 1; touch '{}') & sleep 60", mark.display());
        bounded(sh(&script), b"", Duration::from_millis(100)).unwrap_err();
        thread::sleep(Duration::from_millis(1300));
        assert!(!mark.exists());
    }

    #[test]
    fn a_program_that_is_not_there_changed_nothing() {
        let failure = bounded(Command::new("/nonexistent/x"), b"", Duration::from_secs(1)).unwrap_err();
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
    }
}
