//! What is the matter with a cluster, the cause first: a pure function of what its nodes say.
//!
//! Most failed checks of a cluster in trouble are consequences: where a node is down, its neighbours lack a route to it, copies and
//! perhaps a leader. Each failed check is therefore attributed to a cause, and one line says what that means for the bus.

mod causes;
mod words;

use serde::Serialize;

pub(super) use self::causes::family;
use self::causes::{Root, causes};
use super::each::is_old;
use super::{Answer, Check, Expected, NoPosture, Silence};
use crate::local_time;
use crate::posture::{Lease, Posture};

/// Whether the bus serves its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Every check holds.
    Healthy,
    /// Something is wrong, and the bus works.
    Degraded,
    /// Nothing proves that any node serves.
    Denied,
}

/// A failed check, by its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Of the check.
    pub id: String,
    /// Where it failed.
    pub node: String,
}

/// Something that is wrong by itself, with what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// In a few words: `homer is down`.
    pub cause: String,
    /// The nodes that it is about; none where that is the cluster.
    pub nodes: Vec<String>,
    /// What the checks that say it have found, one line for each that differs.
    pub got: Vec<String>,
    /// The command to give now, or what to do where no command helps.
    pub next: String,
    /// The failed checks that say it.
    pub checks: Vec<Failed>,
    /// The failed checks that would hold without it.
    pub consequences: Vec<Failed>,
    /// Whether the system brings it about by itself while it starts, and ends it by itself.
    #[serde(skip)]
    pub passes: bool,
}

/// What a cluster is like, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// One line for people.
    pub headline: String,
    /// The same for programs.
    pub state: State,
    /// What is wrong, what matters most first.
    pub causes: Vec<Cause>,
}

impl Diagnosis {
    /// The command to give now; none where nothing is wrong.
    pub fn next(&self) -> Option<&str> {
        self.causes.first().map(|cause| cause.next.as_str())
    }

    /// What is the matter, without what changes from one look to the next although nothing happens.
    pub(crate) fn gist(&self) -> String {
        let cause = |cause: &Cause| format!("{} {:?} {:?}", cause.nodes.join(" "), cause.checks, cause.consequences);
        let causes: Vec<String> = self.causes.iter().map(cause).collect();
        // Healthy: what the line says besides is told by warnings and notes, which do not change by themselves.
        let notes = if self.causes.is_empty() { self.headline.as_str() } else { "" };
        format!("{:?} {notes} {}", self.state, causes.join("; "))
    }
}

/// Says what is the matter. `checks` are those of these answers.
pub fn diagnose(expected: &Expected, answers: &[Answer], checks: &[Check]) -> Diagnosis {
    let scene = Scene::new(expected, answers);
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    let causes = causes(&scene, &failed);
    let state = match (scene.works, causes.is_empty() && !checks.is_empty()) {
        (false, _) => State::Denied,
        (true, false) => State::Degraded,
        (true, true) => State::Healthy,
    };
    let headline = match state {
        State::Healthy => scene.healthy(checks),
        State::Degraded => {
            let (serving, all) = (scene.serving(), expected.nodes.len());
            format!("{}; the bus works ({serving} of {all})", words::first_of(&causes))
        }
        State::Denied => scene.denied(&causes),
    };
    Diagnosis { headline, state, causes }
}

/// Whether a lease was renewed at its last turn, or the one before: that took a majority, which was there then.
fn was_just_renewed(lease: &Lease) -> bool {
    const TURNS_MS: u64 = 2_000;
    lease.valid && lease.age_ms.is_some_and(|age| age <= TURNS_MS)
}

/// What the answers say together.
struct Scene<'a> {
    expected: &'a Expected,
    reached: Vec<(&'a Answer, &'a Posture)>,
    silent: Vec<(&'a str, &'a NoPosture)>,
    /// Silent nodes that the others miss, too, or would: their engines do nothing for the cluster.
    lost: Vec<&'a str>,
    /// Whether it is proved that a majority decides and some node serves.
    works: bool,
}

impl<'a> Scene<'a> {
    fn new(expected: &'a Expected, answers: &'a [Answer]) -> Self {
        let (mut reached, mut silent) = (Vec::new(), Vec::new());
        for answer in answers {
            match &answer.posture {
                Ok(posture) => reached.push((answer, posture)),
                Err(why) => silent.push((answer.node.as_str(), why)),
            }
        }
        let routed = |node: &str| {
            let peers =
                |posture: &&Posture| posture.cluster.iter().any(|cluster| cluster.peers.iter().any(|p| p == node));
            reached.iter().map(|&(_, posture)| posture).any(|posture| peers(&posture))
        };
        let is_lost = |&(node, why): &(&'a str, &NoPosture)| {
            matches!(why.kind, Silence::Down | Silence::Mute) || !reached.is_empty() && !routed(node)
        };
        let lost: Vec<&str> = silent.iter().filter(|one| is_lost(one)).map(|&(node, _)| node).collect();
        let fresh = reached.iter().filter(|(_, posture)| was_just_renewed(&posture.lease)).count();
        // So many leases that were just renewed need a majority, whatever else is unknown. One alone counts where its node is in a majority.
        let renews = |posture: &Posture| {
            let but: &[&str] = if is_old(&posture.lease) { &lost } else { &[] };
            posture.lease.valid && expected.has_majority(posture, but)
        };
        let works = fresh >= expected.majority() || reached.iter().any(|(_, posture)| renews(posture));
        Self { expected, reached, silent, lost, works }
    }

    /// Nodes that are proved to serve.
    fn serving(&self) -> usize {
        self.reached.iter().filter(|(_, posture)| posture.lease.valid).count()
    }

    fn healthy(&self, checks: &[Check]) -> String {
        let count = self.expected.nodes.len();
        let mut line = if count == 1 { "1 node healthy".to_owned() } else { format!("{count} nodes healthy") };
        for check in checks.iter().filter(|check| check.warns || check.informs) {
            let brief = check.got.split(':').next().unwrap_or_default();
            line.push_str("; ");
            line.push_str(brief);
        }
        line
    }

    fn denied(&self, causes: &[Cause]) -> String {
        let all = self.expected.nodes.len();
        let of_kind = |kinds: &[Silence]| self.silent.iter().filter(|(_, why)| kinds.contains(&why.kind)).count();
        let (down, unknown) = (of_kind(&[Silence::Down]), of_kind(&[Silence::Unreachable, Silence::Unreadable]));
        let why = words::first_of(causes);
        if down == all {
            return match all {
                1 => format!("{why}: everything is denied"),
                _ => format!("all {all} nodes are down: everything is denied"),
            };
        }
        let hidden = unknown >= self.expected.majority();
        if self.reached.is_empty() {
            return if hidden {
                format!("no node tells how it is, so nothing proves that the bus works ({why})")
            } else {
                format!("no quorum: everything is denied ({why})")
            };
        }
        let (what, since, denied) = (self.lacking(), self.since(), self.until());
        if hidden {
            let names = words::list(self.reached.iter().map(|(answer, _)| answer.node.as_str()));
            return format!("{what} at {names}{since}: {denied} there, and {why}");
        }
        format!("{what}{since}: {denied} ({why})")
    }

    /// What the nodes that answer lack.
    fn lacking(&self) -> &'static str {
        let leads = |posture: &Posture| posture.cluster.as_ref().is_none_or(|cluster| cluster.leader.is_some());
        if !self.reached.iter().any(|(_, posture)| self.expected.has_majority(posture, &self.lost)) {
            "no quorum"
        } else if !self.reached.iter().any(|(_, posture)| leads(posture)) {
            "no leader"
        } else {
            "no node has a lease"
        }
    }

    /// Since when, by the newest proof that any node has.
    fn since(&self) -> String {
        let proof = |(answer, posture): &(&Answer, &Posture)| {
            let age = i64::try_from(posture.lease.age_ms?).ok()?;
            Some((answer.received_ms.saturating_sub(age), answer.received_ms))
        };
        let newest = self.reached.iter().filter_map(proof).max();
        newest.map_or_else(String::new, |(at, now)| format!(" since {}", local_time::time_of_day(at, now)))
    }

    /// Everything is denied, or will be once the last lease has ended.
    fn until(&self) -> String {
        let left = |posture: &Posture| {
            let lease = &posture.lease;
            lease.valid.then(|| lease.lease_ms.saturating_sub(lease.age_ms.unwrap_or_default()))
        };
        match self.reached.iter().filter_map(|(_, posture)| left(posture)).max() {
            None => "everything is denied".to_owned(),
            Some(ms) => format!("everything is denied within {} s", ms.div_ceil(1000).max(1)),
        }
    }

    /// Whether a root takes engines away from the others.
    fn is_loss(&self, root: &Root<'_>) -> bool {
        match root {
            Root::Silent(_, nodes) => nodes.iter().any(|node| self.lost.contains(node)),
            Root::NoEngine(_) | Root::Cut(_) => true,
            Root::StaysOut(_) | Root::NoLeader | Root::NoLease(_) | Root::OldLease(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
