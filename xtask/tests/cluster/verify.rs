//! `verify` can go red: each of its checks is broken on a live cluster, and must name what is wrong, where, and the remedy.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::client::Client;
use super::harness::{Build, Cluster, NODES, failures, holds, said, wait};

/// Waits until `verify` fails with this check on this node, and returns the check.
fn red(cluster: &Cluster, id: &str, node: &str, got: &str) -> Value {
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
    cluster.control(&["stop", "datardos"]);
    red(&cluster, "leader", "magnus", "none");
    red(&cluster, "lease", "magnus", "not valid");
    // For people: the table names the same, with the remedy.
    let table = said(&cluster.xtask(&["verify", "--local", "--state", cluster.state.to_str().unwrap()]));
    assert!(table.starts_with("exit Some(1)") && table.contains("lease") && table.contains("local"), "{table}");
    cluster.control(&["start", "homer"]);
    cluster.control(&["start", "datardos"]);
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

    let (certificate, old) = (cluster.node("homer").join("tls/server.crt"), cluster.state.join("old.crt"));
    fs::copy(&certificate, &old).unwrap();
    mint_for_days(&cluster, "homer", 10);
    cluster.control(&["restart", "homer"]);
    red(&cluster, "certificate.server", "homer", "tls/server.crt until");
    fs::copy(&old, &certificate).unwrap();
    cluster.control(&["restart", "homer"]);
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
    let heal = |settings: &[(&str, &str)]| {
        cluster.reconfigure("homer", settings);
        cluster.wait_until_verified();
    };
    const NO_GUARDS: (&str, &str) = ("UNIBUS_FAULT", "no-start-guards");
    const ALL_ON: (&str, &str) = ("UNIBUS_FAULT", "");

    cluster.reconfigure("homer", &[NO_GUARDS, ("UNIBUS_BUS_AUTH", "off")]);
    red(&cluster, "posture", "homer", "bus_auth=off acl=false");
    heal(&[ALL_ON, ("UNIBUS_BUS_AUTH", "enforce")]);

    let tls = [
        ("UNIBUS_TLS_CERT", "tls/server.crt"),
        ("UNIBUS_TLS_KEY", "tls/server.key"),
        ("UNIBUS_TLS_CA", "tls/client-ca.crt"),
    ];
    let mut without: Vec<(&str, &str)> = tls.iter().map(|(name, _)| (*name, "")).collect();
    without.push(NO_GUARDS);
    cluster.reconfigure("homer", &without);
    red(&cluster, "posture", "homer", "tls=false");
    heal(&[&tls[..], &[ALL_ON]].concat());

    cluster.reconfigure("homer", &[("UNIBUS_FAULT", "no-explicit-deny")]);
    red(&cluster, "posture", "homer", "acl=false");
    heal(&[ALL_ON]);

    cluster.reconfigure("homer", &[("UNIBUS_FAULT", "clock-ahead")]);
    red(&cluster, "clock", "homer", "ahead");
    heal(&[ALL_ON]);

    let program = cluster.node("homer").join("membershipd");
    let before = fs::read_link(&program).unwrap();
    point(&program, &Build::Real.path());
    cluster.control(&["restart", "homer"]);
    red(&cluster, "version", "homer", "0.1.0");
    point(&program, &before);
    cluster.control(&["restart", "homer"]);
    cluster.wait_until_verified();

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
    cluster.set_env("homer", &[("UNIBUS_ENGINE_SHA256", sum.split_whitespace().next().unwrap())]);
    cluster.control(&["restart", "homer"]);
    red(&cluster, "engine", "homer", sum.split_whitespace().next().unwrap());
    point(&engine, &right);
    heal(&[("UNIBUS_ENGINE_SHA256", pinned)]);
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
        map.insert("http".to_owned(), json!(format!("{address}:8250")));
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
