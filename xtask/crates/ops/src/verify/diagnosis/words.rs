//! Causes in words, and the command that is given next.

use std::collections::BTreeMap;

use super::causes::Root;
use super::{Cause, Scene};
use crate::posture::{Certificate, Posture};
use crate::verify::{CERTIFICATE_DAYS, CLUSTER, Check, Silence};

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let mut names: Vec<T> = names.into_iter().collect();
    let Some(last) = names.pop() else { return String::new() };
    if names.is_empty() {
        return last.as_ref().to_owned();
    }
    let first = names.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    format!("{first} and {}", last.as_ref())
}

/// The first cause, and how many more there are.
pub(super) fn first_of(causes: &[Cause]) -> String {
    let Some((first, more)) = causes.split_first() else { return "nothing was asked".to_owned() };
    match more.len() {
        0 => first.cause.clone(),
        1 => format!("{}, and 1 thing more", first.cause),
        count => format!("{}, and {count} things more", first.cause),
    }
}

/// Adds what a check found, with its node; the same of several nodes is one line.
pub(super) fn add_line(lines: &mut Vec<String>, node: &str, got: &str) {
    let line = if node == CLUSTER { got.to_owned() } else { format!("{node}: {got}") };
    let says_the_same = |line: &&mut String| line.split_once(": ").is_some_and(|(_, known)| known == got);
    match lines.iter_mut().find(says_the_same).filter(|_| node != CLUSTER) {
        Some(known) => {
            let nodes = known.split(": ").next().unwrap_or_default().to_owned();
            if !nodes.split(", ").any(|one| one == node) {
                *known = format!("{nodes}, {node}: {got}");
            }
        }
        None => lines.push(line),
    }
}

/// Which kinds of failed checks are told first where nothing else is wrong.
pub(super) fn rank(family: &str) -> usize {
    const ORDER: [&str; 12] = [
        "posture",
        "cluster",
        "admins",
        "certificate",
        "disk",
        "routes",
        "leader",
        "replicas",
        "engine",
        "version",
        "level",
        "clock",
    ];
    ORDER.iter().position(|known| *known == family).unwrap_or(ORDER.len())
}

/// One word or the other, by the number of nodes.
fn by_count<'a>(nodes: &[&str], one: &'a str, several: &'a str) -> &'a str {
    if nodes.len() == 1 { one } else { several }
}

/// A root as a cause, still without the checks that it explains.
pub(super) fn cause(scene: &Scene<'_>, root: &Root<'_>) -> Cause {
    let remedies = &scene.expected.remedies;
    let doctor = || match &remedies.hosts {
        Some(_) => remedies.verb("doctor --nodes"),
        None => remedies.verb("logs"),
    };
    let first =
        |nodes: &[&str], command: &dyn Fn(&str) -> String| nodes.first().map_or_else(String::new, |node| command(node));
    let log = |node: &str| remedies.log(node);
    let (cause, nodes, next): (String, Vec<&str>, String) = match root {
        Root::Silent(kind, nodes) => {
            let names = list(nodes);
            let (text, next) = match kind {
                Silence::Down => (
                    format!("{names} {} down", by_count(nodes, "is", "are")),
                    first(nodes, &|node| remedies.start(node)),
                ),
                Silence::Mute => {
                    let text = format!("{names} {} no answer", by_count(nodes, "gives", "give"));
                    (text, first(nodes, &|node| remedies.restart(node)))
                }
                Silence::Unreachable => {
                    let seen = if nodes.iter().any(|node| scene.lost.contains(node)) || scene.reached.is_empty() {
                        ""
                    } else {
                        ", and the other nodes reach "
                    };
                    let them = if seen.is_empty() { "" } else { by_count(nodes, "it", "them") };
                    (format!("{names} cannot be asked from here{seen}{them}"), doctor())
                }
                Silence::Unreadable => (format!("what {names} answers is not understood"), first(nodes, &log)),
            };
            (text, nodes.clone(), next)
        }
        Root::NoEngine(nodes) => {
            let text = match nodes.as_slice() {
                [node] => format!("the engine of {node} does not run"),
                _ => format!("the engines of {} do not run", list(nodes)),
            };
            (text, nodes.clone(), first(nodes, &log))
        }
        Root::StaysOut(nodes) => {
            let text = format!("the release of {} is older than the cluster's feature level", list(nodes));
            (text, nodes.clone(), first(nodes, &|node| remedies.verb(&format!("roll --node {node} --yes"))))
        }
        Root::Cut(pairs) => (cut(pairs), of_pairs(pairs), doctor()),
        Root::NoLeader => {
            ("the cluster elects a leader, which takes up to 9 s".to_owned(), Vec::new(), remedies.verb("verify"))
        }
        Root::NoLease(nodes) => {
            let text = format!(
                "{} {} no lease and {} everything",
                list(nodes),
                by_count(nodes, "has", "have"),
                by_count(nodes, "denies", "deny")
            );
            (text, nodes.clone(), first(nodes, &log))
        }
        Root::OldLease(nodes) => {
            let age = |posture: &Posture| posture.lease.age_ms.filter(|_| nodes.contains(&posture.node.as_str()));
            let oldest = scene.reached.iter().filter_map(|(_, posture)| age(posture)).max().unwrap_or_default();
            let what = by_count(nodes, "the lease", "the leases");
            let text = format!(
                "{what} of {} {} not renewed for {}.{} s",
                list(nodes),
                by_count(nodes, "was", "were"),
                oldest / 1000,
                oldest % 1000 / 100
            );
            (text, nodes.clone(), first(nodes, &log))
        }
    };
    Cause {
        cause,
        nodes: nodes.into_iter().map(str::to_owned).collect(),
        got: Vec::new(),
        next,
        checks: Vec::new(),
        consequences: Vec::new(),
        passes: !matches!(root, Root::StaysOut(_)),
    }
}

fn of_pairs<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let mut nodes = Vec::new();
    for node in pairs.iter().flat_map(|&(one, other)| [one, other]) {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

fn cut(pairs: &[(&str, &str)]) -> String {
    // One that occurs in every pair is the one that is cut off.
    let alone = of_pairs(pairs).into_iter().find(|node| pairs.iter().all(|(one, other)| one == node || other == node));
    match (pairs, alone) {
        ([(one, other)], _) => format!("{one} and {other} have no route to each other"),
        (_, Some(node)) => {
            let others = pairs.iter().map(|&(one, other)| if one == node { other } else { one });
            format!("{node} has no route to {}", list(others))
        }
        _ => format!("{} have no routes to each other", list(of_pairs(pairs))),
    }
}

/// Failed checks of one kind that nothing else explains.
pub(super) fn of_family(scene: &Scene<'_>, family: &str, failed: &[&Check]) -> String {
    let mut nodes: Vec<&str> = failed.iter().map(|check| check.node.as_str()).collect();
    nodes.dedup();
    let names = list(&nodes);
    let got = failed.first().map_or("", |check| check.got.as_str());
    match family {
        "posture" => format!(
            "{names} {} less than {} should: {got}",
            by_count(&nodes, "protects", "protect"),
            by_count(&nodes, "it", "they")
        ),
        "certificate" => certificates(scene, &nodes).unwrap_or_else(|| format!("{names}: {got}")),
        "version" => mixed(scene, "releases", |posture| Some(posture.version.clone()))
            .unwrap_or_else(|| format!("{names} {} a test build", by_count(&nodes, "runs", "run"))),
        "level" => mixed(scene, "feature levels", |posture| Some(posture.level?.to_string()))
            .unwrap_or_else(|| format!("{names}: level {got}")),
        "engine" => format!(
            "{names} {} another nats-server than {} should",
            by_count(&nodes, "runs", "run"),
            by_count(&nodes, "it", "they")
        ),
        "disk" => format!(
            "{} of {names} {} nearly full ({got})",
            by_count(&nodes, "the disk", "the disks"),
            by_count(&nodes, "is", "are")
        ),
        "clock" => format!(
            "{} of {names} {} off: {got}",
            by_count(&nodes, "the clock", "the clocks"),
            by_count(&nodes, "is", "are")
        ),
        "ha" => "there is one copy of each bucket, so the loss of one node stops authentication".to_owned(),
        "replicas" => format!("copies are not current ({names})"),
        "leader" => format!("the nodes disagree about who leads ({names})"),
        "cluster" => format!("the engines count other nodes than the topology has: {got}"),
        "admins" if got == "0" => "there is no admin".to_owned(),
        "admins" => format!("the nodes count admins differently: {got}"),
        _ => format!("{names} {} other settings than the others: {family} {got}", by_count(&nodes, "has", "have")),
    }
}

/// `mixed releases: 0.2.0 on homer, 0.1.0 on magnus and datardos`; none where all say the same.
fn mixed(scene: &Scene<'_>, what: &str, says: impl Fn(&Posture) -> Option<String>) -> Option<String> {
    let mut said: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (answer, posture) in &scene.reached {
        said.entry(says(posture)?).or_default().push(&answer.node);
    }
    if said.len() < 2 {
        return None;
    }
    let parts: Vec<String> = said.iter().map(|(value, nodes)| format!("{value} on {}", list(nodes))).collect();
    Some(format!("mixed {what}: {}", parts.join(", ")))
}

/// When the first of these nodes' certificates ends.
fn certificates(scene: &Scene<'_>, nodes: &[&str]) -> Option<String> {
    let of = |node: &str| scene.reached.iter().find(|(answer, _)| answer.node == node);
    let left = |now: i64, certificate: &Certificate| certificate.not_after_unix.saturating_sub(now);
    let ends = nodes.iter().filter_map(|node| of(node)).flat_map(|(answer, posture)| {
        posture
            .certificates
            .iter()
            .map(move |certificate| (left(answer.received_ms / 1000, certificate), answer, certificate))
    });
    let (left, answer, certificate) =
        ends.min_by_key(|(left, ..)| *left).filter(|(left, ..)| *left < CERTIFICATE_DAYS * 86_400)?;
    let whose = format!("the certificate {} of {}", certificate.file, answer.node);
    Some(match left / 86_400 {
        _ if left <= 0 => format!("{whose} has ended"),
        0 => format!("{whose} ends in {} h", left / 3600),
        1 => format!("{whose} ends in 1 day"),
        days => format!("{whose} ends in {days} days"),
    })
}
