//! The keeper's sides in this daemon: the gate's view and proof, and which nodes are there.

use std::sync::Arc;
use std::time::Instant;

use crate::gate::Gate;
use crate::presence::Presence;
use unibus_core::view::View;
use unibus_keeper::{Access, Keeper};

/// The keeper of this node.
pub type NodeKeeper = Keeper<KeeperAccess>;

/// What the keeper of this node decides on.
#[derive(Debug)]
pub struct KeeperAccess {
    gate: Arc<Gate>,
    presence: Arc<Presence>,
}

impl KeeperAccess {
    /// The view and the lease of `gate`, and the nodes of `presence`.
    pub fn new(gate: Arc<Gate>, presence: Arc<Presence>) -> Self {
        Self { gate, presence }
    }
}

impl Access for KeeperAccess {
    fn view<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        self.gate.view(read)
    }

    fn lease_valid(&self, now: Instant) -> bool {
        self.gate.lease_valid(now)
    }

    fn proven(&self) -> Option<Instant> {
        self.gate.proven()
    }

    fn present(&self, now: Instant) -> Vec<String> {
        self.presence.nodes(now)
    }
}
