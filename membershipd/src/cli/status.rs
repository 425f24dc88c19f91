//! `membershipd status`: the posture, for people and programs.

use super::table::Table;
use super::{DONE, Daemon, Output, Problem};
use crate::config::{Bounds, EngineBounds, Share};
use crate::control::{self, Request};
use crate::posture::Posture;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.output.json;
    let value = control::ask(&args.daemon.runtime_dir, &Request::Status)
        .map_err(|failure| Problem::Daemon { failure, json })?;
    if json {
        println!("{value}");
        return Ok(DONE);
    }
    let posture: Posture = serde_json::from_value(value).map_err(anyhow::Error::from)?;
    print!("{}", text(&posture));
    Ok(DONE)
}

fn text(p: &Posture) -> String {
    let mut facts = Table::new(&[]);
    let mut row = |name: &str, value: String| facts.row(vec![name.to_owned(), value]);
    row("node", format!("{} (membershipd {}, boot {})", p.node, p.version, p.boot));
    row("posture", format!("bus_auth={} acl={} tls={} store={}", p.bus_auth, p.acl, p.tls, p.store));
    let engine =
        |e: &crate::posture::EngineState| format!("nats-server {}, process {}, sha256 {}", e.version, e.pid, e.sha256);
    row("engine", p.engine.as_ref().map_or("does not run".to_owned(), engine));
    if let Some(c) = &p.cluster {
        let size = c.size.map_or("?".to_owned(), |size| size.to_string());
        let leader = c.leader.as_deref().unwrap_or("none");
        row("cluster", format!("{} of {size}, leader {leader}, routes to {}", c.name, words(&c.peers)));
    }
    let age = p.lease.age_ms.map_or("never proven".to_owned(), |ms| format!("last proof {ms} ms ago"));
    row("lease", format!("{}, {age}", if p.lease.valid { "valid" } else { "NONE: everything is denied" }));
    if let (Some(bytes), Some(days)) = (p.history_bytes, p.history_days) {
        let days = if days == 0 { "without end".to_owned() } else { format!("for {days} days") };
        row("history", format!("{bytes} bytes of a room, {days}"));
    }
    if let (Some(rooms), Some(persisting)) = (p.rooms_by_user, p.persisting_rooms_by_user) {
        let removed = p.removed_rooms_by_user.map(|removed| format!("; {removed} removed ones"));
        let removed = removed.unwrap_or_default();
        row("quota", format!("{rooms} rooms made by a user, {persisting} of them persisting{removed}"));
    }
    if let Some(Bounds { connections, requests, readings, .. }) = &p.bounds {
        let share = |what, share: &Share| format!("{} {what} ({} of an address)", share.all, share.address);
        let bounds = [share("connections", connections), share("requests", requests), share("readings", readings)];
        row("API", format!("at once {}", bounds.join(", ")));
    }
    if let Some(bounds) = &p.engine_bounds {
        let EngineBounds { connections_by_user, logins_by_user, subscriptions_by_user, pending_by_user, .. } = bounds;
        row(
            "bounds",
            format!(
                "a user has {connections_by_user} connections, {logins_by_user} logins/s, {subscriptions_by_user} subscriptions, {} MiB waiting; \
                 the engine's memory {} MiB",
                pending_by_user >> 20,
                bounds.engine_memory >> 20
            ),
        );
    }
    if let Some(highest) = p.highest_level {
        let level = p.level.map_or("unknown without a lease".to_owned(), |level| level.to_string());
        let left = p.rooms_to_carry_over().map(|rooms| format!("; {rooms} rooms are still to be carried over"));
        row("level", format!("{level} (this release can do {highest} at most){}", left.unwrap_or_default()));
    }
    if let Some(why) = &p.stays_out {
        row("STAYS OUT", why.clone());
    }
    row("admins", p.admins.map_or("unknown without a lease".to_owned(), |n| n.to_string()));
    row("clients", p.clients.to_string());
    if let Some(disk) = &p.disk {
        row("disk", format!("{} of {} MiB free", disk.free >> 20, disk.size >> 20));
    }
    for damaged in &p.damaged {
        let (room, why) = (&damaged.room, &damaged.why);
        row("damaged", format!("the history of room {room}: {why}; next: membershipd repair --room {room}"));
    }
    if let Some(more) = p.damaged_more {
        row("damaged", format!("and the histories of {more} more rooms; next: membershipd repair"));
    }
    if !p.faults.is_empty() {
        row("FAULTS", format!("this is a test build with safeguards off: {}", words(&p.faults)));
    }
    let mut replicas = Table::new(&["bucket", "copies", "leader", "holds"]);
    for r in &p.replicas {
        let current = r.current.map_or("?".to_owned(), |n| n.to_string());
        let rooms = r.rooms.map(|rooms| format!(" ({rooms} rooms)")).unwrap_or_default();
        replicas.row(vec![
            format!("{}{rooms}", r.bucket),
            format!("{current} of {}", r.want),
            r.leader.clone().unwrap_or_else(|| "-".to_owned()),
            r.space.map(|space| format!("{} of {} MiB", space.bytes >> 20, space.most >> 20)).unwrap_or_default(),
        ]);
    }
    let mut certificates = Table::new(&["certificate", "ends", "file"]);
    for c in &p.certificates {
        certificates.row(vec![c.name.clone(), c.not_after.clone(), c.file.clone()]);
    }
    [facts, replicas, certificates]
        .iter()
        .filter(|t| !t.is_empty())
        .map(Table::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

fn words(list: &[String]) -> String {
    if list.is_empty() { "nobody".to_owned() } else { list.join(", ") }
}
