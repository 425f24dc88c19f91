//! `membershipd status`: whether the nodes are well, for people and programs.

use super::api::{Api, Signing, or_as_admin};
use super::table::Table;
use super::wait::{Goal, missing};
use super::{DONE, Daemon, FAILED, Problem};
use crate::config::{Bounds, EngineBounds, Share};
use crate::control::{self, Request};
use crate::posture::Posture;
use unibus_client::api::{self, Status};
use unibus_names::printable::one_line;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --identity, or UNIBUS_IDENTITY, it is an admin who asks, and sees all nodes of the cluster, through the API of any of \
                  them; ends with 1 where a node is not well. Without, or where --runtime-dir names a daemon, it is root on that machine, \
                  who sees the posture of its daemon."
)]
pub(super) struct Args {
    #[command(flatten)]
    api: Api,
    #[command(flatten)]
    daemon: Daemon,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.api.json();
    if args.api.signing(&args.daemon) == Signing::User {
        return of_cluster(&args.api);
    }
    let value = control::ask(&args.daemon.runtime_dir(), &Request::Status)
        .map_err(|failure| or_as_admin(Problem::Daemon { failure, json }, &args.daemon))?;
    if json {
        println!("{value}");
        return Ok(DONE);
    }
    let posture: Posture = serde_json::from_value(value).map_err(anyhow::Error::from)?;
    print!("{}", text(&posture));
    Ok(DONE)
}

/// All nodes, as the one says that is asked.
fn of_cluster(api: &Api) -> Result<u8, Problem> {
    let value = api.run(async |client| client.ask(&api::Request::get("/v1/status")).await)?;
    let status: Status = serde_json::from_value(value.clone()).map_err(anyhow::Error::from)?;
    let nodes = serde_json::from_value(serde_json::Value::Array(status.nodes.clone()));
    let nodes: Vec<Posture> = nodes.map_err(anyhow::Error::from)?;
    let headline = Headline::of(&status, &nodes);
    if api.json() {
        println!("{value}");
    } else {
        println!("{}\n", one_line(&headline.text));
        print!("{}", table(&status, &nodes));
    }
    Ok(if headline.well { DONE } else { FAILED })
}

/// What is the matter, in a line: the cause first.
#[derive(Debug, PartialEq, Eq)]
struct Headline {
    text: String,
    well: bool,
}

impl Headline {
    /// A node that answers through the API has a lease: so the bus works. What other nodes say of one that does not answer is a
    /// consequence.
    fn of(status: &Status, nodes: &[Posture]) -> Self {
        let denying: Vec<&str> = nodes.iter().filter(|of| !of.lease.valid).map(|of| of.node.as_str()).collect();
        let working = nodes.len() - denying.len();
        let unheard = status.expected.saturating_sub(nodes.len() + status.silent.len());
        let mut causes = Vec::new();
        if !status.silent.is_empty() {
            causes.push(format!("no answer from {}", status.silent.join(", ")));
        }
        if unheard > 0 {
            causes.push(format!("{unheard} of the nodes were never heard of"));
        }
        if !denying.is_empty() {
            causes.push(format!("no lease, so everything is denied, on {}", denying.join(", ")));
        }
        if causes.is_empty() {
            causes.extend(nodes.iter().find_map(|of| missing(Goal::Current, of)));
        }
        let well = causes.is_empty();
        causes.push(format!("the bus works ({working} of {} nodes)", status.expected));
        Self { text: causes.join("; "), well }
    }
}

fn table(status: &Status, nodes: &[Posture]) -> Table {
    let mut table = Table::new(&[
        "node",
        "lease",
        "version",
        "engine",
        "level",
        "clients",
        "leader",
        "first certificate ends",
        "lacks",
    ]);
    let dash = || "-".to_owned();
    for of in nodes {
        let lease = match of.lease.age_ms {
            Some(age) if of.lease.valid => format!("{age} ms old"),
            _ => "NONE".to_owned(),
        };
        let first = of.certificates.iter().min_by_key(|of| of.not_after_unix);
        table.row(vec![
            of.node.clone(),
            lease,
            of.version.clone(),
            of.engine.as_ref().map_or_else(|| "does not run".to_owned(), |engine| engine.version.clone()),
            of.level.map_or_else(dash, |level| level.to_string()),
            of.clients.to_string(),
            of.cluster.as_ref().and_then(|cluster| cluster.leader.clone()).unwrap_or_else(dash),
            first.map_or_else(dash, |of| format!("{} ({})", of.not_after, of.name)),
            missing(Goal::Current, of).unwrap_or_default(),
        ]);
    }
    for node in &status.silent {
        table.row(vec![node.clone(), "no answer".to_owned()]);
    }
    table
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

#[cfg(test)]
mod tests {
    use super::super::wait::healthy;
    use super::*;

    #[test]
    fn the_first_line_names_the_cause_and_not_what_follows_from_it() {
        let node = |name: &str| Posture { node: name.to_owned(), ..healthy() };
        let status = |silent: &[&str]| {
            let silent = silent.iter().map(|node| (*node).to_owned()).collect();
            Status { node: "magnus".to_owned(), expected: 3, nodes: Vec::new(), silent }
        };
        let all = || ["datardos", "homer", "magnus"].map(node);
        let headline = |silent: &[&str], nodes: &[Posture]| {
            let Headline { text, well } = Headline::of(&status(silent), nodes);
            (text, well)
        };
        assert_eq!(headline(&[], &all()), ("the bus works (3 of 3 nodes)".to_owned(), true));
        let mut left = [node("datardos"), node("magnus")];
        left[1].cluster.as_mut().unwrap().unrouted.push("homer".to_owned());
        let down = "no answer from homer; the bus works (2 of 3 nodes)".to_owned();
        assert_eq!(headline(&["homer"], &left), (down, false));
        let mut cut = all();
        cut[0].lease.valid = false;
        let (text, well) = headline(&[], &cut);
        assert!(
            text.starts_with("no lease") && text.contains("datardos") && text.ends_with("(2 of 3 nodes)") && !well,
            "{text}"
        );
        let (text, well) = headline(&[], &[node("magnus")]);
        assert!(text.starts_with("2 of the nodes were never heard of") && !well, "{text}");
        let mut unrouted = all();
        unrouted[2].cluster.as_mut().unwrap().unrouted.push("homer".to_owned());
        let (text, well) = headline(&[], &unrouted);
        assert!(text.starts_with("magnus has no route to homer") && !well, "{text}");
    }
}
