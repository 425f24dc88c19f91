//! A child process that is bounded in time: what hangs is ended and reported, never waited for.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::cause::{not_begun, with_remedy};

mod cause;

/// What a command on a node left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All of it.
    pub stdout: Vec<u8>,
    /// All of it, without line ends at its end; what is no text is replaced.
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
    mut command: Command,
    stdin: &[u8],
    within: Duration,
    mut hear: impl FnMut(&str) -> Go,
) -> Result<Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    {
        // Its own group: what it starts in turn is ended with it, and a Ctrl-C here is ours to handle.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
    }
    let mut child = command.spawn().map_err(|error| Failure::Unreachable(format!("starting {program}: {error}")))?;
    let deadline = Instant::now() + within;
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (sender, heard) = mpsc::channel();
    let out_sender = sender.clone();
    // The receiver is gone when the deadline passed.
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = out.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
        let _ = out_sender.send(Heard::Out(read.map(|_| bytes)));
    });
    thread::spawn(move || {
        let read = err.map_or(Ok(()), |pipe| {
            BufReader::new(pipe).split(b'\n').try_for_each(|line| {
                let _ = sender.send(Heard::Line(line?));
                Ok(())
            })
        });
        let _ = sender.send(Heard::Silence(read));
    });
    let stdin = stdin.to_vec();
    thread::spawn(move || {
        if let Some(mut input) = input {
            // A broken pipe hides the exit code that explains it; the exit code is what we report.
            let _ = input.write_all(&stdin);
        }
    });

    let unread = |error: io::Error| Failure::Unknown(format!("reading from {program}: {error}"));
    let (mut stdout, mut stderr, mut silent) = (None, Vec::new(), false);
    while stdout.is_none() || !silent {
        match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Heard::Out(bytes)) => stdout = Some(bytes.map_err(unread)?),
            Ok(Heard::Silence(read)) => {
                read.map_err(unread)?;
                silent = true;
            }
            Ok(Heard::Line(line)) => {
                let line = String::from_utf8_lossy(&line).into_owned();
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

fn overdue(child: &mut Child, program: &str, within: Duration) -> Failure {
    end_group(child);
    // The kill cannot be refused: it is our own child. Reaping it keeps no zombie.
    let _ = child.kill();
    let _ = child.wait();
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
