//! Cutting off who lost something, and saying so when the engine has confirmed it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::ledger::Ledger;
use crate::gate::ConnectionId;
use crate::kick::Kicker;
use unibus_core::bus::Bucket;
use unibus_core::domain::SignPub;

/// What one entry demands.
#[derive(Debug)]
pub struct Cut {
    /// The bucket of the entry.
    pub bucket: Bucket,
    /// Its revision.
    pub revision: u64,
    /// Connections that have more than their users.
    pub connections: Vec<ConnectionId>,
    /// Users who may have lost something: the engine is asked for connections of theirs that are not recorded.
    pub users: Vec<SignPub>,
}

/// Where cuts are ordered.
#[derive(Debug, Clone)]
pub struct Cuts {
    ledger: Arc<Ledger>,
    orders: mpsc::UnboundedSender<Cut>,
}

/// Carries them out.
#[derive(Debug)]
pub struct Cutter {
    ledger: Arc<Ledger>,
    orders: mpsc::UnboundedReceiver<Cut>,
}

impl Cuts {
    /// Where cuts are ordered, and who carries them out.
    pub fn new(ledger: Arc<Ledger>) -> (Self, Cutter) {
        let (sender, orders) = mpsc::unbounded_channel();
        (Self { ledger: ledger.clone(), orders: sender }, Cutter { ledger, orders })
    }

    /// Notes an applied entry with what it demands; `last`: see [`Ledger::applied`]. To be called in the order of the entries.
    pub fn applied(&self, cut: Cut, last: bool) {
        let (bucket, revision) = (cut.bucket, cut.revision);
        let cuts = !cut.connections.is_empty() || !cut.users.is_empty();
        self.ledger.applied(bucket, revision, cuts, last);
        if cuts && self.orders.send(cut).is_err() {
            // Then it stays open, and is never acknowledged.
            tracing::error!(bucket = bucket.name(), revision, "nobody cuts connections any more");
        }
    }
}

impl Cutter {
    /// Cuts for as long as somebody may order it. What was ordered meanwhile is done together: removals by the hundred must not
    /// ask the engine a hundred times for its connections.
    pub async fn run(mut self, kicker: Kicker) {
        let mut batch = Vec::new();
        while self.orders.recv_many(&mut batch, usize::MAX).await > 0 {
            let (mut connections, mut users) = (BTreeSet::new(), BTreeSet::new());
            let mut entries = Vec::new();
            for cut in batch.drain(..) {
                entries.push((cut.bucket, cut.revision));
                connections.extend(cut.connections);
                users.extend(cut.users);
            }
            kicker.cut_off(connections, &users).await;
            self.ledger.cut(entries);
        }
    }
}
