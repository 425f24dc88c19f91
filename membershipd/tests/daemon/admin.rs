//! What an admin does from anywhere, with an identity: users, connections, the state of the node, the audit.

use std::process::Output;

use serde_json::Value;

use crate::common::nats::Client;
use crate::common::requests::{API_PORT, identity, seed_admin};
use crate::common::{Daemon, membershipd, said};

/// A verb as who an identity file says.
fn run(daemon: &Daemon, who: &str, line: &str) -> Output {
    let dir = daemon.dir.path();
    let mut command = membershipd(dir);
    command.args(line.split_whitespace()).env("UNIBUS_IDENTITY", dir.join(format!("{who}.toml")));
    command.env("UNIBUS_URL", format!("https://{}:{API_PORT}", daemon.address)).env("UNIBUS_CA", dir.join("ca.crt"));
    command.output().unwrap()
}

/// One that does what it says; what it says.
fn done(daemon: &Daemon, who: &str, line: &str) -> String {
    let output = run(daemon, who, line);
    assert!(output.status.success(), "{who}: {line}: {}\n{}", said(&output), daemon.log());
    String::from_utf8(output.stdout).unwrap()
}

fn json(daemon: &Daemon, who: &str, line: &str) -> Value {
    serde_json::from_str(&done(daemon, who, &format!("{line} --json"))).unwrap()
}

/// One that fails; the word for programs.
fn refused(daemon: &Daemon, who: &str, line: &str) -> String {
    let output = run(daemon, who, &format!("{line} --json"));
    assert_eq!(output.status.code(), Some(1), "{who}: {line}: {}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["error"]["code"].as_str().unwrap().to_owned()
}

fn launch() -> Daemon {
    let daemon = Daemon::start_tls();
    seed_admin(&daemon);
    for handle in ["alice", "bob"] {
        let key = identity(&daemon, handle).sign_pub;
        done(&daemon, "root", &format!("user add --handle {handle} --sign-pub {key}"));
    }
    daemon
}

/// A stock client that is connected as `who`.
fn connected(daemon: &Daemon, who: &str) -> Client {
    let ca = daemon.dir.path().join("ca.crt");
    let (client, answer) = Client::connect_trusting(daemon, Some(&ca), &daemon.seed(who), &format!("_INBOX.{who}"));
    assert_eq!(answer["ok"], true, "{answer}\n{}", daemon.log());
    client
}

#[test]
fn an_admin_manages_users_through_the_api_as_root_does_over_the_socket() {
    let daemon = launch();
    let through_api = json(&daemon, "root", "user list")["users"].as_array().unwrap().len();
    let over_socket: Value = serde_json::from_slice(&daemon.ask(&["user", "list", "--json"]).stdout).unwrap();
    assert_eq!((through_api, over_socket["users"].as_array().unwrap().len()), (3, 3));
    assert_eq!(json(&daemon, "root", "user show alice")["user"]["state"], "active");

    let mut alice = connected(&daemon, "alice");
    let disabled = json(&daemon, "root", "user disable alice");
    assert_eq!((&disabled["user"]["state"], &disabled["fence"]), (&"disabled".into(), &"acknowledged".into()));
    assert!(!alice.is_connected(), "a disabled user is connected after the answer\n{}", daemon.log());
    assert_eq!(json(&daemon, "root", "user enable alice")["user"]["state"], "active");

    // The only admin stays one.
    for line in ["user disable root", "user role root user", "user remove root"] {
        assert_eq!(refused(&daemon, "root", line), "conflict", "{line}");
    }
    assert!(done(&daemon, "root", "user role alice admin").contains("admin"));
    let demoted = json(&daemon, "alice", "user role root user");
    assert_eq!((&demoted["user"]["role"], &demoted["fence"]), (&"user".into(), &"acknowledged".into()));
    assert_eq!(refused(&daemon, "root", "user list"), "not-admin");
    // The socket has the same rule, and root alone may break it.
    let last = daemon.ask(&["user", "role", "alice", "user"]);
    assert!(!last.status.success() && said(&last).contains("last admin"), "{}", said(&last));
    let not_here = run(&daemon, "alice", "user disable alice --last-admin");
    assert!(!not_here.status.success() && said(&not_here).contains("for root on a node"), "{}", said(&not_here));
    let last = daemon.ask(&["user", "role", "alice", "user", "--last-admin"]);
    assert!(last.status.success(), "{}", said(&last));
    assert_eq!(refused(&daemon, "alice", "user list"), "not-admin");
    // A directory that the command line names is a daemon that root asks, whatever identity the environment has.
    let as_root = run(&daemon, "bob", "user role root admin --runtime-dir run");
    assert!(as_root.status.success(), "{}", said(&as_root));
    assert_eq!(json(&daemon, "root", "user show root")["user"]["role"], "admin");
}

#[test]
fn an_admin_sees_who_is_connected_and_ends_a_connection() {
    let daemon = launch();
    done(&daemon, "alice", "room create kitchen --subject room.kitchen");
    let (mut alice, mut bob) = (connected(&daemon, "alice"), connected(&daemon, "bob"));
    let listed = json(&daemon, "root", "connections list");
    assert_eq!(listed["silent"], Value::Array(Vec::new()), "{listed}");
    let all = listed["connections"].as_array().unwrap();
    let of = |who: &str| all.iter().find(|of| of["user"] == who).unwrap_or_else(|| panic!("{listed}"));
    assert_eq!(all.len(), 2, "the daemon's own are none of them: {listed}");
    assert_eq!((&of("alice")["node"], &of("alice")["rooms"][0]), (&"standalone".into(), &"kitchen".into()));
    assert!(of("bob")["rooms"].as_array().unwrap().is_empty(), "{listed}");
    assert!(of("bob")["address"].as_str().unwrap().starts_with("127."), "{listed}");
    assert!(of("bob")["client"].as_str().unwrap().starts_with("python3"), "{listed}");
    let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let since = of("bob")["since_ms"].as_i64().unwrap();
    assert!((now - 60_000..=now).contains(&since), "{listed}");
    let bobs = json(&daemon, "root", "connections list --who bob --node standalone");
    assert_eq!(bobs["connections"].as_array().unwrap().len(), 1, "{bobs}");
    let table = done(&daemon, "root", "connections list");
    assert!(table.lines().any(|line| line.contains("alice") && line.contains("kitchen")), "{table}");

    let id = of("bob")["id"].as_u64().unwrap();
    let closed = done(&daemon, "root", &format!("connections close standalone {id}"));
    assert!(
        closed.contains(&format!("closed connection {id} of bob")) && closed.contains("user disable bob"),
        "{closed}"
    );
    assert!(bob.is_closed_within(10) || !bob.is_connected() && alice.is_connected());
    let again = done(&daemon, "root", &format!("connections close standalone {id}"));
    assert!(again.contains("nothing to do"), "{again}");
    let of_alice = json(&daemon, "root", "connections close --who alice");
    assert_eq!((&of_alice["closed"][0]["user"], &of_alice["closed"][0]["changed"]), (&"alice".into(), &true.into()));
    let records = json(&daemon, "root", "audit --action connection.close")["records"].clone();
    let records = records.as_array().unwrap();
    assert_eq!(records.len(), 4, "{records:?}");
    assert!(records.iter().all(|record| record["who"] == "root"), "{records:?}");
    assert!(records[0]["with"].as_str().unwrap().contains(&format!("connection={id}")), "{records:?}");
    assert_eq!((&records[0]["user"], &records[1]["stage"]), (&"bob".into(), &"done".into()));

    for line in ["connections list", "connections close standalone 1", "status", "audit"] {
        assert_eq!(refused(&daemon, "alice", line), "not-admin", "{line}");
    }
    assert_eq!(refused(&daemon, "root", "connections close homer 1"), "not-found");
    assert_eq!(refused(&daemon, "root", "connections list --who carol"), "no-such-user");
}

#[test]
fn an_admin_reads_the_state_of_the_node_and_the_audit_with_filters() {
    let daemon = launch();
    let status = json(&daemon, "root", "status");
    assert_eq!((&status["node"], &status["expected"]), (&"standalone".into(), &1.into()));
    assert_eq!((&status["nodes"][0]["lease"]["valid"], &status["silent"]), (&true.into(), &Value::Array(Vec::new())));
    let text = done(&daemon, "root", "status");
    assert!(text.starts_with("the bus works (1 of 1 nodes)") && text.contains("standalone"), "{text}");

    done(&daemon, "alice", "room create kitchen --subject room.kitchen");
    done(&daemon, "bob", "room create hall --subject room.hall");
    done(&daemon, "alice", "member invite kitchen bob --role reader");
    let count = |line: &str| json(&daemon, "root", &format!("audit {line}"))["records"].as_array().unwrap().len();
    assert_eq!(count("--room kitchen"), 4, "two changes with two records each");
    assert_eq!(count("--who alice --action room.create"), 2);
    assert_eq!(count("--who bob"), 2);
    assert_eq!((count("--since 1h --who bob"), count("--until 1h --who bob")), (2, 0));
    assert_eq!((count("--last 3"), count("--last 1 --room kitchen")), (3, 1));
    let last = json(&daemon, "root", "audit --last 1")["records"][0].clone();
    assert_eq!((&last["action"], &last["stage"]), (&"member.invite".into(), &"done".into()));
    let all = count("");
    assert_eq!(count("--last 1000"), all);
    // Root on the node is told the same.
    for line in [&["--room", "kitchen"][..], &["--last", "3"], &["--who", "bob"]] {
        let output = daemon.ask(&[&["audit", "--json"][..], line].concat());
        let on_node: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(on_node["records"].as_array().unwrap().len(), count(&line.join(" ")), "{line:?}");
    }
    assert!(done(&daemon, "root", "audit --who carol").contains("nothing like that was done"));
    let bad = run(&daemon, "root", "audit --since yesterday");
    assert!(bad.status.code() == Some(2) && said(&bad).contains("so long ago"), "{}", said(&bad));

    // Without an identity and without a daemon the way that an admin has is named; but not where one daemon is meant, as by the tool that
    // asks each node.
    let lost = |words: &[&str]| said(&membershipd(daemon.dir.path()).arg("status").args(words).output().unwrap());
    let usual = lost(&[]);
    assert!(usual.contains("no daemon answers at ") && usual.contains("--identity FILE"), "{usual}");
    let named = lost(&["--runtime-dir", "nowhere"]);
    assert!(named.contains("no daemon answers at nowhere") && !named.contains("--identity"), "{named}");
}
