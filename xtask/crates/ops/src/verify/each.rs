//! The checks that one node's answer decides alone.

use super::{
    Answer, CERTIFICATE, CERTIFICATE_DAYS, Check, Expected, HA_REPLICAS, NoPosture, OLD_LEASE_MS, SKEW_MS, check,
};
use crate::local_time;
use crate::posture::{Disk, Lease, Posture};

/// The id of the check that a staged roll-out with one replica does not pass yet.
pub(super) const HA: &str = "ha";
/// The id of the check of the room on a node's disk.
pub(super) const DISK: &str = "disk";

/// The one check of a node that did not answer.
pub(super) fn unreachable(expected: &Expected, node: &str, why: &NoPosture) -> Check {
    let (restart, log) = (expected.remedies.restart(node), expected.remedies.log(node));
    check("reachable", node, false, "answers".to_owned(), why.to_string(), format!("{restart}; its log: {log}"))
}

/// All checks of a node that did.
pub(super) fn node(expected: &Expected, answer: &Answer, posture: &Posture) -> Vec<Check> {
    let mut found = vec![
        check("reachable", &answer.node, true, "answers".to_owned(), "answers".to_owned(), String::new()),
        words(expected, posture),
        cluster(expected, posture),
        routes(expected, posture),
        lease(expected, posture),
    ];
    found.extend(certificates(expected, answer, posture));
    found.push(clock(answer, posture));
    found.extend(posture.disk.map(|room| disk(&posture.node, room)));
    found.push(ha(expected, posture));
    found
}

fn words(expected: &Expected, posture: &Posture) -> Check {
    let name = posture.cluster.as_ref().map_or("none", |cluster| cluster.name.as_str());
    let pairs = [
        ("bus_auth", "enforce", posture.bus_auth.as_str()),
        ("acl", "true", truth(posture.acl)),
        ("tls", "true", truth(posture.tls)),
        ("store", "kv", posture.store.as_str()),
        ("cluster", expected.cluster.as_str(), name),
    ];
    let show = |(word, value): (&str, &str)| format!("{word}={value}");
    let want = pairs.map(|(word, want, _)| show((word, want))).join(" ");
    let mut differ: Vec<String> =
        pairs.iter().filter(|(_, want, got)| want != got).map(|&(word, _, got)| show((word, got))).collect();
    if !posture.faults.is_empty() {
        differ.push(format!("faults={}", posture.faults.join(",")));
    }
    let ok = differ.is_empty();
    let got = if ok { want.clone() } else { differ.join(" ") };
    let node = &posture.node;
    let remedy = if posture.faults.is_empty() {
        format!("cluster.env of {node} is not what xtask wrote: put it back, then {}", expected.remedies.restart(node))
    } else {
        format!("{node} runs a test build with safeguards switched off: put the released membershipd there")
    };
    check("posture", node, ok, want, got, remedy)
}

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn cluster(expected: &Expected, posture: &Posture) -> Check {
    let want = expected.nodes.len();
    let cluster = posture.cluster.as_ref();
    let size = cluster.and_then(|cluster| cluster.size);
    let strangers: Vec<&str> = cluster
        .iter()
        .flat_map(|cluster| &cluster.peers)
        .filter(|peer| !expected.nodes.contains(peer))
        .map(String::as_str)
        .collect();
    let ok = size.is_some_and(|size| usize::try_from(size) == Ok(want)) && strangers.is_empty();
    let mut got = size.map_or_else(|| "the meta group gave no size".to_owned(), |size| format!("{size} nodes"));
    if !strangers.is_empty() {
        got.push_str(&format!(", unknown: {}", strangers.join(", ")));
    }
    let remedy = if strangers.is_empty() {
        format!("start the nodes that are down; the engine's view: {}", expected.remedies.log(&posture.node))
    } else {
        format!(
            "add {} to the topology, or take it out of the cluster: it holds a certificate of the route CA",
            strangers.join(", ")
        )
    };
    check("cluster", &posture.node, ok, format!("{want} nodes"), got, remedy)
}

fn routes(expected: &Expected, posture: &Posture) -> Check {
    let others: Vec<&str> = expected.nodes.iter().map(String::as_str).filter(|&node| node != posture.node).collect();
    let peers: &[String] = posture.cluster.as_ref().map_or(&[], |cluster| &cluster.peers);
    let missing: Vec<&str> = others.iter().copied().filter(|&other| !peers.iter().any(|peer| peer == other)).collect();
    let got = if missing.is_empty() { others.join(", ") } else { format!("no route to {}", missing.join(", ")) };
    let remedy = format!(
        "see that {} runs and that its route port is reachable; route errors: {}",
        missing.join(", "),
        expected.remedies.log(&posture.node)
    );
    check("routes", &posture.node, missing.is_empty(), others.join(", "), got, remedy)
}

fn lease(expected: &Expected, posture: &Posture) -> Check {
    let lease = &posture.lease;
    if let Some(why) = &posture.stays_out {
        let (want, got) = ("valid".to_owned(), format!("none: {why}"));
        let remedy = format!("install the release of the other nodes there: {}", expected.remedies.verb("roll"));
        return check("lease", &posture.node, false, want, got, remedy);
    }
    let age = lease.age_ms.map_or_else(|| "never renewed".to_owned(), |age| format!("{age} ms old"));
    // A lease that nothing renews is none in a moment.
    let (is_old, is_lost) = (is_old(lease), !expected.has_majority(posture, &[]));
    let ok = lease.valid && !is_old && !is_lost;
    let mut got = format!("{}, {age}", if lease.valid { "valid" } else { "not valid" });
    if lease.valid && is_lost {
        got.push_str(", and there is no majority to renew it");
    }
    let want = format!("valid, at most {OLD_LEASE_MS} ms old, and renewed by a majority");
    let remedy = format!(
        "{} denies everything {}: start the nodes that are down; its log: {}",
        posture.node,
        if lease.valid {
            format!("once its lease is {} ms old", lease.lease_ms)
        } else {
            "until it can write to a majority".to_owned()
        },
        expected.remedies.log(&posture.node)
    );
    check("lease", &posture.node, ok, want, got, remedy)
}

/// Whether a lease is not renewed as it should be.
pub(crate) fn is_old(lease: &Lease) -> bool {
    lease.age_ms.is_some_and(|age| age > OLD_LEASE_MS)
}

fn disk(node: &str, room: Disk) -> Check {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let (want, got) =
        (format!("at least {} free", mib(room.least())), format!("{} of {} free", mib(room.free), mib(room.size)));
    let remedy = format!("make room on the disk of {node}: without any its engine can store nothing more");
    check(DISK, node, !room.is_nearly_full(), want, got, remedy)
}

fn certificates(expected: &Expected, answer: &Answer, posture: &Posture) -> Vec<Check> {
    let node = &posture.node;
    let want = format!("valid for {CERTIFICATE_DAYS} days more");
    let renew = format!("{}, then restart {node}", renewal(expected));
    if posture.certificates.is_empty() {
        return vec![check(CERTIFICATE, node, false, want, "it names no certificate".to_owned(), renew)];
    }
    let now = answer.received_ms / 1000;
    posture
        .certificates
        .iter()
        .map(|certificate| {
            let left = certificate.not_after_unix.saturating_sub(now);
            let ok = left >= CERTIFICATE_DAYS * 86_400;
            let state = if left <= 0 { "expired" } else { "until" };
            let end = local_time::date_and_time(certificate.not_after_unix.saturating_mul(1000));
            let got = format!("{} {state} {end}", certificate.file);
            check(format!("{CERTIFICATE}.{}", certificate.name), node, ok, want.clone(), got, renew.clone())
        })
        .collect()
}

fn renewal(expected: &Expected) -> String {
    if expected.remedies.hosts.is_none() {
        format!("cargo xtask local{} renews what expires at its next start", expected.remedies.state())
    } else {
        expected.remedies.verb("cluster-certs")
    }
}

/// How far a node's clock is off for certain, in milliseconds, and in words. It was read somewhere between sending and
/// receiving; only what lies outside is skew.
pub(crate) fn skew(sent_ms: i64, received_ms: i64, node_ms: i64) -> (i64, String) {
    let ahead = node_ms.saturating_sub(received_ms);
    let behind = sent_ms.saturating_sub(node_ms);
    let skew = ahead.max(behind).max(0);
    let direction = if ahead > behind { "ahead" } else { "behind" };
    (skew, if skew == 0 { "within the round trip".to_owned() } else { format!("{skew} ms {direction}") })
}

fn clock(answer: &Answer, posture: &Posture) -> Check {
    let (skew, got) = skew(answer.sent_ms, answer.received_ms, posture.unix_ms);
    let remedy = "set the clock of that node, or of this machine: both should follow NTP (timedatectl)".to_owned();
    check("clock", &posture.node, skew <= SKEW_MS, format!("within {SKEW_MS} ms"), got, remedy)
}

fn ha(expected: &Expected, posture: &Posture) -> Check {
    let has = posture.kv_replicas;
    let ok = has >= HA_REPLICAS;
    let got = if ok { format!("{has} replicas") } else { format!("not HA: {has} replica(s)") };
    let remedy = expected.remedies.verb(&format!("scale {HA_REPLICAS}"));
    check(HA, &posture.node, ok, format!("at least {HA_REPLICAS} replicas"), got, remedy)
}
