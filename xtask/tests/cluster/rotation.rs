//! A new route CA goes through a live cluster: never fewer than two nodes that admit, and at the end nobody takes a
//! certificate of the old one.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Build, Cluster, NODES, failures, said};
use super::tls::{curl, routed};

/// A verb for this cluster.
fn verb(cluster: &Cluster, verb: &str) -> Output {
    let words: Vec<&str> = verb.split_whitespace().collect();
    cluster.xtask(&[words.as_slice(), &["--local", "--state", cluster.state.to_str().unwrap()]].concat())
}

/// Counts, until it is told to stop, how many nodes were healthy at the worst moment.
fn watch(cluster: &Cluster, stop: &AtomicBool) -> (usize, usize) {
    let (mut looks, mut fewest) = (0, NODES.len());
    while !stop.load(Ordering::Relaxed) {
        let healthy = thread::scope(|scope| {
            let asked = NODES.map(|node| scope.spawn(move || curl(cluster, node, "/healthz").starts_with("200")));
            asked.into_iter().filter_map(|one| one.join().ok()).filter(|healthy| *healthy).count()
        });
        fewest = fewest.min(healthy);
        looks += 1;
        thread::sleep(Duration::from_millis(200));
    }
    (looks, fewest)
}

/// Certificate and key of a route, put aside.
fn keep(cluster: &Cluster, name: &str) -> [String; 2] {
    ["crt", "key"].map(|kind| {
        let kept: PathBuf = cluster.state.join(format!("{name}.{kind}"));
        fs::copy(cluster.node("magnus").join(format!("tls/route.{kind}")), &kept).unwrap();
        kept.to_str().unwrap().to_owned()
    })
}

#[test]
fn a_new_route_ca_replaces_the_old_one_and_two_nodes_always_admit() {
    let cluster = Cluster::start(Build::Real);
    let old = keep(&cluster, "old");
    // A port that takes a certificate waits 5 s for the password; so all are asked at once.
    let taken = |[cert, key]: &[String; 2]| {
        thread::scope(|scope| {
            NODES.map(|node| scope.spawn(|| routed(&cluster, node, cert, key))).map(|one| one.join().unwrap())
        })
    };
    assert_eq!(taken(&old), [true; 3]);

    // The first phase alone, as an operator may do it who likes to look.
    let step = verb(&cluster, "cluster-certs --rotate --step --yes");
    assert!(step.status.success(), "{}", said(&step));
    let early = verb(&cluster, "cluster-certs --rotate --step --yes");
    assert!(said(&early).contains("phase introduce has not reached every node yet"), "{}", said(&early));
    let rolled = verb(&cluster, "roll --yes");
    assert!(rolled.status.success(), "{}", said(&rolled));
    for node in NODES {
        let trusted = fs::read_to_string(cluster.node(node).join("tls/cluster-ca.crt")).unwrap();
        assert_eq!(trusted.matches("BEGIN CERTIFICATE").count(), 2, "{node}");
    }

    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let (rotated, (looks, fewest)) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&cluster, &stop));
        let rotated = verb(&cluster, "cluster-certs --rotate --yes");
        stop.store(true, Ordering::Relaxed);
        (rotated, watcher.join().unwrap())
    });
    let text = said(&rotated);
    assert!(rotated.status.success(), "{text}");
    println!("two phases took {} s; {looks} looks, {fewest} nodes healthy at least", begun.elapsed().as_secs());
    for proved in ["introduce", "switch", "retire"] {
        assert!(text.contains(&format!("phase {proved}: proved on every node")), "{text}");
    }
    assert!(text.contains("complete: "), "{text}");
    assert!(looks > 10 && fewest >= 2, "{looks} looks, {fewest} healthy");

    assert_eq!(taken(&old), [false; 3], "a certificate of the old CA is still taken");
    assert_eq!(taken(&keep(&cluster, "new")), [true; 3]);
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(0), "{:?}", failures(&verdict));
}
