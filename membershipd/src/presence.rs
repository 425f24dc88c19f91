//! Which nodes are there: those whose heartbeats arrive.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use unibus_core::bus;

/// Silence after which a node counts as gone.
pub const SILENT: Duration = bus::HEARTBEAT_ROUND;

/// When each node was last heard of.
#[derive(Debug, Default)]
pub struct Presence(Mutex<BTreeMap<String, Instant>>);

impl Presence {
    /// Notes a heartbeat of `node` that the watch delivered at `now`.
    pub fn hear(&self, node: &str, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), now);
    }

    /// The nodes that are there at `now`, by name.
    pub fn nodes(&self, now: Instant) -> Vec<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = heard.iter().filter(|(_, since)| now.saturating_duration_since(**since) < SILENT);
        there.map(|(node, _)| node.clone()).collect()
    }

    /// All nodes that were heard of, the one that was heard of last first.
    pub fn known(&self) -> Vec<String> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known: Vec<_> = heard.iter().map(|(node, since)| (*since, node.clone())).collect();
        known.sort_by(|one, other| other.cmp(one));
        known.into_iter().map(|(_, node)| node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_silent_for_a_round_is_not_there_until_it_is_heard_again() {
        let (presence, now) = (Presence::default(), Instant::now());
        presence.hear("magnus", now);
        presence.hear("homer", now + SILENT / 2);
        let there = |after: Duration| presence.nodes(now + after);
        assert_eq!(there(SILENT - Duration::from_millis(1)), ["homer", "magnus"]);
        assert_eq!(there(SILENT), ["homer"]);
        presence.hear("magnus", now + SILENT);
        assert_eq!(there(SILENT), ["homer", "magnus"]);
        assert_eq!(presence.known(), ["magnus", "homer"]);
    }
}
