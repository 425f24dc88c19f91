//! A frozen first node costs a command a second or two, and a member who was removed is told by whom and when.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::common::requests::{API_PORT, seed_admin};
use crate::common::{membershipd, said, signal};
use crate::nodes;
use rustix::process::Signal;

/// A second of silence, and what a command takes on a busy machine.
const COSTS: Duration = Duration::from_secs(4);

#[test]
fn frozen_first_node_costs_a_command_a_moment() {
    let nodes = nodes::start(&[]);
    let raised = nodes[0].ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", said(&raised));
    seed_admin(&nodes[0]);
    let urls = nodes.each_ref().map(|node| format!("https://{}:{API_PORT}", node.address)).join(",");
    let run = |who: &str, line: &str| -> Output {
        let mut command = membershipd(nodes[0].dir.path());
        command.args(line.split(' ')).args(["--identity", &format!("{who}.toml"), "--url", &urls, "--ca", "ca.crt"]);
        command.output().unwrap()
    };
    let done = |who: &str, line: &str| {
        let output = run(who, line);
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let key = nodes[0].identity("alice");
    assert!(nodes[0].ask(&["user", "add", "--handle", "alice", "--sign-pub", &key]).status.success());
    nodes[1].wait("alice", || run("alice", "room list").status.success());
    done("root", "room create kitchen --subject room.kitchen --invite alice");
    done("alice", "member accept kitchen");
    done("alice", "say kitchen before");

    // What a store of a cluster knows beside who it was.
    done("root", "room create hall --subject room.hall --invite alice");
    done("root", "member remove hall alice");
    let told = said(&run("alice", "say hall x"));
    assert!(told.contains("you were removed from hall by root today at "), "{told}");

    // The daemon alone: its engine goes on for a while, so that no election is part of what is measured.
    signal(nodes[0].child.id(), Signal::STOP);
    let lines = [
        ("alice", "room list", "kitchen"),
        ("alice", "tail kitchen --no-follow --all", "before"),
        ("alice", "say kitchen meanwhile", "said"),
        ("root", "room create attic --subject room.attic", "attic"),
    ];
    let took = lines.map(|(who, line, shows)| {
        let begun = Instant::now();
        let shown = done(who, line);
        assert!(shown.contains(shows), "{line}: {shown}");
        (line, begun.elapsed())
    });
    println!("{took:?}");
    assert!(took.iter().all(|(_, took)| *took < COSTS), "{took:?}");
}
