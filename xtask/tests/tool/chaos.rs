//! `chaos` on servers: what it would do is shown without a connection, and nothing is done by mistake.

use crate::common;
use crate::common::hosts::Servers;
use serde_json::{Value, json};

fn words(value: &Value) -> String {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_shipped_topology_is_refused_with_all_its_placeholders() {
    let servers = Servers::new();
    servers.clone.write("deploy/nodes.toml", include_str!("../../../deploy/nodes.toml"));
    for line in ["chaos", "chaos --yes --confirm test", "chaos --during -- roll --yes"] {
        let done = servers.run(line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains("<MAGNUS_PUBLIC_IP>") && done.stderr.contains("<DATARDOS_WG_IP>"), "{done:?}");
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}

#[test]
fn the_schedule_is_shown_without_a_connection() {
    let servers = Servers::new();
    let before = servers.clone.tree();
    let plan: Value = serde_json::from_str(&servers.ok("chaos --json").stdout).unwrap();
    let faults = plan["faults"].as_array().unwrap();
    // Nothing but a stop and a start: each node once, whoever leads, and at last a majority.
    let named: Vec<&str> = faults.iter().map(|fault| fault["fault"].as_str().unwrap()).collect();
    assert_eq!(named, ["stop", "stop", "stop", "quorum"]);
    let mut stopped: Vec<&str> = Vec::new();
    for fault in faults {
        for (half, verb) in [("inject", "stop"), ("heal", "start")] {
            for deed in fault[half].as_array().unwrap() {
                assert_eq!(words(&deed["command"]), format!("systemctl {verb} -- membershipd-cluster.service"));
                assert!(words(&deed["unless"]).contains("ActiveState"), "{deed}");
            }
        }
        stopped.extend(fault["inject"].as_array().unwrap().iter().map(|deed| deed["node"].as_str().unwrap()));
    }
    assert_eq!(stopped.len(), 5);
    for node in common::NODES {
        assert!(stopped[..3].contains(&node), "{stopped:?}");
    }
    // The load is a client: it reaches every node's clients' port and API, and every daemon by ssh.
    for node in plan["load"].as_array().unwrap() {
        assert!(node["url"].as_str().unwrap().starts_with("tls://"), "{node}");
        let api = node["api"].as_str().unwrap();
        assert!(api.starts_with("https://") && api.ends_with(":8470"), "{node}");
        let control = words(&node["control"]);
        assert!(control.starts_with("sh -c ") && control.contains(" sh -o ControlMaster=no "), "{control}");
        assert!(control.contains("./membershipd control --runtime-dir /run/unibus"), "{control}");
    }
    assert_eq!(plan["lock"].as_array().unwrap().len(), 6, "taken and given back on every node");

    let said = servers.ok("chaos --only quorum --seed 3").stdout;
    assert!(said.contains("systemctl stop -- membershipd-cluster.service"), "{said}");
    assert!(said.contains("next: cargo xtask chaos --yes --only quorum --seed 3"), "{said}");
    assert_ne!(servers.ok("chaos --json --seed 2").stdout, servers.ok("chaos --json --seed 3").stdout);
    assert!(servers.clone.tree() == before, "a dry run changed something");
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}

#[test]
fn nothing_is_broken_by_mistake() {
    let servers = Servers::new();
    let cases = [
        ("chaos --yes", "--confirm test"),
        ("chaos --yes --confirm tests", "'tests' is not the name of this cluster"),
        ("chaos --yes --confirm test --only freeze", "freeze is not done to this cluster; there is stop, quorum"),
        ("chaos --only nonsense", "nonsense"),
        ("chaos --during", "VERB"),
        ("chaos --during -- roll", "there is nothing to watch"),
        ("chaos --during -- chaos --yes", "only measure itself"),
        ("chaos --yes --during -- roll --yes", "cannot be used with"),
        ("chaos --local --topology x", "exclude each other"),
    ];
    for (line, message) in cases {
        let done = servers.run(line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains(message), "{line}: {done:?}");
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}

#[test]
fn a_cluster_that_is_ill_is_not_broken_further() {
    let servers = Servers::new();
    let done = servers.run("chaos --yes --confirm test --json");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("not well before anything was broken"), "{done:?}");
    let stops = servers.seen().into_iter().filter(|words| words.iter().any(|word| word == "stop"));
    assert_eq!(stops.count(), 0);
    assert_eq!(json!(servers.starts()), json!([]));
}
