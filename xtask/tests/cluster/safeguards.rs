//! Test builds without safeguards: the very assertions that pass for the real daemon must fail for them, and so must `chaos`.

use std::time::Instant;

use super::access::{rights_end_at_the_own_subjects, signatures_are_checked, strangers_are_refused};
use super::chaos::{is_named, judged_without};
use super::harness::{Build, Cluster, Work};
use super::loss::without_a_quorum_nobody_is_served;

#[test]
fn missing_safeguards_are_noticed() {
    let cluster = Cluster::start_for(Work::LoadsLong, Build::Faults);
    signatures_are_checked(&cluster, "victim").expect("with all safeguards on, the test build is sound");
    let alice = cluster.add_user("homer", "alice");
    rights_end_at_the_own_subjects(&cluster, &alice.seed).expect("with all safeguards on, the test build is sound");

    // Neither of the two helps or hides the other: one is about who comes in, the other about what is allowed there.
    cluster.without("no-signature-check,no-explicit-deny");
    let noticed = signatures_are_checked(&cluster, "second-victim");
    assert!(
        noticed.is_err_and(|why| why.contains("wrong signature")),
        "that signatures are not verified went unnoticed"
    );
    strangers_are_refused(&cluster).expect("an unknown key is unknown, whatever its signature");
    let noticed = rights_end_at_the_own_subjects(&cluster, &alice.seed);
    assert!(noticed.is_err_and(|why| why.contains("no violation")), "that permissions are empty went unnoticed");

    // A lease that does not count lets clients in, and a write that is acknowledged first is lost: neither does the other.
    let found = judged_without("no-lease,ack-before-write", &cluster);
    assert!(is_named(&found, "quorum: served-without-quorum", "connect was granted"), "a lease is missing: {found:#?}");
    assert!(is_named(&found, "quorum: lost-write", "acknowledged"), "a write was lost: {found:#?}");
    assert!(is_named(&found, "not-linearizable", ""), "what was contended for was not noticed: {found:#?}");
    // Nor is what a member says there who was told that it is kept: the client has not looked for it.
    assert!(is_named(&found, "lost-message", ""), "what was said in a room was not noticed: {found:#?}");

    let mut client = cluster.connected("homer", &cluster.admin_seed());
    let lost = Instant::now();
    for node in ["magnus", "datardos"] {
        cluster.control(&["kill", "--stay-down", node]);
    }
    let noticed = without_a_quorum_nobody_is_served(&cluster, &mut client, lost);
    assert!(noticed.is_err(), "a lease that does not count went unnoticed");
}
