//! What `chaos` says of a cluster.

use std::process::Output;

use serde_json::Value;

use super::harness::{Cluster, said, xtask};

/// `chaos --local` with these flags: its verdict, and all that it said.
pub(crate) fn chaos(cluster: &Cluster, flags: &[&str]) -> (Value, Output) {
    chaos_without("", cluster, flags)
}

/// The same, with a load that has this safeguard switched off as well.
pub(crate) fn chaos_without(safeguard: &str, cluster: &Cluster, flags: &[&str]) -> (Value, Output) {
    let state = ["chaos", "--local", "--state", cluster.state.to_str().unwrap()];
    let output = xtask().env("UNIBUS_FAULT", safeguard).args(state).args(flags).output().unwrap();
    let verdict = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    (verdict, output)
}

pub(crate) fn all_violations(verdict: &Value) -> Vec<&Value> {
    let windows = verdict["windows"].as_array().unwrap().iter();
    let lists = windows.map(|window| &window["violations"]).chain([&verdict["violations"]]);
    lists.flat_map(|list| list.as_array().unwrap()).collect()
}

/// Uses the cluster during another verb: nothing may have failed.
pub(crate) fn during(cluster: &Cluster, verb: &[&str]) {
    let (verdict, output) = chaos(cluster, &[&["--json", "--during", "--"], verb].concat());
    let broken = all_violations(&verdict);
    assert_eq!(output.status.code(), Some(0), "{broken:#?}\n{}", String::from_utf8_lossy(&output.stderr));
    let window = &verdict["windows"][1];
    assert!(window["fault"].as_str().unwrap().starts_with(&format!("during {}", verb[0])), "{window:#}");
    for kind in ["write", "connect", "message"] {
        let tally = &window["kinds"][kind];
        assert_eq!((&tally["refused"], &tally["unknown"]), (&0.into(), &0.into()), "{kind}: {tally}");
        println!("{}: longest gap of {kind}s {} ms", verb.join(" "), tally["longest_gap_ms"]);
    }
}
