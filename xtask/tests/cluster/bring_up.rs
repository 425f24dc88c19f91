//! `cargo xtask local` from nothing to proven and back, as the README promises it.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;

use super::harness::{Build, Cluster, NODES, Work, alive, failures, said, signal, wait, xtask};
use rustix::process::{Pid, Signal};

const BUCKETS: [&str; 10] = [
    "UNIBUS_users",
    "UNIBUS_rooms",
    "UNIBUS_members",
    "UNIBUS_room_keys",
    "UNIBUS_invites",
    "UNIBUS_rooms_by_member",
    "UNIBUS_nonces",
    "UNIBUS_nonce_log",
    "OBJ_UNIBUS_blobs",
    "UNIBUS_audit",
];

#[test]
fn a_cluster_comes_up_proved_is_measured_and_goes_down_with_all_that_it_started() {
    let cluster = Cluster::start_for(Work::Loads, Build::Real);
    the_verdict_says_everything(&cluster);

    let second = cluster.up(Build::Real, &[]);
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains(cluster.state.to_str().unwrap()), "{}", said(&second));
    let fresh = cluster.up(Build::Real, &["--fresh"]);
    assert_eq!(fresh.status.code(), Some(1), "stores of a running cluster must stay: {}", said(&fresh));

    let status = said(&cluster.xtask(&["status", "--local", "--state", cluster.state.to_str().unwrap()]));
    for word in ["magnus", "homer", "datardos", "leader", "lease"] {
        assert!(status.contains(word), "{status}");
    }

    measures_and_leaves_nothing(&cluster);

    let pids: Vec<(u32, u32)> = NODES.iter().map(|node| cluster.pids(node)).collect();
    assert!(cluster.local(&["--down"]).status.success());
    for (daemon, engine) in pids {
        assert!(!alive(daemon) && !alive(engine), "something was left running");
    }
    let again = cluster.local(&["--down"]);
    assert!(again.status.success(), "{}", said(&again));

    // In the foreground: with empty stores, and then with what those hold.
    the_foreground_takes_everything_with_it(&cluster, &["--fresh"], Signal::INT);
    the_foreground_takes_everything_with_it(&cluster, &[], Signal::KILL);
}

fn the_verdict_says_everything(cluster: &Cluster) {
    let (verdict, code) = cluster.verify();
    assert_eq!(code, Some(0), "{:?}", failures(&verdict));
    assert_eq!((&verdict["schema"], &verdict["ok"]), (&1.into(), &true.into()));
    let nodes = verdict["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), NODES.len());
    let mut ends = std::collections::BTreeSet::new();
    for node in nodes {
        assert_eq!(node["bus_auth"], "enforce");
        assert_eq!((&node["acl"], &node["tls"], &node["store"]), (&true.into(), &true.into(), &"kv".into()));
        assert_eq!(node["cluster"]["size"], 3);
        assert!(NODES.iter().any(|name| node["cluster"]["leader"] == *name), "{node}");
        let replicas = node["replicas"].as_array().unwrap();
        for bucket in BUCKETS {
            let of = replicas.iter().find(|replica| replica["bucket"] == bucket);
            assert!(of.is_some_and(|r| r["want"] == 3 && r["current"] == 3), "{bucket}: {of:?}");
        }
        assert_eq!(node["admins"], 1);
        assert_eq!(node["engine"]["version"], "2.15.1");
        assert_eq!(node["engine"]["sha256"].as_str().unwrap().len(), 64);
        let certificates = node["certificates"].as_array().unwrap();
        for name in ["server", "client-ca", "route", "cluster-ca"] {
            let of = certificates.iter().find(|certificate| certificate["name"] == name).unwrap();
            assert!(of["not_after"].as_str().unwrap().starts_with("20"), "{of}");
        }
        ends.insert(certificates.iter().find(|c| c["name"] == "server").unwrap()["not_after"].to_string());
    }
    assert_eq!(ends.len(), 3, "the nodes' certificates must not all end together");
}

fn measures_and_leaves_nothing(cluster: &Cluster) {
    let output = cluster.local(&["bench", "homer", "--seconds", "1", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["node"], "homer");
    let (figures, ratios) = (report["figures"].as_array().unwrap(), report["ratios"].as_array().unwrap());
    assert_eq!((figures.len(), ratios.len()), (17, 8));
    for figure in figures {
        let (p50, p99) = (figure["p50_us"].as_u64().unwrap(), figure["p99_us"].as_u64().unwrap());
        assert!(figure["per_second"].as_f64().unwrap() > 0.0 && 0 < p50 && p50 <= p99, "{figure}");
    }
    assert!(ratios.iter().all(|ratio| ratio["is"].as_f64().unwrap() > 0.0), "{ratios:?}");
    let users: Value = serde_json::from_slice(&cluster.user("magnus", &["list", "--json"]).stdout).unwrap();
    let left = users["users"].as_array().unwrap().iter().filter(|user| user["state"] != "removed");
    let left: Vec<&str> = left.map(|user| user["handle"].as_str().unwrap()).collect();
    assert_eq!(left, ["root"]);
    let nobody = cluster.local(&["bench", "nobody"]);
    assert!(!nobody.status.success() && said(&nobody).contains("no node"), "{}", said(&nobody));
}

#[test]
fn a_bench_on_a_cluster_of_its_own_leaves_nothing_also_on_ctrl_c() {
    let place = Cluster::reserve(Work::Waits);
    let (state, daemon) = (place.state.to_str().unwrap(), Build::Real.path());
    let shown = place.state.join("shown");
    let mut bench = xtask();
    bench.args(["local", "--state", state, "bench", "--seconds", "60", "--own-address", &place.base.to_string()]);
    bench.arg("--own-membershipd").arg(&daemon);
    // A group of its own, to which Ctrl-C goes as from a terminal.
    bench.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&shown).unwrap());
    let mut bench = bench.spawn().unwrap();
    wait("a bench that measures", 120, || {
        let shown = std::fs::read_to_string(&shown).unwrap();
        if shown.contains("turn 1 of 4") { Ok(()) } else { Err(shown) }
    });
    let made = PathBuf::from(format!("{state}.bench"));
    assert!(made.join("nodes.toml").exists());
    let group = Pid::from_raw(bench.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process_group(group, Signal::INT).unwrap();
    let status = bench.wait().unwrap();
    let shown = std::fs::read_to_string(&shown).unwrap();
    assert_eq!(status.code(), Some(1), "{shown}");
    assert!(shown.contains("told to stop") && shown.contains("its users and rooms are removed"), "{shown}");
    assert!(!made.exists(), "something is left: {shown}");
    assert!(TcpListener::bind((place.base, 4250)).is_ok(), "its engine runs: {shown}");
}

fn the_foreground_takes_everything_with_it(cluster: &Cluster, flags: &[&str], how: Signal) {
    let (daemon, shown) = (Build::Real.path(), cluster.state.join("shown"));
    let mut foreground = xtask()
        .args(["local", "--state", cluster.state.to_str().unwrap(), "--base-address", &cluster.base.to_string()])
        .args(["--membershipd", daemon.to_str().unwrap()])
        .args(flags)
        .stdout(std::fs::File::create(&shown).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait("cluster in the foreground", 60, || {
        let shown = std::fs::read_to_string(&shown).unwrap();
        if shown.contains("up and proved") { Ok(()) } else { Err(shown) }
    });
    let pids: Vec<(u32, u32)> = NODES.iter().map(|node| cluster.pids(node)).collect();
    signal(foreground.id(), how);
    let status = foreground.wait().unwrap();
    if how == Signal::INT {
        assert_eq!(status.code(), Some(0), "Ctrl-C is the ordinary end");
    }
    for (daemon, engine) in pids {
        wait("end of all processes", 60, || {
            if alive(daemon) || alive(engine) { Err(format!("after {how:?}: {daemon} {engine}")) } else { Ok(()) }
        });
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_made() {
    let cluster = Cluster::reserve(Work::Waits);
    let refused = |flags: &[&str], expected: &[&str]| {
        let output = cluster.local(&[&["--detach"], flags].concat());
        assert!(matches!(output.status.code(), Some(1 | 2)), "{flags:?}: {}", said(&output));
        for word in expected {
            assert!(said(&output).contains(word), "{flags:?} should say '{word}': {}", said(&output));
        }
        assert!(!cluster.state.join("nodes").exists(), "{flags:?} made something");
    };
    let (base, daemon) = (cluster.base.to_string(), Build::Real.path());
    let daemon = daemon.to_str().unwrap();
    refused(&["--base-address", "10.0.0.1", "--membershipd", daemon], &["10.0.0.1", "127.0.0.0/8"]);
    refused(&["--base-address", "nonsense"], &["--base-address", "nonsense"]);
    refused(&["--base-address", &base, "--kv-replicas", "2", "--membershipd", daemon], &["kv_replicas"]);
    refused(&["--base-address", &base, "--engine", "/nowhere/nats-server"], &["/nowhere/nats-server"]);
    refused(&["--base-address", &base, "--membershipd", "/nowhere/membershipd"], &["/nowhere/membershipd"]);

    let old = cluster.state.join("old");
    std::fs::write(&old, "#!/bin/sh\necho nats-server: v2.9.10\n").unwrap();
    std::fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    refused(&["--base-address", &base, "--engine", old.to_str().unwrap()], &["2.9.10", "2.14"]);

    let taken = std::net::TcpListener::bind((cluster.address("homer"), 8470)).unwrap();
    let (port, own) = (format!("{}:8470", cluster.address("homer")), std::process::id().to_string());
    refused(&["--base-address", &base, "--membershipd", daemon], &[&port, &own]);
    drop(taken);
}

#[test]
fn nothing_generated_is_git_s_business() {
    for path in ["tls/ca.key", "tls/ca.crt", "secrets/unibus/issuer.nk", "out/unibus/magnus/cluster.env", "build/x"] {
        let ignored = std::process::Command::new("git")
            .args(["check-ignore", "--quiet", &format!("deploy/{path}")])
            .current_dir(super::harness::root())
            .status()
            .unwrap();
        assert!(ignored.success(), "deploy/{path} is not ignored by git");
    }
}
