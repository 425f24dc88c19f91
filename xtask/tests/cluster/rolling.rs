//! `scale` and `roll` on a live cluster: copies are raised in place, nodes restart one after the other, and nobody notices.

use std::fs;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Build, Cluster, NODES, failures, holds, said, wait};

/// A verb for this cluster.
fn verb(cluster: &Cluster, verb: &str) -> Output {
    let words: Vec<&str> = verb.split_whitespace().collect();
    cluster.xtask(&[words.as_slice(), &["--local", "--state", cluster.state.to_str().unwrap()]].concat())
}

fn succeeds(output: &Output) -> String {
    let said = said(output);
    assert!(output.status.success(), "{said}");
    said
}

fn boots(cluster: &Cluster) -> [String; 3] {
    NODES.map(|node| cluster.posture(node).unwrap()["boot"].as_str().unwrap().to_owned())
}

#[test]
fn one_copy_is_scaled_to_three_and_a_roll_restarts_one_node_after_the_other() {
    let cluster = Cluster::reserve();
    let up = cluster.up(Build::Real, &["--kv-replicas", "1"]);
    assert!(up.status.success(), "{}", said(&up));
    assert!(failures(&cluster.verify().0).iter().all(|check| check.starts_with("ha@")), "one copy is not HA");

    let before = boots(&cluster);
    succeeds(&verb(&cluster, "scale 3"));
    let topology = || fs::read_to_string(cluster.state.join("nodes.toml")).unwrap();
    assert!(topology().contains("kv_replicas = 1"), "a dry run changed the topology");
    assert!(!failures(&cluster.verify().0).is_empty(), "a dry run changed the buckets");
    let scaled = succeeds(&verb(&cluster, "scale 3 --yes"));
    assert!(topology().contains("kv_replicas = 3"), "{scaled}");
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(0), "right after scale, without a restart: {:?}", failures(&verdict));
    assert_eq!(boots(&cluster), before, "scale restarted somebody");
    let again = succeeds(&verb(&cluster, "scale 3 --yes"));
    assert!(again.contains("everything was so already: nothing was changed"), "{again}");
    assert_eq!(verb(&cluster, "scale 1 --yes").status.code(), Some(2));

    // The settings are newer than the daemons: each node restarts once, while somebody writes all the time.
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let (rolled, writes) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&cluster, &stop));
        let rolled = verb(&cluster, "roll --yes");
        let took = begun.elapsed();
        stop.store(true, Ordering::Relaxed);
        println!("three nodes rolled in {} s", took.as_secs());
        (rolled, writer.join().unwrap())
    });
    let rolled = succeeds(&rolled);
    println!("{} writes, the slowest took {} ms", writes.0, writes.1.as_millis());
    assert!(writes.0 > 10, "too few writes to mean anything: {}", writes.0);
    let after = boots(&cluster);
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "a node was left out: {rolled}");
    // The roll was over only when all was well again.
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(0), "{:?}", failures(&verdict));

    let again = succeeds(&verb(&cluster, "roll --yes"));
    assert!(again.contains("everything was so already: nothing was changed"), "{again}");
    assert_eq!(boots(&cluster), after);
    succeeds(&verb(&cluster, "roll --restart --node homer --yes"));
    let last = boots(&cluster);
    assert!(last[0] == after[0] && last[1] != after[1] && last[2] == after[2], "{after:?} {last:?}");

    // Nothing of it is lost when the cluster starts again.
    assert!(cluster.local(&["--down"]).status.success());
    let up = cluster.up(Build::Real, &[]);
    assert!(up.status.success(), "{}", said(&up));
    assert_eq!(cluster.verify().1, Some(0));
}

/// Adds one user after the other, each on whichever node takes it; returns how many, and how long the slowest took.
fn write(cluster: &Cluster, stop: &AtomicBool) -> (u32, Duration) {
    let (mut written, mut slowest) = (0_u32, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let handle = format!("w{written}");
        let key = cluster.identity(&handle).sign_pub;
        let mut nodes = NODES.into_iter().cycle();
        let took = wait("write during the roll", 20, || {
            let node = nodes.next().unwrap();
            let added = cluster.user(node, &["add", "--handle", &handle, "--sign-pub", &key]);
            let done = added.status.success() || said(&added).contains("exists");
            holds(done, format!("{node}: {}", said(&added)))
        });
        slowest = slowest.max(took);
        written += 1;
    }
    (written, slowest)
}
