//! From one copy to three while the cluster works, and the verbs by which a tool on a node knows how far it is.

use std::process::Output;

use serde_json::Value;

use super::harness::{Build, Cluster, NODES, failures, holds, said, wait};

#[test]
fn one_copy_becomes_three_in_place_and_then_no_node_is_missed() {
    let cluster = Cluster::reserve();
    cluster.up(Build::Real, &["--kv-replicas", "1"]);
    for node in NODES {
        succeeds(&ask(&cluster, node, &["wait", "--for", "current", "--within", "30"]));
    }
    let before = cluster.add_user("magnus", "before");

    // Where a node is missing, what cannot be done is named, and what was begun is completed by the same command.
    refused(&ask(&cluster, "magnus", &["scale", "5"]), "5 copies on 3 nodes");
    refused(&ask(&cluster, "magnus", &["scale", "2"]), "no majority");
    let meta = cluster.posture("magnus").unwrap()["cluster"]["leader"].clone();
    let spare = NODES.into_iter().find(|node| meta != *node).unwrap();
    cluster.control(&["stop", spare]);
    let other = NODES.into_iter().find(|node| *node != spare).unwrap();
    refused(&ask(&cluster, other, &["wait", "--for", "current", "--within", "0"]), &format!("no route to {spare}"));
    refused(&ask(&cluster, other, &["scale", "3", "--within", "1"]), "UNIBUS_");
    refused(&ask(&cluster, other, &["scale", "3", "--check"]), "UNIBUS_");
    cluster.control(&["start", spare]);
    for node in NODES {
        succeeds(&ask(&cluster, node, &["wait", "--for", "healthy", "--within", "30"]));
    }
    let mut clients = NODES.map(|node| cluster.connected(node, &before.seed));

    let scaled = ask(&cluster, other, &["scale", "3", "--json"]);
    succeeds(&scaled);
    let took: Value = serde_json::from_slice(&scaled.stdout).unwrap();
    println!("one copy became three in {} ms", took["waited_ms"]);
    // The daemons still run as they were configured, and yet nothing is called not HA any more.
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(0), "{:?}", failures(&verdict));
    for node in NODES {
        succeeds(&ask(&cluster, node, &["scale", "3", "--check"]));
        succeeds(&ask(&cluster, node, &["wait", "--for", "current", "--within", "0"]));
        let health = super::tls::curl(&cluster, node, "/healthz");
        assert!(health.contains("\"status\":\"ok\""), "{node}: {health}");
    }
    refused(&ask(&cluster, "homer", &["scale", "1"]), "never lowers");
    assert!(clients.iter_mut().all(|client| client.is_connected()), "scaling cut a client");

    // A restart with the old setting does not lower either.
    cluster.control(&["restart", "homer"]);
    succeeds(&ask(&cluster, "homer", &["wait", "--for", "current", "--within", "60"]));
    assert_eq!(cluster.posture("homer").unwrap()["kv_replicas"], 3);

    // The node that had the only copies may go now.
    let after = cluster.add_user("magnus", "after");
    let holder = leader_of_users(&cluster);
    cluster.control(&["kill", "--stay-down", &holder]);
    let other = NODES.into_iter().find(|node| *node != holder).unwrap();
    let late = cluster.identity("late");
    wait("write without the node that held everything", 30, || {
        let added = cluster.user(other, &["add", "--handle", "late", "--sign-pub", &late.sign_pub]);
        holds(added.status.success(), said(&added))
    });
    let list = said(&cluster.user(other, &["list"]));
    assert!(list.contains("before") && list.contains("after") && list.contains("late"), "{list}");
    for identity in [&before, &after, &late] {
        cluster.connected(other, &identity.seed);
    }
    refused(&ask(&cluster, other, &["wait", "--for", "current", "--within", "1"]), &holder);
    succeeds(&ask(&cluster, other, &["wait", "--for", "healthy", "--within", "0"]));
    cluster.control(&["start", &holder]);
    for node in NODES {
        succeeds(&ask(&cluster, node, &["wait", "--for", "current", "--within", "60"]));
    }
}

fn ask(cluster: &Cluster, node: &str, arguments: &[&str]) -> Output {
    cluster.membershipd(node, &[arguments, &["--runtime-dir", "run"]].concat())
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn refused(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(why), "it should say '{why}': {}", said(output));
}

fn leader_of_users(cluster: &Cluster) -> String {
    let posture = cluster.posture("magnus").unwrap();
    let users = posture["replicas"].as_array().unwrap().iter().find(|of| of["bucket"] == "UNIBUS_users").unwrap();
    users["leader"].as_str().unwrap().to_owned()
}
