//! Test builds with one safeguard off: the very assertions that pass for the real daemon must fail for them.

use std::time::Instant;

use super::access::{rights_end_at_the_own_subjects, signatures_are_checked, strangers_are_refused};
use super::harness::{Build, Cluster, NODES, failures};
use super::loss::without_a_quorum_nobody_is_served;

fn everywhere(cluster: &Cluster, fault: &str) {
    for node in NODES {
        cluster.reconfigure(node, &[("UNIBUS_FAULT", fault)]);
    }
    // The cluster is well but for the posture, which names the fault.
    super::harness::wait("cluster with a fault", 60, || {
        let failed = failures(&cluster.verify().0);
        let only_posture = failed.iter().all(|check| check.starts_with("posture@"));
        super::harness::holds(only_posture && failed.len() == NODES.len(), failed.join(" "))
    });
}

#[test]
fn a_missing_safeguard_is_noticed() {
    let cluster = Cluster::start(Build::Faults);
    signatures_are_checked(&cluster, "victim").expect("with all safeguards on, the test build is sound");

    everywhere(&cluster, "no-signature-check");
    let noticed = signatures_are_checked(&cluster, "second-victim");
    assert!(noticed.is_err(), "nobody noticed that signatures are not verified");
    strangers_are_refused(&cluster).expect("an unknown key is unknown, whatever its signature");

    everywhere(&cluster, "no-explicit-deny");
    let alice = cluster.add_user("homer", "alice");
    let noticed = rights_end_at_the_own_subjects(&cluster, &alice.seed);
    assert!(noticed.is_err(), "nobody noticed that permissions are empty");

    everywhere(&cluster, "no-lease");
    let mut client = cluster.connected("homer", &cluster.admin_seed());
    let lost = Instant::now();
    for node in ["magnus", "datardos"] {
        cluster.control(&["kill", "--stay-down", node]);
    }
    let noticed = without_a_quorum_nobody_is_served(&cluster, &mut client, lost);
    assert!(noticed.is_err(), "nobody noticed that the lease does not count");
}
