//! A revocation on three nodes: it returns when all have acknowledged, or when who is silent certainly serves nobody.

use std::process::Output;

use serde_json::Value;

use crate::common::{alive, said, signal};
use crate::nodes;

fn fenced(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_revocation_is_acknowledged_by_all_or_waits_for_the_end_of_the_silent() {
    let nodes = nodes::start(&[]);
    let seeds = ["alice", "bob", "carol"].map(|handle| {
        let key = nodes[0].identity(handle);
        let added = nodes[0].ask(&["user", "add", "--handle", handle, "--sign-pub", &key]);
        assert!(added.status.success(), "{}", said(&added));
        nodes[0].seed(handle)
    });
    let [alice, bob, carol] = seeds.each_ref().map(String::as_str);
    let mut members: Vec<_> = nodes.iter().map(|node| node.connected(alice, "alice")).collect();
    let mut bystander = nodes[1].connected(bob, "bob");

    let answer = fenced(&nodes[2].ask(&["user", "disable", "alice", "--json"]));
    assert_eq!(answer["fence"], "acknowledged", "{answer}\n{}", nodes[2].log());
    for (node, client) in nodes.iter().zip(&mut members) {
        assert!(!client.is_connected(), "a disabled user is connected after the answer\n{}", node.log());
        assert!(node.connect(alice, "alice").is_none(), "and comes back");
    }
    assert!(bystander.is_connected(), "somebody else was cut too");

    // A node that does not answer: its engine goes on by itself until its time is over.
    let mut frozen = nodes[1].connected(carol, "carol");
    let engine = nodes[1].engine_pid().unwrap();
    signal(nodes[1].child.id(), "STOP");
    let answer = fenced(&nodes[0].ask(&["user", "remove", "carol", "--json"]));
    assert_eq!(answer["fence"], "waited_out", "{answer}");
    let bound = nodes[0].status().unwrap()["lease"]["bound_ms"].as_u64().unwrap();
    assert!(answer["waited_ms"].as_u64().unwrap() <= bound + 500, "{answer}");
    assert!(!alive(engine), "the engine of a frozen node outlives its lease");
    assert!(!frozen.is_connected(), "a removed user is served by a frozen node");

    // Whose time is over is not waited for again.
    let answer = fenced(&nodes[2].ask(&["user", "disable", "bob", "--json"]));
    assert_eq!(answer["fence"], "acknowledged", "{answer}");
}
