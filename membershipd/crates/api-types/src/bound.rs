//! A bound on what one user may have of a node's bus, as the user is told of it: on the bus, and in the answer of `GET /v1/bus`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Connections at once.
    Connections,
    /// Logins a second.
    Logins,
    /// Subscriptions in all connections.
    Subscriptions,
    /// Bytes that wait for the user to read them, in all connections.
    Pending,
    /// What a later release bounds.
    #[serde(other)]
    Later,
}

/// A user met a bound: what was above it was refused, or disconnected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BoundMet {
    /// The node.
    pub node: String,
    /// `connections`, `logins` (a second), `subscriptions` or `pending` (bytes).
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub bound: Bound,
    /// The most that a user may have at a node.
    pub most: u64,
}

impl fmt::Display for BoundMet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, bound, most } = self;
        match bound {
            Bound::Connections => write!(f, "you have {most} connections to {node}, the most that a user may have"),
            Bound::Logins => {
                write!(f, "you log in to {node} more than {most} times a second, the most that a user may")
            }
            Bound::Subscriptions => {
                write!(
                    f,
                    "your connections to {node} had more than {most} subscriptions, the most that a user may have"
                )
            }
            Bound::Pending => {
                write!(
                    f,
                    "more than {most} bytes waited at {node} for you to read them, the most that may wait for a user"
                )
            }
            Bound::Later => write!(f, "you have as much of {node} as a user may have"),
        }
    }
}

impl BoundMet {
    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self.bound {
            Bound::Connections => "end one of them, or ask the operator for more (--connections-by-user)",
            Bound::Logins => "wait a second, and see which program connects again and again",
            Bound::Subscriptions => "subscribe to less, or ask the operator for more (--subscriptions-by-user)",
            Bound::Pending => "see which program does not read what it subscribed to",
            Bound::Later => "see that this program is as new as the servers",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_a_later_release_is_read_and_a_known_one_is_said_in_words() {
        let read = |text: &str| serde_json::from_str::<BoundMet>(text).unwrap().to_string();
        let of = |bound: &str| read(&format!(r#"{{"node":"homer","bound":"{bound}","most":32}}"#));
        assert_eq!(of("connections"), "you have 32 connections to homer, the most that a user may have");
        assert_eq!(of("dreams"), "you have as much of homer as a user may have");
    }
}
