//! How root and the daemon's own user ask the daemon of this machine.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use unibus_api_types::control::{ANSWER_BYTES, Answer, Failure, socket};

/// Longest wait for an answer: a revocation waits its bound out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the daemon that runs with `runtime_dir`. What it can be asked is [`unibus_api_types::control::Request`]; a relay passes on what it was given.
pub fn ask(runtime_dir: &Path, request: &impl Serialize) -> Result<serde_json::Value, Failure> {
    ask_for(runtime_dir, request, PATIENCE)
}

/// The same, for a caller that cannot wait that long.
pub fn ask_for(runtime_dir: &Path, request: &impl Serialize, patience: Duration) -> Result<serde_json::Value, Failure> {
    let path = socket(runtime_dir);
    let fail = |code: &str, message: String, remedy: &str| Failure {
        code: code.to_owned(),
        message,
        remedy: remedy.to_owned(),
    };
    let exchange = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(patience))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream.take(ANSWER_BYTES)).read_line(&mut answer)?;
        if answer.len() as u64 >= ANSWER_BYTES {
            return Err(std::io::Error::other(format!("the answer is longer than {ANSWER_BYTES} bytes")));
        }
        Ok(answer)
    };
    let answer = exchange().map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            let message = format!("no daemon answers at {}", path.display());
            fail("not_running", message, "start it, or name its directory with --runtime-dir")
        }
        ErrorKind::PermissionDenied => {
            let message = format!("{} is for root and the daemon's own user", path.display());
            fail("forbidden", message, "run this as root or as that user")
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            let message = format!("the daemon did not answer within {} s: the outcome is unknown", patience.as_secs());
            fail("unknown", message, "ask again; repeating is safe")
        }
        _ => fail("io", format!("cannot ask {}: {error}", path.display()), "see the daemon's log"),
    })?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Error(failure)) => Err(failure),
        Err(_) => Err(fail(
            "unknown",
            "the daemon ended before it answered: the outcome is unknown".to_owned(),
            "see its log, and ask again; repeating is safe",
        )),
    }
}
