//! `membershipd repair`: what interrupted commands left behind is finished, through the running daemon.

use serde::Deserialize;
use serde_json::Value;

use super::{DONE, Daemon, Output, Problem};
use crate::commands::{Repair, Repaired};
use crate::control::{self, Request};
use crate::fence::RevocationFence;

/// Arguments of `repair`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.output.json;
    if !json {
        let grace = Repair::<RevocationFence>::GRACE.as_secs();
        eprintln!("looking; a subject that no room uses is looked at twice, {grace} s apart");
    }
    let answer = control::ask(&args.daemon.runtime_dir, &Request::Repair)
        .map_err(|failure| Problem::Daemon { failure, json })?;
    if json {
        println!("{answer}");
    } else {
        print(answer)?;
    }
    Ok(DONE)
}

fn print(answer: Value) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        repaired: Repaired,
    }
    let Repaired { owned, claimed, released, never_made, silent, indexed } =
        serde_json::from_value::<Answer>(answer)?.repaired;
    let mut lines = Vec::new();
    lines.extend(owned.iter().map(|room| format!("room {room}: whoever made it is in it now")));
    lines.extend(claimed.iter().map(|subject| format!("subject {subject}: claimed again for its room")));
    lines.extend(released.iter().map(|subject| format!("subject {subject}: free again")));
    lines.extend(never_made.iter().map(|room| format!("room {room}: never came to be; its id is spent")));
    lines.extend(silent.iter().map(|room| {
        format!("room {room}: its subject is another room's; next: membershipd room set {room} --subject SUBJECT")
    }));
    if indexed > 0 {
        lines.push(format!("{indexed} entries of the index of rooms by member put right"));
    }
    if lines.is_empty() {
        lines.push("nothing to repair".to_owned());
    }
    println!("{}", lines.join("\n"));
    Ok(())
}
