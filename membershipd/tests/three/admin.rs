//! What an admin sees of three nodes through one of them, also while another is down.

use serde_json::Value;

use crate::common::requests::{API_PORT, identity, seed_admin};
use crate::common::{membershipd, said};
use crate::nodes::{self, Node};

/// A verb of root through `node`; how it ended, and what it said to programs.
fn ask(node: &Node, line: &str) -> (bool, Value) {
    let dir = node.dir.path();
    let mut command = membershipd(dir);
    command.args(line.split_whitespace()).arg("--json").env("UNIBUS_CA", dir.join("ca.crt"));
    command
        .args(["--url", &format!("https://{}:{API_PORT}", node.address)])
        .arg("--identity")
        .arg(dir.join("root.toml"));
    let output = command.output().unwrap();
    let answer = serde_json::from_slice(&output.stdout);
    (output.status.success(), answer.unwrap_or_else(|_| panic!("{line}: {}\n{}", said(&output), node.log())))
}

fn texts<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|of| of[field].as_str().unwrap()).collect()
}

#[test]
fn an_admin_sees_all_nodes_and_who_is_connected_where_and_which_node_does_not_answer() {
    let mut nodes = nodes::start(&[]);
    seed_admin(&nodes[0]);
    let alice = identity(&nodes[0], "alice");
    let added = nodes[0].ask(&["user", "add", "--handle", "alice", "--sign-pub", &alice.sign_pub.to_string()]);
    assert!(added.status.success(), "{}", said(&added));
    nodes.iter().for_each(Node::wait_until_current);
    let mut clients: Vec<_> = nodes.iter().map(|node| node.connected(alice.nkey_seed(), "alice")).collect();

    let (well, status) = ask(&nodes[0], "status");
    assert!(well && status["expected"] == 3, "{status}");
    assert_eq!(
        (texts(&status["nodes"], "node"), &status["silent"]),
        (vec!["datardos", "homer", "magnus"], &Value::Array(vec![]))
    );
    let (well, listed) = ask(&nodes[0], "connections list");
    assert!(well, "{listed}");
    assert_eq!(texts(&listed["connections"], "node"), ["datardos", "homer", "magnus"], "{listed}");
    assert_eq!(texts(&listed["connections"], "user"), ["alice"; 3], "{listed}");

    // A connection to the engine of another node than the one that is asked.
    let id = listed["connections"][0]["id"].as_u64().unwrap();
    let (well, closed) = ask(&nodes[0], &format!("connections close datardos {id}"));
    assert!(well && closed["closed"][0]["changed"] == true && closed["closed"][0]["user"] == "alice", "{closed}");
    assert!(clients[0].is_connected() && clients[1].is_connected(), "another connection was closed");

    nodes[1].kill();
    nodes[0].wait("silence of homer", || ask(&nodes[0], "status").1["silent"] == serde_json::json!(["homer"]));
    let (well, status) = ask(&nodes[0], "status");
    assert!(!well, "{status}");
    assert_eq!(texts(&status["nodes"], "node"), ["datardos", "magnus"]);
    let (well, listed) = ask(&nodes[0], "connections list");
    assert!(!well && listed["silent"] == serde_json::json!(["homer"]), "{listed}");
    assert!(
        texts(&listed["connections"], "node").contains(&"magnus"),
        "what the others say is told all the same: {listed}"
    );
}
