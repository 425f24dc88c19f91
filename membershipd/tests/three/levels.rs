//! The feature level of a new cluster: raised with its first admin, once every node is there.

use std::time::Duration;

use serde_json::json;
use unibus_core::domain::FeatureLevel;

use crate::common::requests::identity;
use crate::nodes::{self, Node};

fn level(node: &Node) -> u64 {
    node.status().and_then(|status| status["level"].as_u64()).unwrap_or(0)
}

#[test]
fn a_new_cluster_begins_at_the_highest_level_once_every_node_is_there() {
    let highest = u64::from(FeatureLevel::HIGHEST.number());
    let mut nodes = nodes::start(&[]);
    let bound = nodes[0].bound();
    nodes[2].kill();
    // Until then its process may still be deciding, and so it counts as there.
    std::thread::sleep(bound + Duration::from_secs(1));
    let root = identity(&nodes[0], "root");
    let record = json!({ "schema": 1, "handle": "root", "sign_pub": root.sign_pub }).to_string();
    let path = nodes[0].dir.write("bootstrap.json", &record, 0o600);
    nodes[1].wait("the first admin", || nodes[1].status().is_some_and(|status| status["admins"] == 1));
    if highest > 1 {
        std::thread::sleep(Duration::from_secs(3));
        assert!(path.exists() && level(&nodes[0]) == 1, "a node is away: {}", nodes[0].log());
    }
    nodes[2].start_again();
    for node in &nodes {
        node.wait("the level", || level(node) == highest);
    }
    nodes[0].wait("the end of the import", || !path.exists());
    nodes.iter().for_each(Node::wait_until_current);
}
