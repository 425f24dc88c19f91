//! The heartbeat: one round a second into every deciding bucket; a complete round renews the lease.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::deadman::DeadMan;
use crate::fence::{Ledger, Process};
use crate::gate::Gate;
use unibus_core::bus::{self, Bucket};
use unibus_core::domain::FeatureLevel;
use unibus_core::faults::Fault;
use unibus_core::lease::Delivered;
use unibus_core::view::{Heartbeat, heartbeat_key};
use unibus_store::{Key, Records, Store};

/// This process's rounds, and which of them its own watch has delivered.
#[derive(Debug)]
pub struct Rounds {
    ledger: Arc<Ledger>,
    key: String,
    delivered: watch::Sender<Delivered>,
}

impl Rounds {
    /// Rounds of the process whose `ledger` it is.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        let Process { node, boot } = ledger.own();
        let (key, delivered) = (heartbeat_key(node), watch::Sender::new(Delivered::new(boot.clone())));
        Self { ledger, key, delivered }
    }

    /// Notes a heartbeat of this node that the watch delivered.
    pub fn delivered(&self, bucket: Bucket, heartbeat: &Heartbeat) {
        self.delivered.send_modify(|delivered| delivered.note(bucket, &heartbeat.boot, heartbeat.round));
    }

    /// One round: written everywhere with a quorum's acknowledgement, and seen again everywhere. Returns when it was sent.
    async fn complete(&self, store: &dyn Store, round: u64) -> Option<Instant> {
        let sent = Instant::now();
        let (boot, alone) = (self.ledger.own().boot.clone(), self.ledger.alone(sent));
        let level = FeatureLevel::highest().number();
        let heartbeat = serde_json::to_vec(&Heartbeat { boot, round, alone, level }).ok()?;
        let key: Key = self.key.parse().ok()?;
        let whole = async {
            let writes = Records::DECIDING.map(|bucket| store.beat(bucket, &key, &heartbeat));
            if let Some(error) = join_all(writes).await.into_iter().find_map(Result::err) {
                tracing::debug!(round, "heartbeat not acknowledged: {error}");
                return None;
            }
            self.delivered.subscribe().wait_for(|delivered| delivered.whole(round)).await.ok()?;
            // A proof puts the end of this process off: not past what it was still to cut when it froze.
            self.ledger.all_settled().await;
            Some(sent)
        };
        tokio::time::timeout(bus::HEARTBEAT_ROUND, whole).await.ok().flatten()
    }
}

/// Renews the lease for as long as the process lives. `alive` is called once a round: it feeds the watchdog, so that a daemon
/// whose heartbeats have stopped is ended by its service manager. No proof counts before `deadman` is to end what it allows.
pub async fn keep(gate: Arc<Gate>, rounds: Arc<Rounds>, deadman: DeadMan, store: Arc<dyn Store>, alive: impl Fn()) {
    let mut tick = tokio::time::interval(bus::HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 1.. {
        tick.tick().await;
        // Not before the first view is there: a heartbeat replaces that of the process before us, and who that was is to be seen.
        if rounds.ledger.is_loaded() {
            // Not awaited: while an election goes on, the next round must not wait for this one.
            let (gate, rounds, deadman, store) = (gate.clone(), rounds.clone(), deadman.clone(), store.clone());
            tokio::spawn(async move {
                if let Some(sent) = rounds.complete(&*store, round).await
                    && (Fault::NoLease.active() || deadman.arm(sent + bus::LEASE + bus::KICK).await)
                {
                    gate.renew(sent);
                }
            });
        }
        alive();
    }
}
