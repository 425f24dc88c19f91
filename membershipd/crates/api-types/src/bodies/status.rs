//! The nodes of the cluster.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the nodes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// The node that answers.
    pub node: String,
    /// As many nodes as the cluster has.
    pub expected: usize,
    /// The posture of each node that answered in time, by name, as `membershipd status --json` shows it there. Its `schema` says which
    /// fields it has; there are more with each release.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub nodes: Vec<Value>,
    /// Nodes that are known and did not answer in time: they are down, cut off, or of a release that cannot be asked.
    pub silent: Vec<String>,
}
