//! `verify` can go red: each of its checks is broken on a live cluster, and must name what is wrong, where, and the remedy.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::client::Client;
use super::harness::{Build, Cluster, NODES, failures, holds, said, wait};

/// Waits until `verify` fails with this check on this node, and returns the check.
pub(crate) fn red(cluster: &Cluster, id: &str, node: &str, got: &str) -> Value {
    let mut found = Value::Null;
    wait(&format!("failed check {id} of {node}"), 40, || {
        let (verdict, code) = cluster.verify();
        let checks = verdict["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["id"] == id && check["node"] == node && check["ok"] == false);
        found = check.cloned().unwrap_or_default();
        let right = found["got"].as_str().is_some_and(|said| said.contains(got));
        holds(right && code == Some(1) && verdict["ok"] == false, format!("{:?} {found}", failures(&verdict)))
    });
    assert!(!found["remedy"].as_str().unwrap().is_empty(), "no remedy: {found}");
    assert!(!found["want"].as_str().unwrap().is_empty(), "nothing wanted: {found}");
    found
}

#[test]
fn nodes_quorum_buckets_admins_and_certificates() {
    let cluster = Cluster::start(Build::Real);

    cluster.control(&["stop", "homer"]);
    let check = red(&cluster, "reachable", "homer", "");
    assert!(check["remedy"].as_str().unwrap().contains("homer"), "{check}");
    red(&cluster, "routes", "magnus", "homer");
    red(&cluster, "replicas.UNIBUS_users", "datardos", "2 current");

    // A key that is another node's: the node is not started.
    let server = |node: &str, kind: &str| cluster.node(node).join("tls").join(format!("server.{kind}"));
    let keep = |kind: &str| {
        let kept = cluster.state.join(format!("kept.{kind}"));
        fs::copy(server("homer", kind), &kept).unwrap();
        kept
    };
    let (key, certificate) = (keep("key"), keep("crt"));
    fs::copy(server("magnus", "key"), server("homer", "key")).unwrap();
    let refused = cluster.local(&["start", "homer"]);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("tls/server.key"), "{}", said(&refused));
    let checked = cluster.membershipd("homer", &["check-config", "--env-file", "cluster.env"]);
    assert_eq!(checked.status.code(), Some(64), "{}", said(&checked));
    assert!(said(&checked).contains("is not the key of tls/server.crt"), "{}", said(&checked));
    fs::copy(&key, server("homer", "key")).unwrap();

    mint_for_days(&cluster, "homer", 10);
    cluster.control(&["start", "homer"]);
    red(&cluster, "certificate.server", "homer", "tls/server.crt until");
    fs::copy(&certificate, server("homer", "crt")).unwrap();
    cluster.control(&["restart", "homer"]);
    cluster.wait_until_verified();

    // Whoever holds a node's control key can change the buckets behind the daemon's back.
    let control = fs::read_to_string(cluster.node("magnus").join("secrets/control.nk")).unwrap();
    let mut intruder = Client::new();
    assert_eq!(intruder.connect(&cluster, "magnus", control.trim())["ok"], true);
    let scale = |client: &mut Client, count| {
        let answer = client.say(json!({ "op": "replicas", "stream": "KV_UNIBUS_rooms", "count": count }));
        assert_eq!(answer["ok"], true, "{answer}");
    };
    scale(&mut intruder, 1);
    let check = red(&cluster, "replicas.UNIBUS_rooms", "homer", "1 of 1");
    assert!(check["remedy"].as_str().unwrap().contains("scale 3"), "{check}");
    scale(&mut intruder, 3);
    cluster.wait_until_verified();

    assert!(cluster.user("homer", &["disable", "root", "--last-admin"]).status.success());
    let check = red(&cluster, "admins", "*", "0");
    assert!(check["remedy"].as_str().unwrap().contains("seed-admin"), "{check}");
    assert!(cluster.user("homer", &["enable", "root"]).status.success());
    cluster.wait_until_verified();

    // A fourth server with a stolen certificate and password joins the cluster.
    let stranger = Stranger::join(&cluster, false);
    let check = red(&cluster, "cluster", "magnus", "stranger");
    assert!(check["remedy"].as_str().unwrap().contains("stranger"), "{check}");
    drop(stranger);
    cluster.wait_until_verified();
    // With JetStream it becomes a member of the meta group, and stays one after it has gone.
    let stranger = Stranger::join(&cluster, true);
    red(&cluster, "cluster", "magnus", "4 nodes");
    drop(stranger);
}

#[test]
fn posture_versions_engine_clock_and_high_availability() {
    let cluster = Cluster::start(Build::Faults);
    // Each word of the posture by itself: `verify::tests`. Here, that daemons say them.
    let tls = [
        ("UNIBUS_TLS_CERT", "tls/server.crt"),
        ("UNIBUS_TLS_KEY", "tls/server.key"),
        ("UNIBUS_TLS_CA", "tls/client-ca.crt"),
    ];
    let mut open: Vec<(&str, &str)> = tls.iter().map(|(name, _)| (*name, "")).collect();
    open.extend([("UNIBUS_FAULT", "no-start-guards"), ("UNIBUS_BUS_AUTH", "off")]);
    cluster.reconfigure("homer", &open);
    let posture = red(&cluster, "posture", "homer", "bus_auth=off acl=false");
    assert!(posture["got"].as_str().unwrap().contains("tls=false"), "{posture}");

    let faults = ("UNIBUS_FAULT", "no-explicit-deny,clock-ahead");
    cluster.reconfigure("homer", &[&tls[..], &[faults, ("UNIBUS_BUS_AUTH", "enforce")]].concat());
    let posture = red(&cluster, "posture", "homer", "acl=false");
    assert!(!posture["got"].as_str().unwrap().contains("bus_auth"), "{posture}");
    red(&cluster, "clock", "homer", "ahead");

    // The same engine but for one byte at its end: it runs, and it is not what was pinned.
    let engine = cluster.node("homer").join("nats-server");
    let right = fs::canonicalize(&engine).unwrap();
    let env = fs::read_to_string(cluster.node("homer").join("cluster.env")).unwrap();
    let pinned = env.lines().find_map(|line| line.strip_prefix("UNIBUS_ENGINE_SHA256=")).unwrap();
    let other = cluster.state.join("other-nats-server");
    fs::copy(&right, &other).unwrap();
    std::io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(&other).unwrap(), b"\0").unwrap();
    point(&engine, &other);
    let refused = cluster.local(&["restart", "homer"]);
    assert!(!refused.status.success(), "a tampered engine was started");
    assert!(cluster.log("homer").contains("tampered"), "{}", cluster.log("homer"));
    let sum = Command::new("sha256sum").arg(&other).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let sum = sum.split_whitespace().next().unwrap();
    // Started all the same, by a daemon of another version.
    let program = cluster.node("homer").join("membershipd");
    let before = fs::read_link(&program).unwrap();
    point(&program, &Build::Real.path());
    cluster.reconfigure("homer", &[("UNIBUS_ENGINE_SHA256", sum), ("UNIBUS_FAULT", "")]);
    red(&cluster, "engine", "homer", sum);
    red(&cluster, "version", "homer", "0.1.0");

    point(&engine, &right);
    point(&program, &before);
    cluster.reconfigure("homer", &[("UNIBUS_ENGINE_SHA256", pinned)]);
    cluster.wait_until_verified();
}

fn point(link: &Path, to: &Path) {
    let _ = fs::remove_file(link);
    symlink(to, link).unwrap();
}

/// Replaces a node's server certificate by one that ends soon, for the same key and of the same CA.
fn mint_for_days(cluster: &Cluster, node: &str, days: u32) {
    let tls = cluster.node(node).join("tls");
    let names = format!("subjectAltName=IP:127.0.0.1,IP:{},DNS:localhost\n", cluster.address(node));
    let (request, extensions) = (cluster.state.join("request.csr"), cluster.state.join("names.ext"));
    fs::write(&extensions, names).unwrap();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    openssl(&["req", "-new", "-key", &text(&tls.join("server.key")), "-subj", "/CN=soon", "-out", &text(&request)]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        &text(&request),
        "-CA",
        &text(&cluster.ca()),
        "-CAkey",
        &text(&cluster.state.join("tls/ca.key")),
        "-set_serial",
        "77",
        "-days",
        &days.to_string(),
        "-extfile",
        &text(&extensions),
        "-out",
        &text(&tls.join("server.crt")),
    ]);
}

/// A server that nobody invited, with a node's certificate and the route password.
struct Stranger(Child);

impl Stranger {
    fn join(cluster: &Cluster, jetstream: bool) -> Self {
        let node = cluster.node("datardos");
        let own: Value = serde_json::from_str(&fs::read_to_string(node.join("run/engine.conf")).unwrap()).unwrap();
        let address = std::net::Ipv4Addr::from(u32::from(cluster.base) + 3).to_string();
        let mut config = own.clone();
        let map = config.as_object_mut().unwrap();
        map.insert("server_name".to_owned(), json!("stranger"));
        map.insert("host".to_owned(), json!(address));
        if jetstream {
            map["jetstream"]["store_dir"] = json!(cluster.state.join("stranger"));
        } else {
            map.remove("jetstream");
            for account in map["accounts"].as_object_mut().unwrap().values_mut() {
                account.as_object_mut().unwrap().remove("jetstream");
            }
        }
        map["cluster"]["host"] = json!(address);
        let routes = map["cluster"]["routes"].as_array_mut().unwrap();
        let mine = routes[0]
            .as_str()
            .unwrap()
            .replace(&cluster.address(NODES[0]).to_string(), &cluster.address("datardos").to_string());
        routes.push(json!(mine));
        let file = cluster.state.join("stranger.conf");
        fs::write(&file, config.to_string()).unwrap();
        let log = fs::File::create(cluster.state.join("stranger.log")).unwrap();
        Self(
            Command::new(node.join("nats-server"))
                .arg("-c")
                .arg(file)
                .stderr(log)
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
