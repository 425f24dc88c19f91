//! A revocation on three nodes: it returns when all have acknowledged, or when a node that is silent certainly serves no client any more.

use std::process::Output;
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::common::requests::identity;
use crate::common::{alive, said, signal};
use crate::nodes::{self, Node};
use crate::silent::{furnish, is_shut_out, joined, remove};
use rustix::process::Signal;

fn fenced(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_revocation_is_acknowledged_by_all_or_waits_for_the_end_of_the_silent() {
    let mut nodes = nodes::start(&[]);
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
    signal(nodes[1].child.id(), Signal::STOP);
    let answer = fenced(&nodes[0].ask(&["user", "remove", "carol", "--json"]));
    assert_eq!(answer["fence"], "waited_out", "{answer}");
    let bound = nodes[0].status().unwrap()["lease"]["bound_ms"].as_u64().unwrap();
    assert!(answer["waited_ms"].as_u64().unwrap() <= bound + 500, "{answer}");
    assert!(!alive(engine), "the engine of a frozen node outlives its lease");
    assert!(!frozen.is_connected(), "a removed user is served by a frozen node");

    // Whose time is over is not waited for again.
    let answer = fenced(&nodes[2].ask(&["user", "disable", "bob", "--json"]));
    assert_eq!(answer["fence"], "acknowledged", "{answer}");

    nodes[1].child.wait().unwrap();
    nodes[1].start_again();
    nodes[1].wait_for_lease();
    a_removal_ends_in_time_while_a_node_is_killed_and_starts_again(nodes);
}

fn a_removal_ends_in_time_while_a_node_is_killed_and_starts_again([magnus, mut homer, datardos]: [Node; 3]) {
    let people = ["olga", "robin", "chris"].map(|handle| identity(&magnus, handle));
    furnish(&magnus, &people);
    let [olga, robin, chris] = &people;
    let bound = magnus.bound();
    let mut robins = [&magnus, &homer, &datardos].map(|node| joined(node, robin));
    let mut chrises = [&magnus, &datardos].map(|node| joined(node, chris));
    let killed = Instant::now();
    homer.kill();
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            remove(&magnus, olga, robin, bound);
            assert!(robins.iter_mut().all(|robin| !robin.is_connected()), "robin is connected after the removal");
        });
        homer.start_again();
        remove(&datardos, olga, chris, bound);
        assert!(chrises.iter_mut().all(|chris| !chris.is_connected()), "chris is connected after the removal");
        first.join().unwrap();
    });
    // An election in between belongs to the write; then the bound begins.
    assert!(killed.elapsed() <= 2 * bound, "{:?}", killed.elapsed());
    assert!(is_shut_out(&homer, robin) && is_shut_out(&homer, chris), "{}", homer.log());
}
