//! Which faults there are, and whom each befalls: a schedule that the seed decides, so that a run can be repeated.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;
use unibus_ops::topology::majority;

/// Something that happens to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// The daemon is ended in good order, and started again
    Stop,
    /// The daemon is ended with SIGKILL, and comes back by itself
    Kill,
    /// Everything of the node ends at once, and it is started again
    PowerCut,
    /// The node stands still for a while, and then goes on as if nothing had been
    Freeze,
    /// The node reaches nobody and nobody reaches it
    CutOff,
    /// The node hears none of the others, which still hear it
    Deaf,
    /// A majority is stopped: the rest must deny everything
    Quorum,
}

impl Fault {
    /// Whether a majority is there all the time.
    pub(crate) const fn keeps_quorum(self) -> bool {
        !matches!(self, Self::Quorum)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
            Self::Freeze => "freeze",
            Self::CutOff => "cut-off",
            Self::Deaf => "deaf",
            Self::Quorum => "quorum",
        })
    }
}

/// Whom a fault befalls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Victims {
    /// These nodes.
    Named(Vec<String>),
    /// Whoever leads the whole cluster then; this one, should nobody say who that is.
    Leader(String),
    /// Whoever leads the bucket of users then; this one, should nobody say who that is.
    BucketLeader(String),
    /// A majority with the bucket's leader in it, filled up from these in order.
    MajorityWithLeader(Vec<String>),
}

impl fmt::Display for Victims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(nodes) => f.write_str(&nodes.join(" and ")),
            Self::Leader(_) => f.write_str("whoever leads the cluster then"),
            Self::BucketLeader(_) => f.write_str("whoever leads the users then"),
            Self::MajorityWithLeader(_) => f.write_str("whoever leads the users then, and enough others"),
        }
    }
}

/// A fault that is to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    pub(crate) victims: Victims,
}

/// The nodes that lead, as they say themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leaders {
    pub(crate) cluster: Option<String>,
    pub(crate) users: Option<String>,
}

impl Victims {
    /// The nodes that are meant, now that it is known who leads.
    pub(crate) fn resolve(&self, leaders: &Leaders) -> Vec<String> {
        let or = |leader: &Option<String>, other: &String| vec![leader.as_ref().unwrap_or(other).clone()];
        match self {
            Self::Named(nodes) => nodes.clone(),
            Self::Leader(other) => or(&leaders.cluster, other),
            Self::BucketLeader(other) => or(&leaders.users, other),
            Self::MajorityWithLeader(all) => {
                let first = leaders.users.iter().filter(|leader| all.contains(leader));
                let others = all.iter().filter(|node| Some(*node) != leaders.users.as_ref());
                first.chain(others).take(majority(all.len())).cloned().collect()
            }
        }
    }
}

/// Every fault that `offered` has, and `only` those if there are any. Where victims are fixed, each node is stopped once,
/// whoever leads among them; else the faults that hurt a leader most look for one.
pub(crate) fn schedule(offered: &[Fault], nodes: &[String], seed: u64, fixed: bool, only: &[Fault]) -> Vec<Planned> {
    let turn = usize::try_from(seed % u64::try_from(nodes.len().max(1)).unwrap_or(1)).unwrap_or(0);
    let mut order = nodes.to_vec();
    order.rotate_left(turn.min(nodes.len()));
    let mut round = order.iter().cycle().cloned();
    let mut planned = Vec::new();
    for fault in offered.iter().copied().filter(|fault| only.is_empty() || only.contains(fault)) {
        let next = round.next().unwrap_or_default();
        let mut plan = |victims| planned.push(Planned { fault, victims });
        match fault {
            Fault::Stop if fixed => order.iter().for_each(|node| plan(Victims::Named(vec![node.clone()]))),
            Fault::Kill | Fault::Deaf if !fixed => plan(Victims::Leader(next)),
            Fault::PowerCut | Fault::Freeze | Fault::CutOff if !fixed => plan(Victims::BucketLeader(next)),
            Fault::Quorum if fixed => {
                plan(Victims::Named(order.iter().take(majority(order.len())).cloned().collect()));
            }
            Fault::Quorum => plan(Victims::MajorityWithLeader(order.clone())),
            _ => plan(Victims::Named(vec![next])),
        }
    }
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<String> {
        ["a", "b", "c"].map(str::to_owned).to_vec()
    }

    const ALL: [Fault; 5] = [Fault::Stop, Fault::Kill, Fault::PowerCut, Fault::Freeze, Fault::Quorum];

    #[test]
    fn the_seed_decides_and_only_that() {
        let plan = |seed| schedule(&ALL, &nodes(), seed, false, &[]);
        assert_eq!(plan(4), plan(4));
        assert_ne!(plan(4), plan(5));
        let faults: Vec<Fault> = plan(4).iter().map(|planned| planned.fault).collect();
        assert_eq!(faults, ALL, "quorum loss last");
        let only = schedule(&ALL, &nodes(), 4, false, &[Fault::Quorum]);
        assert_eq!(only.len(), 1);
    }

    #[test]
    fn fixed_victims_are_known_before_anybody_is_asked() {
        let planned = schedule(&[Fault::Stop, Fault::Quorum], &nodes(), 1, true, &[]);
        let victims: Vec<Vec<String>> =
            planned.iter().map(|planned| planned.victims.resolve(&Leaders::default())).collect();
        assert_eq!(victims, [vec!["b"], vec!["c"], vec!["a"], vec!["b", "c"]]);
        assert!(planned.iter().all(|planned| matches!(planned.victims, Victims::Named(_))));
    }

    #[test]
    fn leaders_are_found_and_a_majority_has_one() {
        let leaders = Leaders { cluster: Some("a".to_owned()), users: Some("c".to_owned()) };
        assert_eq!(Victims::Leader("b".to_owned()).resolve(&leaders), ["a"]);
        assert_eq!(Victims::BucketLeader("b".to_owned()).resolve(&Leaders::default()), ["b"]);
        assert_eq!(Victims::MajorityWithLeader(nodes()).resolve(&leaders), ["c", "a"]);
        assert_eq!(Victims::MajorityWithLeader(nodes()).resolve(&Leaders::default()), ["a", "b"]);
        let five: Vec<String> = "abcde".chars().map(String::from).collect();
        assert_eq!(Victims::MajorityWithLeader(five).resolve(&leaders), ["c", "a", "b"]);
    }
}
