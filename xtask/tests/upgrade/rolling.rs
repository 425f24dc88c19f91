//! Three nodes go from the previous release to this one, one after the other, while clients use them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::harness::{Build, Cluster, NODES, Work, said};
use super::judged::during;

/// The admin at a shell, with a program of either release.
fn admin(cluster: &Cluster, build: Build, line: &str) -> String {
    let mut command = Command::new(build.path());
    command.env_clear().args(line.split_whitespace()).current_dir(&cluster.state).stdin(Stdio::null());
    let shell = fs::read_to_string(cluster.state.join("env")).unwrap();
    for (name, value) in shell.lines().filter_map(|line| line.strip_prefix("export UNIBUS_")?.split_once('=')) {
        command.env(format!("UNIBUS_{name}"), value.trim_matches('\''));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{line}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The file that a process was started from.
fn program_of(cluster: &Cluster, node: &str) -> Vec<u8> {
    fs::read(format!("/proc/{}/exe", cluster.pids(node).0)).unwrap()
}

/// Puts a program in the place of the one that the nodes have; those that run keep theirs.
fn replace(program: &Path, by: &Path) {
    let new = program.with_extension("new");
    fs::copy(by, &new).unwrap();
    fs::rename(&new, program).unwrap();
}

fn content(cluster: &Cluster, build: Build, file: &str) -> String {
    let mut export = Command::new(build.path());
    export.env_clear().current_dir(cluster.node(NODES[0])).args(["export", "--json", "--runtime-dir", "run", "--db"]);
    let output = export.arg(cluster.state.join(file)).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    answer["content_sha256"].as_str().unwrap().to_owned()
}

#[test]
fn three_nodes_roll_from_the_previous_release_and_no_client_notices() {
    let cluster = Cluster::start_for(Work::LoadsLong, Build::Previous);
    let previous = fs::read(Build::Previous.path()).unwrap();
    assert!(NODES.iter().all(|node| program_of(&cluster, node) == previous));
    let photo = b"a picture".to_vec();
    fs::write(cluster.state.join("photo"), &photo).unwrap();
    let bob = cluster.add_user(NODES[1], "bob");
    for line in [
        "room create kitchen --subject room.kitchen",
        "say kitchen before the upgrade",
        "blob put kitchen photo",
        "member invite kitchen bob --role member",
    ] {
        admin(&cluster, Build::Previous, line);
    }
    let before = content(&cluster, Build::Previous, "before.db");
    assert_eq!(content(&cluster, Build::Real, "again.db"), before, "this release reads the store of the previous one");

    replace(&cluster.state.join("bin/membershipd"), &Build::Real.path());
    during(&cluster, &["roll", "--restart", "--yes"]);

    let this = fs::read(Build::Real.path()).unwrap();
    assert!(NODES.iter().all(|node| program_of(&cluster, node) == this), "a node was left out");
    cluster.wait_until_verified();
    let said = admin(&cluster, Build::Real, "tail kitchen --no-follow");
    assert!(said.contains("before the upgrade"), "{said}");
    let listed: Value = serde_json::from_str(&admin(&cluster, Build::Real, "blob list kitchen --json")).unwrap();
    let sha256 = listed["blobs"][0]["sha256"].as_str().unwrap();
    admin(&cluster, Build::Real, &format!("blob get kitchen {sha256} --out copy"));
    assert_eq!(fs::read(cluster.state.join("copy")).unwrap(), photo);
    assert!(NODES.iter().all(|node| cluster.admits(node, &bob.seed)), "a user of before is let in by all");
    admin(&cluster, Build::Real, "say kitchen after the upgrade");
    // A client of the release before is served as well.
    let said = admin(&cluster, Build::Previous, "tail kitchen --no-follow");
    assert!(said.contains("before the upgrade") && said.contains("after the upgrade"), "{said}");
}
