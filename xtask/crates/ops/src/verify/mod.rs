//! Whether the cluster is what it should be: a pure judgement over what its nodes say.

mod across;
mod ask;
mod diagnosis;
mod each;
mod readiness;
mod report;

use std::collections::BTreeMap;

use serde::Serialize;

pub use ask::{Answer, NoPosture, ask_all, unix_ms};
pub(crate) use ask::{Silence, ask};
pub use diagnosis::{Cause, Diagnosis, Failed, State, diagnose};
pub(crate) use each::{is_old, skew};
pub use readiness::lacks;
pub use report::{headline, json, missing, summary, table};

use crate::posture::Posture;
use crate::staging::UNIT;

/// The node of a check that is about the cluster as a whole.
pub const CLUSTER: &str = "*";
/// What the ids of the checks of certificates begin with.
pub(crate) const CERTIFICATE: &str = "certificate";
/// A certificate that ends sooner than this fails.
pub(crate) const CERTIFICATE_DAYS: i64 = 30;
/// How far a node's clock may be from ours, beyond what the round trip explains.
pub(crate) const SKEW_MS: i64 = 2_000;
/// The proof behind a lease is renewed once a second; one that is older than this is not renewed as it should be.
pub(crate) const OLD_LEASE_MS: u64 = 5_000;
/// Fewer replicas than this do not survive the loss of a node.
const HA_REPLICAS: u32 = 3;

/// One thing that must hold, and whether it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked; scripts know it by this.
    pub id: String,
    /// The node, or [`CLUSTER`].
    pub node: String,
    /// Whether it holds.
    pub ok: bool,
    pub(crate) want: String,
    pub(crate) got: String,
    /// What to do; empty when all is well.
    pub remedy: String,
    /// It holds, and there is something to be seen to all the same: what lies in rooms is damaged, which decides nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub warns: bool,
    /// It holds, and is worth knowing: something is not finished, and may stay so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub informs: bool,
}

/// What the operator's files say the cluster is.
#[derive(Clone, Debug)]
pub struct Expected {
    pub(crate) cluster: String,
    pub(crate) nodes: Vec<String>,
    pub(crate) kv_replicas: u32,
    /// None: any engine is right that all nodes have.
    pub engine: Option<ExpectedEngine>,
    /// A build with switchable faults may run here: only where tests run, never on a server.
    pub test_build: bool,
    /// How commands name this cluster.
    pub remedies: Remedies,
}

/// The nats-server that should run.
#[derive(Clone, Debug)]
pub struct ExpectedEngine {
    pub(crate) version: String,
    /// Of the program.
    pub sha256: String,
}

/// How the operator types a verb for this cluster.
#[derive(Clone, Debug)]
pub struct Remedies {
    /// The flags that choose the cluster, with a space before them, or nothing.
    pub flags: String,
    /// The host that ssh knows each node by; none for a cluster that `local` started.
    pub hosts: Option<BTreeMap<String, String>>,
}

impl Remedies {
    /// A verb of xtask, for this cluster.
    pub fn verb(&self, verb: &str) -> String {
        format!("cargo xtask {verb}{}", self.flags)
    }

    /// Starts a node that is down.
    fn start(&self, node: &str) -> String {
        self.on(node, "start", &format!("systemctl start {UNIT}"))
    }

    /// Starts a node again.
    fn restart(&self, node: &str) -> String {
        self.on(node, "restart", &format!("systemctl restart {UNIT}"))
    }

    /// Reads a node's log.
    pub fn log(&self, node: &str) -> String {
        self.verb(&format!("logs {node}"))
    }

    fn on(&self, node: &str, here: &str, there: &str) -> String {
        match &self.hosts {
            None => format!("cargo xtask local{} {here} {node}", self.state()),
            Some(hosts) => format!("ssh {} sudo {there}", hosts.get(node).map_or(node, String::as_str)),
        }
    }

    fn state(&self) -> &str {
        self.flags.strip_prefix(" --local").unwrap_or(&self.flags)
    }
}

impl Expected {
    /// As many nodes as decide together.
    pub(crate) fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Whether the engine of a node has routes to so many nodes of the cluster that it makes a majority with them, `but` for those.
    /// A node on its own is one.
    pub(crate) fn has_majority(&self, posture: &Posture, but: &[&str]) -> bool {
        let Some(cluster) = &posture.cluster else { return true };
        let counts = |peer: &&String| self.nodes.contains(peer) && !but.contains(&peer.as_str());
        cluster.peers.iter().filter(counts).count() + 1 >= self.majority()
    }
}

/// All checks, in the order of the topology.
pub fn checks(expected: &Expected, answers: &[Answer]) -> Vec<Check> {
    let mut found = Vec::new();
    let reached: Vec<(&Answer, &Posture)> =
        answers.iter().filter_map(|answer| answer.posture.as_ref().ok().map(|posture| (answer, posture))).collect();
    for answer in answers {
        match &answer.posture {
            // A node that does not answer has one failure that says so; nothing else is claimed about it.
            Err(why) => found.push(each::unreachable(expected, &answer.node, why)),
            Ok(posture) => {
                found.extend(each::node(expected, answer, posture));
                found.extend(across::node(expected, answer, posture, &reached));
            }
        }
    }
    found.extend(across::cluster(expected, &reached));
    found
}

/// Whether all of them hold. No checks at all prove nothing.
pub fn all_hold(checks: &[Check]) -> bool {
    !checks.is_empty() && checks.iter().all(|check| check.ok)
}

/// Whether all that this topology asks for holds: one that asks for fewer replicas is what it should be for now,
/// although `verify` rightly goes on to call it not HA. A disk that is nearly full keeps no cluster from being started.
#[cfg(target_os = "linux")]
pub fn as_asked(expected: &Expected, checks: &[Check]) -> bool {
    // Waiting makes no room on a disk.
    let excused = |check: &Check| check.id == each::DISK || check.id == each::HA && expected.kv_replicas < HA_REPLICAS;
    !checks.is_empty() && checks.iter().all(|check| check.ok || excused(check))
}

/// Builds a check: the remedy is kept only where it is needed.
fn check(id: impl Into<String>, node: &str, ok: bool, want: String, got: String, remedy: String) -> Check {
    let remedy = if ok { String::new() } else { remedy };
    Check { id: id.into(), node: node.to_owned(), ok, want, got, remedy, warns: false, informs: false }
}

/// Builds a check that turns no verdict: its remedy is kept all the same.
fn warning(id: impl Into<String>, node: &str, want: String, got: String, remedy: String) -> Check {
    Check { id: id.into(), node: node.to_owned(), ok: true, want, got, remedy, warns: true, informs: false }
}

/// Builds a check that only tells something about the cluster, and what comes next.
fn notice(id: impl Into<String>, want: String, got: String, next: String) -> Check {
    let node = CLUSTER.to_owned();
    Check { id: id.into(), node, ok: true, want, got, remedy: next, warns: false, informs: true }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
