//! A revocation on three real nodes: it returns when all have acknowledged, or when who is silent certainly serves nobody.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::net::IpAddr;
use std::process::Output;

use common::nats::Client;
use common::{Authority, Daemon, Dir, own_address, said, signal};
use nkeys::{KeyPair, XKey};
use serde_json::Value;

const NODES: [&str; 3] = ["magnus", "homer", "datardos"];

fn start() -> [Daemon; 3] {
    let (dirs, addresses) = ([(); 3].map(|()| Dir::new()), [(); 3].map(|()| own_address()));
    let authority = Authority::new(&dirs[0]);
    let ca = std::fs::read_to_string(dirs[0].path().join("ca.crt")).unwrap();
    let (issuer, xkey) = (KeyPair::new_account().seed().unwrap(), XKey::new().seed().unwrap());
    let drawn = data_encoding::HEXLOWER.encode(&XKey::new().seed().unwrap().as_bytes()[..32]);
    let (password, id) = (drawn.as_str(), &drawn[..32]);
    for (dir, address) in dirs.iter().zip(addresses) {
        dir.write("ca.crt", &ca, 0o644);
        authority.leaf(dir, address, 365);
        dir.write("cluster.pass", password, 0o600);
        dir.write("secrets/issuer.nk", &issuer, 0o600);
        dir.write("secrets/xkey.nk", &xkey, 0o600);
        for name in ["callout", "control", "system", "bus"] {
            dir.write(&format!("secrets/{name}.nk"), &KeyPair::new_user().seed().unwrap(), 0o600);
        }
    }
    let mut nodes = dirs.into_iter().zip(addresses).zip(NODES).map(|((dir, address), node)| {
        let others = addresses
            .iter()
            .filter(|other| **other != address)
            .map(|other: &IpAddr| format!("nats-route://{other}:6250"));
        let routes = others.collect::<Vec<_>>().join(",");
        let settings = [
            ["--cluster-name", "test"],
            ["--store", "kv"],
            ["--cluster-id", id],
            ["--node-name", node],
            ["--routes", &routes],
            ["--cluster-pass-file", "cluster.pass"],
            ["--secrets-dir", "secrets"],
            ["--tls-cert", "server.crt"],
            ["--tls-key", "server.key"],
            ["--tls-ca", "ca.crt"],
            ["--route-cert", "server.crt"],
            ["--route-key", "server.key"],
            ["--route-ca", "ca.crt"],
        ];
        Daemon::launch(dir, address, settings.as_flattened())
    });
    let nodes = [(); 3].map(|()| nodes.next().unwrap());
    nodes.iter().for_each(Daemon::wait_for_lease);
    nodes
}

fn connect(node: &Daemon, seed: &str, handle: &str) -> Option<Client> {
    let ca = node.dir.path().join("ca.crt");
    let (client, answer) = Client::connect_trusting(node, Some(&ca), seed, &format!("_INBOX.{handle}"));
    (answer["ok"] == true).then_some(client)
}

/// Connects as soon as the node knows of the user.
fn connected(node: &Daemon, seed: &str, handle: &str) -> Client {
    let found = std::cell::RefCell::new(None);
    node.wait(&format!("admission of {handle}"), || {
        *found.borrow_mut() = connect(node, seed, handle);
        found.borrow().is_some()
    });
    found.into_inner().unwrap()
}

fn fenced(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_revocation_is_acknowledged_by_all_or_waits_for_the_end_of_the_silent() {
    let nodes = start();
    let seeds = ["alice", "bob", "carol"].map(|handle| {
        let key = nodes[0].identity(handle);
        let added = nodes[0].ask(&["user", "add", "--handle", handle, "--sign-pub", &key]);
        assert!(added.status.success(), "{}", said(&added));
        nodes[0].seed(handle)
    });
    let [alice, bob, carol] = seeds.each_ref().map(String::as_str);
    let mut members: Vec<_> = nodes.iter().map(|node| connected(node, alice, "alice")).collect();
    let mut bystander = connected(&nodes[1], bob, "bob");

    let answer = fenced(&nodes[2].ask(&["user", "disable", "alice", "--json"]));
    assert_eq!(answer["fence"], "acknowledged", "{answer}\n{}", nodes[2].log());
    for (node, client) in nodes.iter().zip(&mut members) {
        assert!(!client.is_connected(), "a disabled user is connected after the answer\n{}", node.log());
        assert!(connect(node, alice, "alice").is_none(), "and comes back");
    }
    assert!(bystander.is_connected(), "somebody else was cut too");

    // A node that does not answer: its engine goes on by itself until its time is over.
    let mut frozen = connected(&nodes[1], carol, "carol");
    let engine = nodes[1].engine_pid().unwrap();
    signal(nodes[1].child.id(), "STOP");
    let answer = fenced(&nodes[0].ask(&["user", "remove", "carol", "--json"]));
    assert_eq!(answer["fence"], "waited_out", "{answer}");
    let bound = nodes[0].status().unwrap()["lease"]["bound_ms"].as_u64().unwrap();
    assert!(answer["waited_ms"].as_u64().unwrap() <= bound + 500, "{answer}");
    assert!(!common::alive(engine), "the engine of a frozen node outlives its lease");
    assert!(!frozen.is_connected(), "a removed user is served by a frozen node");

    // Whose time is over is not waited for again.
    let answer = fenced(&nodes[2].ask(&["user", "disable", "bob", "--json"]));
    assert_eq!(answer["fence"], "acknowledged", "{answer}");
}
