//! Which failed check says what is wrong, and which only follows from that.

use super::words;
use super::{Cause, Failed, Scene};
use crate::posture::Posture;
use crate::verify::each::is_old;
use crate::verify::{CLUSTER, Check, Silence};

/// Something that makes several checks fail at once.
#[derive(Debug)]
pub(super) enum Root<'a> {
    /// These gave no posture, for the same kind of reason.
    Silent(Silence, Vec<&'a str>),
    /// Their daemons run, and no engine.
    NoEngine(Vec<&'a str>),
    /// Their releases do not know the cluster's feature level.
    StaysOut(Vec<&'a str>),
    /// Pairs of nodes that run and have no route to each other.
    Cut(Vec<(&'a str, &'a str)>),
    /// No node leads, although enough are there.
    NoLeader,
    /// These have no lease, although others have, or nothing else explains it.
    NoLease(Vec<&'a str>),
    /// The same of leases that are not renewed.
    OldLease(Vec<&'a str>),
}

/// What comes and goes by itself while nodes start and agree.
const PASSING: [&str; 7] = ["cluster", "routes", "lease", "leader", "replicas", "admins", "level"];
/// Where these fail a node may let in whom it should not, which is worse than a node that is missing.
const UNSAFE: [&str; 1] = ["posture"];

/// All causes, what matters most first.
pub(super) fn causes(scene: &Scene<'_>, failed: &[&Check]) -> Vec<Cause> {
    let roots = roots(scene);
    let mut found: Vec<Cause> = roots.iter().map(|root| words::cause(scene, root)).collect();
    let mut own: Vec<&Check> = Vec::new();
    for check in failed {
        let named = Failed { id: check.id.clone(), node: check.node.clone() };
        match attribute(scene, &roots, check).and_then(|index| Some((index, found.get_mut(index)?))) {
            Some((index, cause)) if roots.get(index).is_some_and(|root| root.is_said_by(check)) => {
                words::add_line(&mut cause.got, &check.node, &check.got);
                cause.checks.push(named);
            }
            Some((_, cause)) => cause.consequences.push(named),
            None => own.push(check),
        }
    }
    // A root of which no check fails explains nothing.
    found.retain(|cause| !cause.checks.is_empty() || !cause.consequences.is_empty());
    let (unsafe_ones, others): (Vec<&Check>, Vec<&Check>) =
        own.into_iter().partition(|check| UNSAFE.contains(&family(&check.id)) || is_stranger(scene, check));
    let (unsafe_ones, others) = (by_family(scene, &unsafe_ones), by_family(scene, &others));
    // Where nothing is served, why is what matters.
    let mut all = if scene.works { [unsafe_ones, found].concat() } else { [found, unsafe_ones].concat() };
    all.extend(others);
    all
}

/// `replicas.UNIBUS_users` is one of the `replicas`.
pub(in crate::verify) fn family(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

/// Failed checks of one kind are one cause.
fn by_family(scene: &Scene<'_>, failed: &[&Check]) -> Vec<Cause> {
    let mut families: Vec<(&str, Vec<&Check>)> = Vec::new();
    for &check in failed {
        let name = family(&check.id);
        match families.iter_mut().find(|(known, _)| *known == name) {
            Some((_, of)) => of.push(check),
            None => families.push((name, vec![check])),
        }
    }
    families.sort_by_key(|(name, _)| words::rank(name));
    families.iter().map(|(name, of)| alone(scene, name, of)).collect()
}

fn alone(scene: &Scene<'_>, name: &str, failed: &[&Check]) -> Cause {
    let mut nodes: Vec<String> = Vec::new();
    let mut got = Vec::new();
    for check in failed {
        if check.node != CLUSTER && !nodes.contains(&check.node) {
            nodes.push(check.node.clone());
        }
        words::add_line(&mut got, &check.node, &check.got);
    }
    let checks = failed.iter().map(|check| Failed { id: check.id.clone(), node: check.node.clone() }).collect();
    Cause {
        cause: words::of_family(scene, name, failed),
        nodes,
        got,
        next: failed.first().map_or_else(String::new, |check| check.remedy.clone()),
        checks,
        consequences: Vec::new(),
        passes: PASSING.contains(&name) && failed.iter().all(|check| may_pass(scene, check)),
    }
}

impl Root<'_> {
    /// Whether the check is how the root shows itself, and no consequence.
    fn is_said_by(&self, check: &Check) -> bool {
        let is = |id: &str| family(&check.id) == id;
        match self {
            Self::Silent(..) => is("reachable"),
            Self::NoEngine(nodes) => is("engine") && nodes.contains(&check.node.as_str()),
            Self::Cut(_) => is("routes"),
            Self::NoLeader => is("leader"),
            Self::StaysOut(_) | Self::NoLease(_) | Self::OldLease(_) => is("lease"),
        }
    }

    fn is_about(&self, node: &str) -> bool {
        match self {
            Self::Silent(_, nodes)
            | Self::NoEngine(nodes)
            | Self::StaysOut(nodes)
            | Self::NoLease(nodes)
            | Self::OldLease(nodes) => nodes.contains(&node),
            Self::Cut(pairs) => pairs.iter().any(|&(one, other)| one == node || other == node),
            Self::NoLeader => false,
        }
    }
}

fn peers(posture: &Posture) -> &[String] {
    posture.cluster.as_ref().map_or(&[], |cluster| &cluster.peers)
}

fn roots<'a>(scene: &Scene<'a>) -> Vec<Root<'a>> {
    let mut roots = Vec::new();
    for kind in [Silence::Down, Silence::Mute, Silence::Unreachable, Silence::Unreadable] {
        let nodes: Vec<&str> = scene.silent.iter().filter(|(_, why)| why.kind == kind).map(|&(node, _)| node).collect();
        if !nodes.is_empty() {
            roots.push(Root::Silent(kind, nodes));
        }
    }
    let names = |wanted: &dyn Fn(&Posture) -> bool| -> Vec<&'a str> {
        scene.reached.iter().filter(|(_, posture)| wanted(posture)).map(|(answer, _)| answer.node.as_str()).collect()
    };
    let no_engine = names(&|posture| posture.engine.is_none());
    let stays_out = names(&|posture| posture.stays_out.is_some());
    if !no_engine.is_empty() {
        roots.push(Root::NoEngine(no_engine));
    }
    if !stays_out.is_empty() {
        roots.push(Root::StaysOut(stays_out));
    }
    let cut = cut(scene);
    if !cut.is_empty() {
        roots.push(Root::Cut(cut));
    }
    let lost = roots.iter().any(|root| scene.is_loss(root));
    let leaderless = |posture: &Posture| posture.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_none());
    let no_leader = !lost && !names(&leaderless).is_empty();
    if no_leader {
        roots.push(Root::NoLeader);
    }
    // Without a majority no node has a lease; with one, a node without is alone with that.
    let explained = |node: &&str| roots.iter().any(|root| root.is_about(node));
    let (mut none, mut old) = (Vec::new(), Vec::new());
    if scene.works || !lost && !no_leader {
        none = names(&|posture| !posture.lease.valid);
        none.retain(|node| !explained(node));
    }
    if !lost && !no_leader {
        old = names(&|posture| posture.lease.valid && is_old(&posture.lease));
        old.retain(|node| !explained(node));
    }
    roots.extend((!none.is_empty()).then_some(Root::NoLease(none)));
    roots.extend((!old.is_empty()).then_some(Root::OldLease(old)));
    roots
}

/// Pairs of nodes that run, of which one has no route to the other.
fn cut<'a>(scene: &Scene<'a>) -> Vec<(&'a str, &'a str)> {
    let engines: Vec<(&str, &Posture)> = scene
        .reached
        .iter()
        .filter(|(_, posture)| posture.engine.is_some() && posture.cluster.is_some())
        .map(|&(answer, posture)| (answer.node.as_str(), posture))
        .collect();
    let mut pairs = Vec::new();
    for (index, (one, posture)) in engines.iter().enumerate() {
        for (other, others) in engines.iter().skip(index + 1) {
            let sees = |peers: &[String], node: &str| peers.iter().any(|peer| peer == node);
            if !sees(peers(posture), other) || !sees(peers(others), one) {
                pairs.push((*one, *other));
            }
        }
    }
    pairs
}

/// Whether the check is about members that the topology does not have.
fn is_stranger(scene: &Scene<'_>, check: &Check) -> bool {
    let posture = scene.reached.iter().find(|(answer, _)| answer.node == check.node);
    check.id == "cluster"
        && posture.is_some_and(|(_, posture)| peers(posture).iter().any(|peer| !scene.expected.nodes.contains(peer)))
}

/// The root that a failed check is of; none where it stands for itself.
fn attribute(scene: &Scene<'_>, roots: &[Root<'_>], check: &Check) -> Option<usize> {
    let node = check.node.as_str();
    let first = |is: &dyn Fn(&Root<'_>) -> bool| roots.iter().position(is);
    let about = |is: &dyn Fn(&Root<'_>) -> bool| first(&|root| is(root) && root.is_about(node));
    let silent = |root: &Root<'_>| matches!(root, Root::Silent(..));
    let no_engine = |root: &Root<'_>| matches!(root, Root::NoEngine(_));
    let without_lease = |root: &Root<'_>| matches!(root, Root::StaysOut(_) | Root::NoLease(_) | Root::OldLease(_));
    let loss = |root: &Root<'_>| scene.is_loss(root);
    let no_leader = |root: &Root<'_>| matches!(root, Root::NoLeader);
    let posture = scene.reached.iter().find(|(answer, _)| answer.node == node).map(|&(_, posture)| posture);
    match family(&check.id) {
        "reachable" => about(&silent),
        "engine" if posture.is_some_and(|posture| posture.engine.is_none()) => about(&no_engine),
        "cluster" if is_stranger(scene, check) => None,
        "cluster" => about(&no_engine).or_else(|| first(&loss)),
        "routes" => about(&no_engine).or_else(|| {
            let missing = |root: &Root<'_>| match root {
                Root::Silent(_, nodes) | Root::NoEngine(nodes) => {
                    posture.is_some_and(|posture| nodes.iter().any(|&other| !peers(posture).iter().any(|p| p == other)))
                }
                Root::Cut(_) => root.is_about(node),
                _ => false,
            };
            // Between two that run it is a cause of its own, even while a third is down.
            first(&|root| matches!(root, Root::Cut(_)) && missing(root)).or_else(|| first(&missing))
        }),
        "lease" => {
            about(&no_engine).or_else(|| about(&without_lease)).or_else(|| first(&loss)).or_else(|| first(&no_leader))
        }
        "leader" => about(&no_engine).or_else(|| first(&loss)).or_else(|| first(&no_leader)),
        "replicas" if is_short_of_copies(scene, posture, check) => None,
        "replicas" => {
            about(&no_engine).or_else(|| first(&loss)).or_else(|| about(&without_lease)).or_else(|| first(&no_leader))
        }
        "admins" if scene.reached.iter().any(|(_, posture)| posture.admins.is_none()) => first(&loss)
            .filter(|_| !scene.works)
            .or_else(|| first(&no_engine))
            .or_else(|| first(&without_lease))
            .or_else(|| first(&loss)),
        _ => None,
    }
}

/// Whether a failed check of a kind that passes does so in this case.
fn may_pass(scene: &Scene<'_>, check: &Check) -> bool {
    let posture = scene.reached.iter().find(|(answer, _)| answer.node == check.node).map(|&(_, posture)| posture);
    let size = posture.and_then(|posture| posture.cluster.as_ref()?.size);
    match family(&check.id) {
        "cluster" => {
            !is_stranger(scene, check)
                && size.is_none_or(|size| usize::try_from(size).is_ok_and(|size| size < scene.expected.nodes.len()))
        }
        "replicas" => !is_short_of_copies(scene, posture, check),
        "admins" => check.got != "0",
        _ => true,
    }
}

/// Whether a bucket is set to have fewer copies than the topology wants: no start of a node mends that.
fn is_short_of_copies(scene: &Scene<'_>, posture: Option<&Posture>, check: &Check) -> bool {
    let bucket = check.id.split_once('.').map(|(_, bucket)| bucket);
    let replica = posture.and_then(|posture| posture.replicas.iter().find(|one| Some(one.bucket.as_str()) == bucket));
    replica.is_some_and(|replica| replica.want < scene.expected.kv_replicas)
}
