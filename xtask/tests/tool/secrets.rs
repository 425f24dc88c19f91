//! Secrets are made once, proved at every run, never overwritten, and stand nowhere but in their files.

use crate::common::{self, Clone, NODES};
use std::fs;

const DIR: &str = "deploy/secrets/test";

fn made() -> Clone {
    let clone = Clone::new();
    clone.ok("client-ca");
    clone.ok("cluster-certs");
    clone.ok("secrets");
    clone
}

#[test]
fn what_is_asked_for_is_done_also_when_nobody_reads_what_is_said() {
    let clone = Clone::new();
    let unread = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for verb in ["client-ca", "cluster-certs", "secrets"] {
        let status = clone.command([verb]).stdout(unread()).stderr(unread()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{verb}");
    }
    assert!(clone.ok("secrets").stdout.contains("kept"));
}

#[test]
fn every_node_gets_all_that_it_needs_in_either_order() {
    let other = Clone::new();
    other.ok("client-ca");
    let first = other.ok("secrets");
    assert!(first.stdout.contains("next: cargo xtask cluster-certs"), "{}", first.stdout);
    assert!(!other.ok("cluster-certs").stdout.contains("not complete"));
    for clone in [made(), other] {
        for node in NODES {
            let mut found: Vec<String> = Vec::new();
            for dir in ["", "tls", "secrets"] {
                for entry in fs::read_dir(clone.path(&format!("deploy/out/test/{node}/{dir}"))).unwrap() {
                    found.push(format!("{dir}/{}", entry.unwrap().file_name().to_string_lossy()));
                }
            }
            found.sort();
            let want = [
                "/cluster.env",
                "/secrets",
                "/tls",
                "secrets/bus.nk",
                "secrets/callout.nk",
                "secrets/cluster.pass",
                "secrets/control.nk",
                "secrets/issuer.nk",
                "secrets/system.nk",
                "secrets/xkey.nk",
                "tls/client-ca.crt",
                "tls/cluster-ca.crt",
                "tls/route.crt",
                "tls/route.key",
                "tls/server.crt",
                "tls/server.key",
            ];
            assert_eq!(found, want, "{node}");
        }
    }
}

#[test]
fn the_environment_of_a_node_holds_no_secret() {
    let clone = made();
    let env = clone.read("deploy/out/test/b/cluster.env");
    for line in [
        "UNIBUS_NODE_NAME=b",
        "UNIBUS_BIND=0.0.0.0",
        "UNIBUS_ADVERTISE=192.0.2.2",
        "UNIBUS_ROUTE_BIND=198.51.100.2",
        "UNIBUS_ROUTES=nats-route://198.51.100.1:6250,nats-route://198.51.100.3:6250",
        "UNIBUS_BUS_AUTH=enforce",
        "UNIBUS_STORE=kv",
        "UNIBUS_KV_REPLICAS=3",
        "UNIBUS_CLUSTER_PASS_FILE=secrets/cluster.pass",
    ] {
        assert!(env.lines().any(|have| have == line), "{line} is not in:\n{env}");
    }
    assert!(!env.contains("UNIBUS_MONITOR"), "no engine has a monitor any more");
    assert!(!env.contains("UNIBUS_ENGINE"), "which engine runs belongs to the release, not to the settings");
    let id = clone.read(&format!("{DIR}/cluster.id"));
    assert!(env.contains(&format!("UNIBUS_CLUSTER_ID={}\n", id.trim())));
    let mut secrets = 0;
    for (path, (_, content)) in clone.tree() {
        let name = path.to_string_lossy().into_owned();
        if [".key", ".nk", ".pass"].iter().any(|end| name.ends_with(end)) {
            let secret = String::from_utf8(content).unwrap();
            let telling = secret.lines().find(|line| !line.starts_with('-')).unwrap().trim().to_owned();
            assert!(!env.contains(&telling), "{name} is in cluster.env");
            secrets += 1;
        }
    }
    assert!(secrets > 20);
}

#[test]
fn what_a_run_prints_is_no_secret() {
    let clone = Clone::new();
    let mut said = clone.ok("client-ca").stdout;
    said += &clone.ok("cluster-certs").stdout;
    said += &clone.ok("secrets").stdout;
    said += &clone.ok("secrets").stdout;
    let pass = clone.read(&format!("{DIR}/cluster.pass"));
    let issuer = clone.read(&format!("{DIR}/issuer.nk"));
    assert!(!said.contains(pass.trim()) && !said.contains(issuer.trim()), "{said}");
}

#[test]
fn a_bad_secret_is_named_and_never_shown_or_replaced() {
    let clone = made();
    let user = clone.read(&format!("{DIR}/a/bus.nk"));
    let pass = clone.read(&format!("{DIR}/cluster.pass"));
    let cases = [
        ("cluster.pass", "xyz\n".to_owned(), "64 hex digits"),
        ("cluster.pass", pass.to_uppercase(), "lower-case hex"),
        ("cluster.pass", format!("{}\n", &pass[..62]), "62 characters"),
        ("cluster.pass", format!(" {pass}"), "65 characters"),
        ("cluster.pass", String::new(), "0 characters"),
        ("cluster.id", "0123".to_owned(), "32 hex digits"),
        ("issuer.nk", user.clone(), "account nkey (SA…)"),
        ("xkey.nk", user.clone(), "curve nkey (SX…)"),
        ("b/bus.nk", user.replacen('S', "T", 1), "checksum"),
        ("b/bus.nk", user[..50].to_owned(), "nkey"),
        ("b/bus.nk", "not base32!".to_owned(), "base32"),
        ("b/bus.nk", user.clone(), "is the same as deploy/secrets/test/a/bus.nk"),
    ];
    for (file, bad, why) in cases {
        let path = format!("{DIR}/{file}");
        let good = clone.read(&path);
        clone.write(&path, &bad);
        let said = clone.refused("secrets");
        assert!(said.contains(&path) && said.contains(why), "{file} {why}: {said}");
        assert!(bad.trim().len() < 10 || !said.contains(bad.trim()), "shown: {said}");
        clone.write(&path, good);
    }
    clone.ok("secrets");
}

#[test]
fn all_bad_secrets_are_reported_at_once() {
    let clone = made();
    clone.chmod(&format!("{DIR}/issuer.nk"), 0o640);
    clone.chmod(&format!("{DIR}/c/control.nk"), 0o604);
    clone.write(&format!("{DIR}/cluster.pass"), "short");
    let said = clone.refused("secrets");
    for part in
        ["chmod 600 deploy/secrets/test/issuer.nk", "chmod 600 deploy/secrets/test/c/control.nk", "cluster.pass: "]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_new_node_gets_its_own_and_the_others_keep_theirs() {
    let clone = made();
    let before = clone.tree();
    let more: String = ["d", "e"]
        .iter()
        .zip(4..)
        .map(|(n, i)| {
            format!("[[node]]\nname = \"{n}\"\nssh = \"{n}\"\npublic = \"192.0.2.{i}\"\nwg = \"198.51.100.{i}\"\n")
        })
        .collect();
    clone.write("deploy/nodes.toml", format!("{}\n{more}", common::TOPOLOGY));
    let done = clone.ok("secrets");
    assert!(done.stdout.contains("note: new beside older secrets"), "{}", done.stdout);
    let after = clone.tree();
    for (path, (_, content)) in &before {
        if path.starts_with(clone.path(DIR)) {
            assert_eq!(after.get(path).map(|(_, now)| now), Some(content), "{}", path.display());
        }
    }
    assert!(clone.path(&format!("{DIR}/e/callout.nk")).is_file());
    assert!(clone.read("deploy/out/test/a/cluster.env").contains("198.51.100.5:6250"));
}
