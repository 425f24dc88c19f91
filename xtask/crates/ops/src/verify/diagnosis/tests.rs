//! What is the matter, for each thing that can be and for some together.

use super::*;
use crate::posture::Damaged;
use crate::posture::fixture::{NOW_MS, healthy};
use crate::verify::checks;
use crate::verify::fixture::{ALL, answers, expected};

/// The answers of three healthy nodes, to be broken.
struct Nodes(Vec<Answer>);

impl Nodes {
    fn healthy() -> Self {
        Self(answers())
    }

    fn with(mut self, node: &str, breaking: impl FnOnce(&mut Posture)) -> Self {
        let answer = self.0.iter_mut().find(|answer| answer.node == node).unwrap();
        breaking(answer.posture.as_mut().unwrap());
        self
    }

    fn silent(mut self, node: &str, kind: Silence, why: &str) -> Self {
        let answer = self.0.iter_mut().find(|answer| answer.node == node).unwrap();
        answer.posture = Err(NoPosture::new(kind, why));
        self
    }

    /// A node is down, and its neighbours miss it.
    fn down(self, node: &str) -> Self {
        let mut nodes = self.silent(node, Silence::Down, "no daemon answers");
        for answer in &mut nodes.0 {
            let Ok(posture) = &mut answer.posture else { continue };
            let left = {
                let cluster = posture.cluster.as_mut().unwrap();
                cluster.peers.retain(|peer| peer != node);
                u32::try_from(cluster.peers.len() + 1).unwrap()
            };
            for replica in &mut posture.replicas {
                replica.current = Some(left);
            }
        }
        nodes
    }

    /// The node has lost its majority so long ago.
    fn without_quorum(self, node: &str, age_ms: u64) -> Self {
        self.with(node, |posture| {
            posture.cluster.as_mut().unwrap().leader = None;
            posture.lease.age_ms = Some(age_ms);
            if age_ms >= posture.lease.lease_ms {
                posture.lease.valid = false;
                (posture.admins, posture.level) = (None, None);
            }
            for replica in &mut posture.replicas {
                (replica.current, replica.leader) = (None, None);
            }
        })
    }

    #[track_caller]
    fn diagnosed(&self) -> Diagnosis {
        let found = checks(&expected(), &self.0);
        let diagnosis = diagnose(&expected(), &self.0, &found);
        // Every failed check is in exactly one place, and every cause has a next command.
        let mut told: Vec<(String, String)> = diagnosis
            .causes
            .iter()
            .flat_map(|cause| cause.checks.iter().chain(&cause.consequences))
            .map(|failed| (failed.id.clone(), failed.node.clone()))
            .collect();
        let mut failed: Vec<(String, String)> =
            found.iter().filter(|check| !check.ok).map(|check| (check.id.clone(), check.node.clone())).collect();
        told.sort();
        failed.sort();
        assert_eq!(told, failed, "{diagnosis:#?}");
        assert!(
            diagnosis
                .causes
                .iter()
                .all(|cause| !cause.next.is_empty() && !cause.got.is_empty() || cause.checks.is_empty())
        );
        assert_eq!(diagnosis.causes.is_empty(), diagnosis.state == State::Healthy, "{diagnosis:#?}");
        diagnosis
    }

    #[track_caller]
    fn says(&self, state: State, headline: &str) -> Diagnosis {
        let diagnosis = self.diagnosed();
        assert_eq!((diagnosis.state, diagnosis.headline.as_str()), (state, headline), "{diagnosis:#?}");
        diagnosis
    }
}

/// The ids of consequences, without their nodes.
fn consequences(cause: &Cause) -> Vec<&str> {
    let mut ids: Vec<&str> = cause.consequences.iter().map(|failed| family(&failed.id)).collect();
    ids.dedup();
    ids
}

fn since(age_ms: i64) -> String {
    local_time::time_of_day(NOW_MS - age_ms, NOW_MS)
}

#[test]
fn three_nodes_are_healthy() {
    Nodes::healthy().says(State::Healthy, "3 nodes healthy");
}

#[test]
fn what_decides_nothing_is_told_and_is_healthy() {
    let damaged = |posture: &mut Posture| {
        posture.damaged.push(Damaged { room: "kitchen".to_owned(), why: "broken".to_owned() });
    };
    Nodes::healthy().with("homer", damaged).says(State::Healthy, "3 nodes healthy; the history of 1 room is damaged");
    let mut nodes = Nodes::healthy();
    for node in ALL {
        nodes = nodes.with(node, |posture| posture.highest_level = Some(2));
    }
    nodes.says(State::Healthy, "3 nodes healthy; an upgrade is not finished");
}

#[test]
fn one_node_down_is_the_cause_and_the_rest_follows() {
    let diagnosis = Nodes::healthy().down("homer").says(State::Degraded, "homer is down; the bus works (2 of 3)");
    let [cause] = diagnosis.causes.as_slice() else { panic!("{diagnosis:#?}") };
    assert_eq!(cause.checks, [Failed { id: "reachable".to_owned(), node: "homer".to_owned() }]);
    assert_eq!(cause.got, ["homer: no daemon answers"]);
    assert_eq!(consequences(cause), ["routes", "replicas", "routes", "replicas"]);
    assert_eq!(diagnosis.next(), Some("cargo xtask local start homer"));
    // While the others elect a leader, too.
    let electing = |posture: &mut Posture| {
        posture.cluster.as_mut().unwrap().leader = None;
        posture.lease.age_ms = Some(7_000);
    };
    let diagnosis = Nodes::healthy()
        .down("homer")
        .with("magnus", electing)
        .with("datardos", electing)
        .says(State::Degraded, "homer is down; the bus works (2 of 3)");
    assert_eq!(diagnosis.causes.len(), 1, "{diagnosis:#?}");
}

#[test]
fn two_nodes_down_are_no_quorum() {
    let lost = Nodes::healthy().down("homer").down("datardos");
    // Just now: nothing was denied yet, and no lease will be renewed.
    lost.says(
        State::Denied,
        &format!("no quorum since {}: everything is denied within 12 s (homer and datardos are down)", since(300)),
    );
    let lost = Nodes::healthy().down("homer").down("datardos").without_quorum("magnus", 5_500);
    let diagnosis = lost.says(
        State::Denied,
        &format!("no quorum since {}: everything is denied within 7 s (homer and datardos are down)", since(5_500)),
    );
    assert_eq!(diagnosis.causes.len(), 1, "{diagnosis:#?}");
    let lost = Nodes::healthy().down("homer").down("datardos").without_quorum("magnus", 3_600_000);
    let diagnosis = lost.says(
        State::Denied,
        &format!("no quorum since {}: everything is denied (homer and datardos are down)", since(3_600_000)),
    );
    let [cause] = diagnosis.causes.as_slice() else { panic!("{diagnosis:#?}") };
    assert_eq!(cause.got, ["homer, datardos: no daemon answers"]);
    assert_eq!(consequences(cause), ["routes", "lease", "leader", "replicas", "admins"]);
    assert_eq!(diagnosis.next(), Some("cargo xtask local start homer"));
}

#[test]
fn a_lease_that_is_old_with_two_nodes_down_is_not_well() {
    let lost = Nodes::healthy().down("homer").down("datardos").without_quorum("magnus", 5_500);
    let found = checks(&expected(), &lost.0);
    let lease = found.iter().find(|check| check.id == "lease").unwrap();
    assert!(!lease.ok && lease.got == "valid, 5500 ms old, and there is no majority to renew it", "{lease:?}");
    // Frozen nodes are routed for a while, so that it is its age alone.
    let lost = Nodes::healthy()
        .silent("homer", Silence::Mute, "no answer")
        .silent("datardos", Silence::Mute, "no answer")
        .with("magnus", |posture| posture.lease.age_ms = Some(5_500));
    let found = checks(&expected(), &lost.0);
    assert!(found.iter().any(|check| check.id == "lease" && !check.ok));
    lost.says(
        State::Denied,
        &format!(
            "no quorum since {}: everything is denied within 7 s (homer and datardos give no answer)",
            since(5_500)
        ),
    );
}

#[test]
fn all_nodes_down() {
    let down = Nodes::healthy().down("magnus").down("homer").down("datardos");
    let diagnosis = down.says(State::Denied, "all 3 nodes are down: everything is denied");
    assert_eq!(diagnosis.next(), Some("cargo xtask local start magnus"));
    let unknown =
        ALL.iter().fold(Nodes::healthy(), |nodes, node| nodes.silent(node, Silence::Unreachable, "no route to host"));
    unknown.says(
        State::Denied,
        "no node tells how it is, so nothing proves that the bus works (magnus, homer and datardos cannot be asked from here)",
    );
    let mixed =
        Nodes::healthy().down("magnus").down("homer").silent("datardos", Silence::Unreachable, "no route to host");
    mixed.says(State::Denied, "no quorum: everything is denied (magnus and homer are down, and 1 thing more)");
}

#[test]
fn a_frozen_node_gives_no_answer() {
    let nodes = Nodes::healthy().silent("homer", Silence::Mute, "no answer for 7 s");
    let diagnosis = nodes.says(State::Degraded, "homer gives no answer; the bus works (2 of 3)");
    assert_eq!(diagnosis.next(), Some("cargo xtask local restart homer"));
}

#[test]
fn a_node_that_cannot_be_asked_from_here_need_not_be_down() {
    let nodes = Nodes::healthy().silent("homer", Silence::Unreachable, "no route to host");
    nodes
        .says(State::Degraded, "homer cannot be asked from here, and the other nodes reach it; the bus works (2 of 3)");
    let gone = |posture: &mut Posture| posture.cluster.as_mut().unwrap().peers.retain(|peer| peer != "homer");
    let nodes = Nodes::healthy()
        .silent("homer", Silence::Unreachable, "no route to host")
        .with("magnus", gone)
        .with("datardos", gone);
    let diagnosis = nodes.says(State::Degraded, "homer cannot be asked from here; the bus works (2 of 3)");
    assert_eq!(consequences(&diagnosis.causes[0]), ["routes"]);
    let nodes = Nodes::healthy().silent("homer", Silence::Unreadable, "its posture has schema 2");
    nodes.says(State::Degraded, "what homer answers is not understood; the bus works (2 of 3)");
    // One that says itself that it has no quorum says nothing about those that are hidden from here.
    let alone = |posture: &mut Posture| posture.cluster.as_mut().unwrap().peers.clear();
    let nodes = Nodes::healthy()
        .silent("homer", Silence::Unreachable, "no route to host")
        .silent("datardos", Silence::Unreachable, "no route to host")
        .with("magnus", alone)
        .without_quorum("magnus", 60_000);
    let said = format!(
        "no quorum at magnus since {}: everything is denied there, and homer and datardos cannot be asked from here",
        since(60_000)
    );
    nodes.says(State::Denied, &said);
}

#[test]
fn a_cut_mesh_is_told_from_nodes_that_are_down() {
    let without = |other: &'static str| {
        move |posture: &mut Posture| posture.cluster.as_mut().unwrap().peers.retain(|peer| peer != other)
    };
    let pair = Nodes::healthy().with("magnus", without("datardos")).with("datardos", without("magnus"));
    let diagnosis =
        pair.says(State::Degraded, "magnus and datardos have no route to each other; the bus works (3 of 3)");
    assert_eq!((diagnosis.causes.len(), diagnosis.causes[0].checks.len()), (1, 2));
    // Beside one that is down, it is a cause of its own.
    let late = |posture: &mut Posture| posture.lease.age_ms = Some(3_000);
    let both = Nodes::healthy().down("homer").with("magnus", without("datardos")).with("datardos", without("magnus"));
    let both = both.with("magnus", late).with("datardos", late);
    let diagnosis = both.diagnosed();
    assert!(diagnosis.headline.starts_with("no quorum since"), "{}", diagnosis.headline);
    assert_eq!(diagnosis.causes.len(), 2);
    // One is cut off from both: it has no proof, the others have.
    let off = Nodes::healthy()
        .with("magnus", without("homer"))
        .with("datardos", without("homer"))
        .with("homer", |posture| posture.cluster.as_mut().unwrap().peers.clear())
        .without_quorum("homer", 20_000);
    let diagnosis = off.says(State::Degraded, "homer has no route to magnus and datardos; the bus works (2 of 3)");
    assert_eq!(diagnosis.causes.len(), 1, "{diagnosis:#?}");
    // None reaches another.
    let mut none = Nodes::healthy();
    for node in ALL {
        none = none.with(node, |posture| posture.cluster.as_mut().unwrap().peers.clear()).without_quorum(node, 20_000);
    }
    let said = format!(
        "no quorum since {}: everything is denied (magnus, homer and datardos have no routes to each other)",
        since(20_000)
    );
    none.says(State::Denied, &said);
}

#[test]
fn an_engine_that_does_not_run_is_the_cause_on_its_node_and_on_others() {
    let nodes = Nodes::healthy().down("homer");
    let answer = |posture: &mut Posture| {
        posture.engine = None;
        posture.cluster.as_mut().unwrap().peers.clear();
        posture.cluster.as_mut().unwrap().size = None;
        posture.replicas.clear();
    };
    let mut broken = nodes;
    broken.0[1] = Nodes::healthy().with("homer", answer).without_quorum("homer", 15_000).0[1].clone();
    let diagnosis = broken.says(State::Degraded, "the engine of homer does not run; the bus works (2 of 3)");
    assert_eq!(diagnosis.causes.len(), 1, "{diagnosis:#?}");
    assert_eq!(diagnosis.next(), Some("cargo xtask logs homer --local"));
}

#[test]
fn leases_that_are_missing_or_old_by_themselves() {
    let none = |posture: &mut Posture| {
        (posture.lease.valid, posture.admins, posture.level) = (false, None, None);
    };
    let diagnosis = Nodes::healthy()
        .with("homer", none)
        .says(State::Degraded, "homer has no lease and denies everything; the bus works (2 of 3)");
    assert_eq!(consequences(&diagnosis.causes[0]), ["admins"]);
    let old = |posture: &mut Posture| posture.lease.age_ms = Some(6_100);
    Nodes::healthy()
        .with("homer", old)
        .says(State::Degraded, "the lease of homer was not renewed for 6.1 s; the bus works (3 of 3)");
    // A disk that takes nothing, say: all are there, and nothing is proved.
    let mut all = Nodes::healthy();
    for node in ALL {
        all = all.with(node, none).with(node, |posture| posture.lease.age_ms = Some(20_000));
    }
    let said = format!(
        "no node has a lease since {}: everything is denied (magnus, homer and datardos have no lease and deny everything)",
        since(20_000)
    );
    all.says(State::Denied, &said);
}

#[test]
fn an_election_is_called_one() {
    let mut nodes = Nodes::healthy();
    for node in ALL {
        nodes = nodes.with(node, |posture| {
            posture.cluster.as_mut().unwrap().leader = None;
            posture.lease.age_ms = Some(5_100);
        });
    }
    let diagnosis =
        nodes.says(State::Degraded, "the cluster elects a leader, which takes up to 9 s; the bus works (3 of 3)");
    assert_eq!((diagnosis.causes.len(), diagnosis.next()), (1, Some("cargo xtask verify --local")));
}

#[test]
fn a_release_that_stays_out_is_named() {
    let out = |posture: &mut Posture| {
        posture.lease.valid = false;
        (posture.level, posture.admins) = (None, None);
        posture.stays_out = Some("the cluster is at feature level 2".to_owned());
    };
    let diagnosis = Nodes::healthy().with("homer", out).says(
        State::Degraded,
        "the release of homer is older than the cluster's feature level; the bus works (2 of 3)",
    );
    assert_eq!(diagnosis.next(), Some("cargo xtask roll --node homer --yes --local"));
}

#[test]
fn mixed_releases_and_levels() {
    Nodes::healthy()
        .with("homer", |posture| posture.version = "0.2.0".to_owned())
        .says(State::Degraded, "mixed releases: 0.1.0 on magnus and datardos, 0.2.0 on homer; the bus works (3 of 3)");
    Nodes::healthy()
        .with("homer", |posture| posture.level = Some(2))
        .says(State::Degraded, "mixed feature levels: 1 on magnus and datardos, 2 on homer; the bus works (3 of 3)");
    // A node without a lease tells no level, which is no other level.
    let diagnosis =
        Nodes::healthy().with("homer", |posture| posture.version = "0.2.0".to_owned()).down("magnus").diagnosed();
    assert_eq!(diagnosis.headline, "magnus is down, and 1 thing more; the bus works (2 of 3)");
}

#[test]
fn what_ends_or_fills_is_named_with_how_much_is_left() {
    let ends_in =
        |seconds: i64| move |posture: &mut Posture| posture.certificates[1].not_after_unix = NOW_MS / 1000 + seconds;
    for (left, said) in [
        (9 * 86_400 + 5, "the certificate tls/route.crt of homer ends in 9 days"),
        (86_400 + 5, "the certificate tls/route.crt of homer ends in 1 day"),
        (7_205, "the certificate tls/route.crt of homer ends in 2 h"),
        (-5, "the certificate tls/route.crt of homer has ended"),
    ] {
        Nodes::healthy().with("homer", ends_in(left)).says(State::Degraded, &format!("{said}; the bus works (3 of 3)"));
    }
    let nodes = Nodes::healthy().with("magnus", ends_in(20 * 86_400)).with("homer", ends_in(9 * 86_400));
    let diagnosis =
        nodes.says(State::Degraded, "the certificate tls/route.crt of homer ends in 9 days; the bus works (3 of 3)");
    assert_eq!(diagnosis.causes[0].nodes, ["magnus", "homer"]);
    Nodes::healthy()
        .with("homer", |posture| posture.certificates.clear())
        .says(State::Degraded, "homer: it names no certificate; the bus works (3 of 3)");
    let full = |posture: &mut Posture| posture.disk.as_mut().unwrap().free = 310 << 20;
    Nodes::healthy()
        .with("homer", full)
        .says(State::Degraded, "the disk of homer is nearly full (310 MiB of 102400 MiB free); the bus works (3 of 3)");
    Nodes::healthy().with("homer", |posture| posture.disk = None).says(State::Healthy, "3 nodes healthy");
}

#[test]
fn what_lets_in_whom_it_should_not_comes_first() {
    let open = |posture: &mut Posture| posture.acl = false;
    let diagnosis = Nodes::healthy().down("homer").with("magnus", open).diagnosed();
    assert_eq!(
        diagnosis.headline,
        "magnus protects less than it should: acl=false, and 1 thing more; the bus works (2 of 3)"
    );
    let stranger = |posture: &mut Posture| posture.cluster.as_mut().unwrap().peers.push("mallory".to_owned());
    let diagnosis = Nodes::healthy().down("homer").with("magnus", stranger).diagnosed();
    assert!(
        diagnosis.headline.contains("other nodes than the topology has: 3 nodes, unknown: mallory"),
        "{}",
        diagnosis.headline
    );
}

#[test]
fn the_rest_stands_for_itself() {
    let all = |breaking: fn(&mut Posture)| ALL.iter().fold(Nodes::healthy(), |nodes, node| nodes.with(node, breaking));
    let degraded =
        |nodes: Nodes, said: &str| drop(nodes.says(State::Degraded, &format!("{said}; the bus works (3 of 3)")));
    let homer = |breaking: fn(&mut Posture)| Nodes::healthy().with("homer", breaking);
    degraded(
        all(|posture| posture.kv_replicas = 1),
        "there is one copy of each bucket, so the loss of one node stops authentication",
    );
    degraded(all(|posture| posture.admins = Some(0)), "there is no admin");
    degraded(
        homer(|posture| posture.admins = Some(2)),
        "the nodes count admins differently: magnus 1, homer 2, datardos 1",
    );
    degraded(homer(|posture| posture.unix_ms += 5_000), "the clock of homer is off: 5000 ms ahead");
    degraded(
        homer(|posture| posture.engine.as_mut().unwrap().version = "2.14.5".to_owned()),
        "homer runs another nats-server than it should",
    );
    degraded(
        homer(|posture| posture.rooms_by_user = Some(10)),
        "homer has other settings than the others: rooms_by_user 10",
    );
    degraded(homer(|posture| posture.replicas[0].current = Some(2)), "copies are not current (homer)");
    degraded(
        homer(|posture| posture.cluster.as_mut().unwrap().leader = Some("magnus".to_owned())),
        "the nodes disagree about who leads (homer)",
    );
}

#[test]
fn a_cluster_of_one_node() {
    let alone = Expected { nodes: vec!["magnus".to_owned()], ..expected() };
    let mut posture = healthy("magnus", &["magnus"]);
    posture.cluster.as_mut().unwrap().size = Some(1);
    posture.cluster.as_mut().unwrap().leader = Some("magnus".to_owned());
    let answer = Answer { node: "magnus".to_owned(), posture: Ok(posture), sent_ms: NOW_MS, received_ms: NOW_MS };
    let say = |answers: &[Answer]| diagnose(&alone, answers, &checks(&alone, answers)).headline;
    assert_eq!(say(std::slice::from_ref(&answer)), "1 node healthy");
    let down = Answer { posture: Err(NoPosture::new(Silence::Down, "no daemon answers")), ..answer };
    assert_eq!(say(std::slice::from_ref(&down)), "magnus is down: everything is denied");
}
