//! Three healthy nodes and what is expected of them, for tests to break.

use super::{Answer, Expected, Remedies};
use crate::posture::fixture::{NOW_MS, healthy};

/// The nodes.
pub(crate) const ALL: [&str; 3] = ["magnus", "homer", "datardos"];

/// What a local cluster of them should be.
pub(crate) fn expected() -> Expected {
    Expected {
        cluster: "unibus".to_owned(),
        nodes: ALL.map(str::to_owned).to_vec(),
        kv_replicas: 3,
        engine: None,
        test_build: true,
        remedies: Remedies { flags: " --local".to_owned(), hosts: None },
    }
}

/// What they answer, each asked and heard at the same moment.
pub(crate) fn answers() -> Vec<Answer> {
    let answer = |node: &str| Answer {
        node: node.to_owned(),
        posture: Ok(healthy(node, &ALL)),
        sent_ms: NOW_MS,
        received_ms: NOW_MS,
    };
    ALL.map(answer).to_vec()
}
