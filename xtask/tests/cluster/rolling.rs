//! `scale` and `roll` on a cluster in use: copies are raised in place, nodes restart one after the other, and no client notices.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::harness::{Build, Cluster, NODES, Work, failures, said};
use super::judged::during;
use super::tls::curl;

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

/// One copy serves everybody, and is called what it is.
fn one_copy_works_and_is_called_not_ha(cluster: &Cluster) {
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(1));
    let failed = failures(&verdict);
    assert!(failed.iter().all(|check| check.starts_with("ha@")) && failed.len() == 3, "{failed:?}");
    let health: Value = serde_json::from_str(curl(cluster, "magnus", "/healthz").split_once(' ').unwrap().1).unwrap();
    assert_eq!(health["status"], "not HA");
    let admin = cluster.admin_seed();
    for node in NODES {
        cluster.connected(node, &admin);
    }
}

#[test]
fn one_copy_is_scaled_to_three_and_a_roll_restarts_one_node_after_the_other_and_no_client_notices() {
    let cluster = Cluster::reserve(Work::LoadsLong);
    let up = cluster.up(Build::Real, &["--kv-replicas", "1"]);
    assert!(up.status.success() && said(&up).contains("ha"), "{}", said(&up));
    one_copy_works_and_is_called_not_ha(&cluster);

    let before = boots(&cluster);
    succeeds(&verb(&cluster, "scale 3"));
    let topology = || fs::read_to_string(cluster.state.join("nodes.toml")).unwrap();
    assert!(topology().contains("kv_replicas = 1"), "a dry run changed the topology");
    assert!(!failures(&cluster.verify().0).is_empty(), "a dry run changed the buckets");
    during(&cluster, &["scale", "3", "--yes"]);
    assert!(topology().contains("kv_replicas = 3"), "{}", topology());
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(0), "right after scale, without a restart: {:?}", failures(&verdict));
    assert_eq!(boots(&cluster), before, "scale restarted a node");
    let again = succeeds(&verb(&cluster, "scale 3 --yes"));
    assert!(again.contains("everything was so already: nothing was changed"), "{again}");
    assert_eq!(verb(&cluster, "scale 1 --yes").status.code(), Some(2));

    // The settings are newer than the daemons: each node restarts once.
    during(&cluster, &["roll", "--yes"]);
    let after = boots(&cluster);
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "a node was left out: {after:?}");
    // The roll was over only when all was well again.
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(0), "{:?}", failures(&verdict));

    let machines = verb(&cluster, "roll --reboot --yes");
    assert!(machines.status.code() == Some(2) && said(&machines).contains("is for servers"), "{}", said(&machines));
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
