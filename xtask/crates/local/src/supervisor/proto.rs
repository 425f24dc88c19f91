//! What is said over the supervisor's socket: one line of JSON each way.

use serde::{Deserialize, Serialize};

pub(super) const SCHEMA: u32 = 1;

/// What the supervisor is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs, reason = "each variant says what its fields are for")]
pub enum Request {
    /// Nothing but to tell.
    Status,
    /// Starts a node that is down.
    Start { node: String },
    /// Ends a node in good order and leaves it down.
    Stop { node: String },
    /// Ends a node in good order and starts it again.
    Restart { node: String },
    /// Ends a node with SIGKILL; it is started again unless it shall stay down.
    Kill { node: String, stay_down: bool },
    /// Stops a node's processes where they are. The watchdog goes on.
    Freeze { node: String },
    /// Lets them run on.
    Thaw { node: String },
    /// Ends everything, the supervisor last. Answered when all nodes are gone.
    Down,
}

/// What a node's daemon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Down on purpose.
    Stopped,
    /// Has not said READY=1 yet.
    Starting,
    /// Runs, and feeds the watchdog.
    Ready,
    /// Is ending in good order.
    Stopping,
    /// Has ended by itself and will be started again.
    Waiting,
    /// Refused its configuration: starting it again would be no use.
    Failed,
}

/// One node as the supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Which node.
    pub name: String,
    /// How far its daemon is.
    pub phase: Phase,
    /// Of its daemon, while it runs.
    pub pid: Option<u32>,
    /// Whether its processes were stopped where they are.
    pub frozen: bool,
    /// Times it was started.
    pub starts: u32,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// The last lines of its log then.
    pub last_lines: Vec<String>,
}

/// The supervisor's answer to every request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub(crate) schema: u32,
    pub(crate) pid: u32,
    /// Ends with the `cargo xtask local` that started it.
    pub(crate) foreground: bool,
    pub(crate) since_unix: i64,
    /// In the order in which they were named.
    pub nodes: Vec<NodeStatus>,
    /// Why the request was not carried out.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_readable_line() {
        let line = serde_json::to_string(&Request::Kill { node: "homer".to_owned(), stay_down: true }).unwrap();
        assert_eq!(line, r#"{"verb":"kill","node":"homer","stay_down":true}"#);
        assert_eq!(serde_json::from_str::<Request>(r#"{"verb":"status"}"#).unwrap(), Request::Status);
        serde_json::from_str::<Request>(r#"{"verb":"explode"}"#).unwrap_err();
    }
}
