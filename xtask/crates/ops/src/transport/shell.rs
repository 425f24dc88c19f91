//! A conversation with a shell: many commands over one connection, each answered before the next is needed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use super::quote;
use crate::process::{self, Failure, MOST_COMPLAINTS, MOST_OUTPUT, Output, end_group};

/// [`READY`], also within the text of a script.
macro_rules! ready {
    () => {
        "unibus: ready"
    };
}
pub(super) use ready;

/// What the shell says once it listens. Whatever a login prints comes before it.
pub(super) const READY: &str = ready!();
/// Bytes that a login may print before the shell listens, and a line that begins an answer may have.
const MOST_GREETING: u64 = 1 << 20;
/// How long a shell may take to end once nobody talks to it any more.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// What a shell on a node is told first: how to answer. An answer begins with a line of the exit code and the length of what
/// was printed, so no output can be taken for the next answer; only the newlines at its end are lost. A question's complaints
/// are of no interest; of what is done, complaints and output are kept as they came. `here` is for what is meant from the
/// install directory, which may be made while the conversation goes on.
pub(super) fn opening(install_dir: &str) -> String {
    format!(
        "export LC_ALL=C\n\
         here() {{ cd -- {} && \"$@\"; }}\n\
         tell() {{ printf '%s %s\\n%s\\n' \"$1\" \"${{#2}}\" \"$2\"; }}\n\
         ask() {{ said=$(\"$@\" </dev/null 2>/dev/null); tell \"$?\" \"$said\"; }}\n\
         run() {{ i=$1; shift; said=$(printf %s \"$i\" | \"$@\" 2>&1); tell \"$?\" \"$said\"; }}\n\
         echo '{READY}'\n",
        quote(install_dir)
    )
}

/// A question, as it is written to the shell.
pub(super) fn question(words: &[String]) -> String {
    format!("ask {}\n", quoted(words))
}

/// Something to be done, as it is written to the shell, with what the command reads.
pub(super) fn order(words: &[String], stdin: &str) -> String {
    format!("run {} {}\n", quote(stdin), quoted(words))
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

/// A shell that listens.
#[derive(Debug)]
pub(super) struct Shell {
    child: Child,
    /// Gone once the conversation is over.
    to: Option<Sender<Vec<u8>>>,
    from: Receiver<Heard>,
    errors: Receiver<String>,
}

/// What a shell said.
#[derive(Debug)]
enum Heard {
    Ready,
    Answer(Output),
    Nonsense,
    TooMuch(io::Error),
}

impl Shell {
    /// Starts `command`, which must lead to a shell that reads its standard input, and waits until that listens. When it
    /// fails nothing was asked and nothing done.
    pub(super) fn open(mut command: Command, opening: &str, within: Duration) -> Result<Self, Failure> {
        let mut child = process::spawn(&mut command)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (to, orders) = mpsc::channel::<Vec<u8>>();
        thread::spawn(move || {
            let Some(mut stdin) = stdin else { return };
            for text in orders {
                // Whoever waits for the answer hears that the shell is gone, and why.
                if stdin.write_all(&text).and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
        });
        // One answer ahead: a node that answers what it was not asked waits.
        let (heard, from) = mpsc::sync_channel(1);
        thread::spawn(move || {
            if let Some(stdout) = stdout
                && let Err(error) = hear(BufReader::new(stdout), &heard)
                && error.kind() == process::TOO_MUCH
            {
                let _ = heard.send(Heard::TooMuch(error));
            }
            // Another error is the end of the conversation, which the caller that waits for an answer hears of.
        });
        let mut shell = Self { child, to: Some(to), from, errors: listen(stderr) };
        shell.say(opening);
        let deadline = Instant::now() + within;
        loop {
            match shell.from.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Heard::Ready) => return Ok(shell),
                Ok(Heard::TooMuch(error)) => return Err(Failure::Unreachable(shell.ended(&error))),
                Ok(_) => {}
                Err(gone) => return Err(Failure::Unreachable(shell.why(gone, within))),
            }
        }
    }

    /// Writes `text`, which asks for so many answers, and waits for each of them `within`. After an error the shell is of
    /// no use any more.
    pub(super) fn talk(&mut self, text: &str, answers: usize, within: Duration) -> Result<Vec<Output>, Failure> {
        self.say(text);
        let mut outputs = Vec::with_capacity(answers);
        for _ in 0..answers {
            match self.from.recv_timeout(within) {
                Ok(Heard::Answer(output)) => outputs.push(output),
                Ok(Heard::TooMuch(error)) => return Err(Failure::Unknown(self.ended(&error))),
                Ok(_) => return Err(Failure::Unknown("the shell there gave an answer that cannot be read".to_owned())),
                Err(gone) => return Err(Failure::Unknown(self.why(gone, within))),
            }
        }
        Ok(outputs)
    }

    fn say(&self, text: &str) {
        if let Some(to) = &self.to {
            // Who does not listen any more does not answer either.
            let _ = to.send(text.as_bytes().to_vec());
        }
    }

    /// Ends the shell, which said too much.
    fn ended(&mut self, error: &io::Error) -> String {
        self.to = None;
        end_group(&self.child);
        format!("{error}, so it was ended")
    }

    /// Why there is no answer; the shell is ended, if it has not ended by itself.
    fn why(&mut self, gone: RecvTimeoutError, within: Duration) -> String {
        self.to = None;
        if gone == RecvTimeoutError::Timeout {
            end_group(&self.child);
            return format!("no answer within {} s, so it was ended", within.as_secs_f32());
        }
        let said = self.errors.recv_timeout(ENDS_WITHIN).unwrap_or_default();
        let output = Output { code: None, stdout: Vec::new(), stderr: said };
        if output.stderr.trim().is_empty() {
            "the connection ended without a word".to_owned()
        } else {
            output.reason().to_owned()
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Without anybody who talks to it a shell ends.
        self.to = None;
        let begun = Instant::now();
        while begun.elapsed() < ENDS_WITHIN {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(1)),
                _ => return,
            }
        }
        end_group(&self.child);
        // It is our own child, so killing it cannot be refused; reaping it keeps no zombie.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everything that is complained about, once there is no more to come.
fn listen(stderr: Option<ChildStderr>) -> Receiver<String> {
    let (sender, errors) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stderr) = stderr {
            // What was heard until then is what there is to say. More than that is not kept, and the time of each answer bounds it.
            let _ = stderr.by_ref().take(MOST_COMPLAINTS).read_to_end(&mut bytes);
            let _ = io::copy(&mut stderr, &mut io::sink());
        }
        // Nobody asks where all went well.
        let _ = sender.send(plain(&bytes));
    });
    errors
}

/// Hears what a shell says: first whatever a login prints, then answers.
fn hear(mut from: impl BufRead, heard: &SyncSender<Heard>) -> io::Result<()> {
    let mut line = Vec::new();
    let mut ready = false;
    // What a login prints in all.
    let mut left = MOST_GREETING;
    loop {
        line.clear();
        if ready {
            left = MOST_GREETING;
        }
        let count = from.by_ref().take(left.saturating_add(1)).read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(());
        }
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        left = left.checked_sub(count).ok_or_else(|| process::too_much("a greeting", MOST_GREETING))?;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        let said = if ready {
            match header(text) {
                Some((code, length)) => Heard::Answer(answer(&mut from, code, length)?),
                None => Heard::Nonsense,
            }
        } else if text == READY {
            ready = true;
            Heard::Ready
        } else {
            continue;
        };
        let last = matches!(said, Heard::Nonsense);
        if heard.send(said).is_err() || last {
            return Ok(());
        }
    }
}

fn header(line: &str) -> Option<(i32, u64)> {
    let (code, length) = line.split_once(' ')?;
    Some((code.parse().ok()?, length.parse().ok()?))
}

fn answer(from: &mut impl BufRead, code: i32, length: u64) -> io::Result<Output> {
    if length > MOST_OUTPUT {
        return Err(process::too_much("an answer", MOST_OUTPUT));
    }
    let mut stdout = Vec::new();
    from.take(length.saturating_add(1)).read_to_end(&mut stdout)?;
    if stdout.pop() != Some(b'\n') || u64::try_from(stdout.len()).ok() != Some(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // The end of it is what tells why.
    let complaints = usize::try_from(MOST_COMPLAINTS).unwrap_or(usize::MAX);
    let stderr = plain(stdout.get(stdout.len().saturating_sub(complaints)..).unwrap_or_default());
    Ok(Output { code: Some(code), stdout, stderr })
}

/// Lines of another machine, for people.
fn plain(bytes: &[u8]) -> String {
    let lines: Vec<String> = bytes.split(|byte| *byte == b'\n').map(process::text).collect();
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(dir: &str) -> Shell {
        let mut command = Command::new("sh");
        command.arg("-s");
        Shell::open(command, &opening(dir), SOON).unwrap()
    }

    fn words(argv: &[&str]) -> Vec<String> {
        argv.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn no_output_can_be_taken_for_another_answer() {
        let mut shell = shell("/");
        let nasty = [
            "",
            "\n",
            " 0",
            "a\nb\n",
            "unibus: ready\n",
            "0 5\nx",
            "7 0\n\n",
            "' 9",
            "\u{1b}[2J",
            "$(exit 3)",
            "é 7",
            "\\n",
        ];
        let asked: String = nasty.iter().map(|text| question(&words(&["printf", "%s", text]))).collect();
        let answers = shell.talk(&asked, nasty.len(), SOON).unwrap();
        for (answer, text) in answers.iter().zip(nasty) {
            let text = text.trim_end_matches('\n');
            assert_eq!((answer.code, answer.stdout.as_slice()), (Some(0), text.as_bytes()), "{text:?}");
        }
        // What no text may hold is lost, and nothing else.
        let bytes = question(&words(&["printf", r"a\0b\377"])) + &question(&words(&["echo", "next"]));
        let answers = shell.talk(&bytes, 2, SOON).unwrap();
        assert_eq!(
            (answers[0].stdout.as_slice(), answers[1].stdout.as_slice()),
            (b"ab\xff".as_slice(), b"next".as_slice())
        );
        let long = shell.talk(&question(&words(&["seq", "100000"])), 1, SOON).unwrap();
        assert!(long[0].stdout.len() > 500_000 && long[0].stdout.ends_with(b"\n99999\n100000"));
    }

    #[test]
    fn exit_codes_and_complaints_come_back_and_questions_keep_quiet() {
        let mut shell = shell("/");
        let complains = words(&["sh", "-c", "echo said; echo oops >&2; exit 7"]);
        let text = question(&complains) + &order(&complains, "") + &question(&words(&["no-such-program-here"]));
        let answers = shell.talk(&text, 3, SOON).unwrap();
        assert_eq!((answers[0].code, answers[0].stdout.as_slice()), (Some(7), b"said".as_slice()));
        assert_eq!((answers[1].code, answers[1].reason().as_str()), (Some(7), "oops"));
        assert_eq!(answers[2].code, Some(127));
    }

    #[test]
    fn words_and_input_arrive_as_they_were_and_nobody_reads_what_comes_next() {
        let mut shell = shell("/");
        for word in ["", " ", "it's", "\"", "$HOME", "`id`", "a\nb", "\\n", "*", "-n", "é", "';exit 9;'"] {
            let text = order(&words(&["cat"]), word) + &order(&words(&["printf", "%s", word]), "");
            let text = text + &question(&words(&["cat"])) + &order(&words(&["true"]), "nobody reads this");
            let answers = shell.talk(&text, 4, SOON).unwrap();
            assert_eq!(answers[0].stdout, word.as_bytes());
            assert_eq!(answers[1].stdout, word.as_bytes());
            assert_eq!((answers[2].stdout.len(), answers[3].code), (0, Some(0)));
        }
    }

    #[test]
    fn the_install_directory_may_be_made_meanwhile_and_nothing_else_moves() {
        let dir = tempfile::Builder::new().prefix("xtask shell '").tempdir().unwrap();
        let at = dir.path().join("made");
        let at = at.to_str().unwrap();
        let mut shell = shell(at);
        let here = question(&words(&["here", "pwd"]));
        assert_ne!(shell.talk(&here, 1, SOON).unwrap()[0].code, Some(0));
        let answers = shell.talk(&(order(&words(&["mkdir", at]), "") + &here + &question(&words(&["pwd"]))), 3, SOON);
        let answers = answers.unwrap();
        assert_eq!(String::from_utf8_lossy(&answers[1].stdout).trim_end(), at);
        assert_ne!(String::from_utf8_lossy(&answers[2].stdout).trim_end(), at);
    }

    #[test]
    fn a_shell_that_never_listens_was_told_nothing() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'sudo: a password is required' >&2; exit 1"]);
        let failure = Shell::open(command, &opening("/"), SOON).unwrap_err();
        assert_eq!(failure, Failure::Unreachable("sudo: a password is required".to_owned()));
        let mut command = Command::new("sh");
        command.args(["-c", "echo Welcome; exec sleep 600"]);
        let failure = Shell::open(command, &opening("/"), Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&failure, Failure::Unreachable(why) if why.contains("0.2 s")), "{failure}");
    }

    #[test]
    fn what_has_no_end_is_ended_and_told() {
        let open = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Shell::open(command, &opening("/"), SOON)
        };
        for script in ["yes", "tr '\\0' x </dev/zero"] {
            let failure = open(script).unwrap_err();
            assert!(matches!(&failure, Failure::Unreachable(why) if why.contains("bytes of a greeting")), "{failure}");
        }
        // A node that answers as it likes.
        for (answers, word) in
            [("echo '0 9999999999'; yes", "bytes of an answer"), ("tr '\\0' 1 </dev/zero", "bytes of a greeting")]
        {
            let mut shell = open(&format!("echo '{READY}'; {answers}")).unwrap();
            let failure = shell.talk(&question(&words(&["true"])), 1, SOON).unwrap_err();
            assert!(matches!(&failure, Failure::Unknown(why) if why.contains(word)), "{failure}");
        }
    }

    #[test]
    fn a_connection_that_is_lost_leaves_the_outcome_unknown() {
        let mut lost = shell("/");
        let itself = lost.child.id().to_string();
        let failure = lost.talk(&order(&words(&["kill", "-9", &itself]), ""), 1, SOON).unwrap_err();
        assert!(matches!(&failure, Failure::Unknown(why) if why.contains("ended without a word")), "{failure}");
        let mut hangs = shell("/");
        let failure = hangs.talk(&order(&words(&["sleep", "600"]), ""), 1, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&failure, Failure::Unknown(why) if why.contains("0.2 s")), "{failure}");
        // What a login says is not taken for an answer.
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'Last login: today'; exec sh -s"]);
        let mut shell = Shell::open(command, &opening("/"), SOON).unwrap();
        assert_eq!(shell.talk(&question(&words(&["echo", "x"])), 1, SOON).unwrap()[0].stdout, b"x");
    }
}
