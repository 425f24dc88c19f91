//! `membershipd control`: relays requests to the running daemon, for tools that keep one ssh session open.
//!
//! A line `{"id": …, "request": {…}}` of standard input becomes a line `{"id": …, "answer": {…}}` of standard output. Lines
//! are worked side by side, because a revocation takes its bound to answer, so the answers come in any order: that is what
//! the id is for.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DONE, Daemon, Problem};
use crate::control::{self, Answer, Failure};

/// Requests under way at once; the next line is read when one of them was answered.
const AT_ONCE: usize = 256;

/// Arguments of `control`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    #[serde(default)]
    id: Option<Value>,
    request: Value,
}

#[derive(Serialize)]
struct Answered {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    answer: Answer,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    relay(std::io::stdin().lock(), &args.daemon.runtime_dir())?;
    Ok(DONE)
}

fn relay(input: impl BufRead, runtime_dir: &Path) -> anyhow::Result<()> {
    // What lies in the channel is under way: putting something in waits while it is full.
    let (begin, under_way) = mpsc::sync_channel(AT_ONCE);
    let under_way = Mutex::new(under_way);
    let written = Mutex::new(Ok(()));
    std::thread::scope(|scope| {
        for line in input.lines() {
            let line = line.context("cannot read the requests")?;
            if line.trim().is_empty() {
                continue;
            }
            begin.send(()).context("the relay's own count broke")?;
            let (under_way, written) = (&under_way, &written);
            scope.spawn(move || {
                if let Err(error) = say(&work(&line, runtime_dir)) {
                    *lock(written) = Err(error);
                }
                let _ = lock(under_way).recv();
            });
            if lock(written).is_err() {
                break; // Nobody hears the answers any more.
            }
        }
        anyhow::Ok(())
    })?;
    written.into_inner().unwrap_or_else(PoisonError::into_inner).context("cannot write an answer")
}

fn work(line: &str, runtime_dir: &Path) -> Answered {
    match serde_json::from_str(line) {
        Ok(Question { id, request }) => {
            let answer = control::ask(runtime_dir, &request).map_or_else(Answer::Error, Answer::Ok);
            Answered { id, answer }
        }
        Err(error) => {
            // A broken question may still say whose it is.
            let id = serde_json::from_str::<Value>(line).ok().and_then(|value| value.get("id").cloned());
            let answer = Answer::Error(Failure {
                code: "bad_request".to_owned(),
                message: format!("the line is not understood: {error}"),
                remedy: r#"write {"id": …, "request": {"verb": …}}, one a line"#.to_owned(),
            });
            Answered { id, answer }
        }
    }
}

fn say(answered: &Answered) -> std::io::Result<()> {
    let mut line = serde_json::to_string(answered)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

// The data under these locks is whole at every moment, also after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
