//! `membershipd repair`: what interrupted commands left behind is finished, through the running daemon.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{DONE, Daemon, Output, Problem};
use crate::commands::{Repair, Repaired};
use crate::control::{self, Request};
use crate::fence::RevocationFence;
use crate::history::{Damaged, Mended};
use unibus_core::domain::RoomId;

/// Patience with a mending: a history is read and written twice, through elections at worst.
const MENDING: Duration = Duration::from_secs(180);

/// Arguments of `repair`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Replace the damaged history of this room by one with all that can still be read; nothing else is done
    #[arg(long, value_name = "ROOM")]
    room: Option<RoomId>,
    /// Even if messages are lost with it that no copy gives out now, but may after a restart of the engines
    #[arg(long, requires = "room")]
    without_unreadable: bool,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.output.json;
    if let Some(room) = &args.room {
        return mend(args, room);
    }
    if !json {
        let grace = Repair::<RevocationFence>::GRACE.as_secs();
        eprintln!("looking; a subject that no room uses is looked at twice, {grace} s apart");
    }
    let answer = control::ask(&args.daemon.runtime_dir(), &Request::Repair)
        .map_err(|failure| Problem::Daemon { failure, json })?;
    if json {
        println!("{answer}");
    } else {
        print(answer)?;
    }
    Ok(DONE)
}

/// The history of one room.
fn mend(args: &Args, room: &RoomId) -> Result<u8, Problem> {
    #[derive(Deserialize)]
    struct Answer {
        mended: Mended,
    }
    let json = args.output.json;
    let request = Request::Mend { room: room.clone(), without_unreadable: args.without_unreadable };
    let answer = control::ask_for(&args.daemon.runtime_dir(), &request, MENDING)
        .map_err(|failure| Problem::Daemon { failure, json })?;
    if json {
        println!("{answer}");
        return Ok(DONE);
    }
    let Mended { was_damaged, kept, lost, lost_places, .. } =
        serde_json::from_value::<Answer>(answer).map_err(anyhow::Error::from)?.mended;
    if !was_damaged {
        println!("room {room}: nothing is damaged; its history has {kept} messages");
        return Ok(DONE);
    }
    println!("room {room}: its history was replaced; all {kept} messages that could be read are in it");
    if lost > 0 {
        let places: Vec<String> = lost_places.iter().map(u64::to_string).collect();
        let places = if places.is_empty() { String::new() } else { format!(", at the places {}", places.join(", ")) };
        println!("room {room}: {lost} messages that could not be read are lost{places}");
    }
    Ok(DONE)
}

fn print(answer: Value) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        repaired: Repaired,
        #[serde(default)]
        damaged: Vec<Damaged>,
    }
    let Answer { repaired, damaged } = serde_json::from_value(answer)?;
    let Repaired { owned, claimed, released, never_made, silent, indexed, unnamed } = repaired;
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
    if unnamed > 0 {
        lines.push(format!("and {unnamed} more of these; run it again until nothing is left, and see the audit"));
    }
    lines.extend(damaged.iter().map(|Damaged { room, why }| {
        format!("room {room}: its history is damaged: {why}; next: membershipd repair --room {room}")
    }));
    if lines.is_empty() {
        lines.push("nothing to repair".to_owned());
    }
    println!("{}", lines.join("\n"));
    Ok(())
}
