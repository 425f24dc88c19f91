//! From one copy to three while the cluster works, and the verbs by which a tool on a node knows how far it is.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::harness::{Build, Cluster, NODES, Work, failures, holds, said, wait};

#[test]
fn one_copy_becomes_three_in_place_and_then_no_node_is_missed() {
    let cluster = Cluster::reserve(Work::Waits);
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
    every_route_is_proven_anew(&cluster);
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
    let probed = probe(&cluster, other);
    let gone = format!("{}:6250", cluster.address(&holder));
    let (failed, fine): (Vec<&Value>, Vec<&Value>) = probed.1.iter().partition(|route| route["ok"] == false);
    assert_eq!((probed.0, failed.len(), fine.len()), (Some(1), 1, 1), "{:?}", probed.1);
    assert_eq!(failed[0]["address"], gone.as_str());
    assert!(failed[0]["error"].as_str().unwrap().contains("cannot connect"), "{failed:?}");
    succeeds(&ask(&cluster, other, &["wait", "--for", "healthy", "--within", "0"]));
    cluster.control(&["start", &holder]);
    for node in NODES {
        succeeds(&ask(&cluster, node, &["wait", "--for", "current", "--within", "60"]));
    }
}

/// Exit code and routes of `probe-routes` on a node.
fn probe(cluster: &Cluster, node: &str) -> (Option<i32>, Vec<Value>) {
    let output = ask(cluster, node, &["probe-routes", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(value["schema"], 1);
    (output.status.code(), value["routes"].as_array().unwrap().clone())
}

/// What openssl says about a certificate file.
fn openssl(file: &Path, what: &[&str]) -> String {
    let output = Command::new("openssl").args(["x509", "-noout", "-in"]).arg(file).args(what).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase()
}

fn every_route_is_proven_anew(cluster: &Cluster) {
    for node in NODES {
        let (code, routes) = probe(cluster, node);
        assert_eq!(code, Some(0), "{routes:?}");
        let mut names: Vec<&str> = routes.iter().map(|route| route["node"].as_str().unwrap()).collect();
        names.sort_unstable();
        let mut others: Vec<&str> = NODES.into_iter().filter(|other| *other != node).collect();
        others.sort_unstable();
        assert_eq!(names, others);
        for route in &routes {
            let of = cluster.node(route["node"].as_str().unwrap());
            let sha256 = |file: &str| openssl(&of.join(file), &["-fingerprint", "-sha256"]);
            assert_eq!(route["sha256"], sha256("tls/route.crt"), "{route}");
            assert_eq!(route["ca_sha256"], sha256("tls/cluster-ca.crt"), "{route}");
            assert!(route["not_after_unix"].as_i64().is_some_and(|end| end > 1_700_000_000), "{route}");
        }
    }
    // A certificate of another CA, as it lies in the file now: the engine's routes stand, and yet it is noticed.
    let tls = cluster.node("magnus").join("tls");
    let files = ["route.crt", "route.key"].map(|file| (tls.join(file), fs::read(tls.join(file)).unwrap()));
    for (own, other) in [("route.crt", "server.crt"), ("route.key", "server.key")] {
        fs::copy(tls.join(other), tls.join(own)).unwrap();
    }
    let (code, routes) = probe(cluster, "magnus");
    for (file, content) in &files {
        fs::write(file, content).unwrap();
    }
    assert_eq!(code, Some(1), "{routes:?}");
    assert!(routes.iter().all(|route| route["ok"] == false), "{routes:?}");
    assert!(routes[0]["error"].as_str().unwrap().contains("did not accept our certificate"), "{routes:?}");
    assert_eq!(probe(cluster, "magnus").0, Some(0));
    // And the other way round: what a node serves is not of the CA that we trust.
    let (ca, own) = (tls.join("cluster-ca.crt"), fs::read(tls.join("cluster-ca.crt")).unwrap());
    fs::copy(tls.join("client-ca.crt"), &ca).unwrap();
    let (code, routes) = probe(cluster, "magnus");
    fs::write(&ca, own).unwrap();
    assert_eq!(code, Some(1), "{routes:?}");
    assert!(routes[0]["error"].as_str().unwrap().contains("UnknownIssuer"), "{routes:?}");
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
