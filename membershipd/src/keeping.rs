//! The keeper's sides in this daemon: the gate's view and proof, and which nodes are there.

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};

use crate::gate::Gate;
use crate::history::{self, Histories};
use crate::presence::Presence;
use unibus_core::domain::{Keeping, RoomId};
use unibus_core::view::View;
use unibus_keeper::{Access, Keeper};
use unibus_store::link::Link;

/// The keeper of this node.
pub type NodeKeeper = Keeper<KeeperAccess>;

/// What the keeper of this node decides on.
#[derive(Debug)]
pub struct KeeperAccess {
    gate: Arc<Gate>,
    presence: Arc<Presence>,
    histories: Histories,
    keeping: Keeping,
}

impl KeeperAccess {
    /// The view and the lease of `gate`, the nodes of `presence`, the streams of rooms that were captured before, and what this node is
    /// to keep of a room at most.
    pub fn new(gate: Arc<Gate>, presence: Arc<Presence>, histories: Histories, keeping: Keeping) -> Self {
        Self { gate, presence, histories, keeping }
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

    fn settled<'a>(&'a self, link: &'a Link, room: &'a RoomId) -> BoxFuture<'a, Result<(), String>> {
        self.histories.migrate(link, room).map_err(|error| error.to_string()).boxed()
    }

    fn unsettled<'a>(&'a self, link: &'a Link) -> BoxFuture<'a, Result<Vec<RoomId>, String>> {
        history::captured_rooms(link).boxed()
    }

    fn keeping(&self) -> Keeping {
        self.keeping
    }

    fn present(&self, now: Instant) -> Vec<String> {
        self.presence.nodes(now)
    }
}
