//! `membershipd scale`: more copies of every bucket, in place, through the running daemon.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::wait::{copy, look, stored, until};
use super::{DONE, Daemon, FAILED, Output, Problem};
use crate::config::SQLITE;
use crate::control::{self, Failure, Request};
use crate::posture::{Posture, SCHEMA};
use unibus_core::bus;
use unibus_store::Raised;

/// Patience with one answer: the daemon tries for a while by itself.
const ANSWER: Duration = Duration::from_secs(30);
/// Longer than a daemon takes from one look at the streams of rooms to the end of the next.
const ROOMS_LOOK: Duration = Duration::from_secs(15);

/// Arguments of `scale`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Copies that every bucket shall have: 1, 3 or 5
    #[arg(value_name = "N")]
    copies: usize,
    /// Change nothing; exit 0 if it is so already, else 1
    #[arg(long)]
    check: bool,
    /// How long to wait until all copies are current; what was begun goes on afterwards
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    within: u64,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.output.json;
    let started = Instant::now();
    let waited = if args.check {
        let posture = look(&args.daemon, ANSWER).map_err(|failure| Problem::Daemon { failure, json })?;
        match buckets(args.copies, &posture) {
            // What is known of the streams of rooms may be older than what was done about them.
            None => until(started + ROOMS_LOOK, json, || {
                look(&args.daemon, ANSWER).map(|posture| rooms(args.copies, &posture))
            })?,
            some => some,
        }
    } else {
        until(started + Duration::from_secs(args.within), json, || raise(args))?
    };
    if json {
        let waited_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (copies, ok) = (args.copies, waited.is_none());
        let answer = json!({ "schema": SCHEMA, "copies": copies, "ok": ok, "missing": waited, "waited_ms": waited_ms });
        println!("{answer}");
    }
    match waited {
        None => {
            if !json {
                println!("every bucket has {} copies, all current", args.copies);
            }
            Ok(DONE)
        }
        Some(missing) => {
            eprintln!("membershipd: not scaled to {}: {missing}", args.copies);
            if !args.check {
                eprintln!("  remedy: start the nodes that are down, and run it again: repeating is safe");
            }
            Ok(FAILED)
        }
    }
}

/// One round: asks for the copies and looks whether all are there. What an outage may cause is only missing for now.
fn raise(args: &Args) -> Result<Option<String>, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        buckets: Vec<Raised>,
    }
    let request = Request::Scale { copies: args.copies };
    let answer = match control::ask_for(&args.daemon.runtime_dir(), &request, ANSWER) {
        Ok(answer) => answer,
        Err(failure) if matches!(failure.code.as_str(), "unavailable" | "unknown") => {
            return Ok(Some(failure.message));
        }
        Err(failure) => return Err(failure),
    };
    let answer: Answer = serde_json::from_value(answer).map_err(|error| Failure {
        code: "version".to_owned(),
        message: format!("the daemon's answer is not understood: {error}"),
        remedy: "use the membershipd of the running version".to_owned(),
    })?;
    // What became of the streams of rooms the posture says.
    let buckets = answer.buckets.into_iter().filter(|of| of.bucket != bus::HISTORY);
    let failed = buckets.into_iter().find_map(|of| Some(format!("{}: {}", of.bucket, of.error?)));
    if failed.is_some() {
        return Ok(failed);
    }
    look(&args.daemon, ANSWER).map(|posture| missing(args.copies, &posture))
}

/// The first bucket, or else the streams of rooms, of which there is another number of copies, or not all are current.
fn missing(copies: usize, posture: &Posture) -> Option<String> {
    buckets(copies, posture).or_else(|| rooms(copies, posture))
}

fn buckets(copies: usize, posture: &Posture) -> Option<String> {
    if posture.store == SQLITE && copies != 1 {
        return Some("its entries are in one file, which has no copies".to_owned());
    }
    let other = stored(posture).find_map(|name| {
        let of = posture.replicas.iter().find(|replica| replica.bucket == name && replica.current.is_some())?;
        (of.want != copies).then(|| format!("{} is set to have {} copies", of.bucket, of.want))
    });
    other.or_else(|| copy(posture))
}

/// The streams of rooms, the damaged ones apart: those are named, and hold nothing up.
fn rooms(copies: usize, posture: &Posture) -> Option<String> {
    let of = posture.replicas.iter().find(|replica| replica.bucket == bus::HISTORY)?;
    let current = of.current.unwrap_or_default();
    (of.want != copies || current < copies)
        .then(|| format!("{} is set to have {} copies, of which {current} are current", of.bucket, of.want))
}
