//! The heartbeat: one round a second into every deciding bucket; a complete round renews the lease.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::bus::{self, Bucket};
use crate::gate::Gate;
use crate::link::Link;
use crate::store;
use crate::view::{Heartbeat, heartbeat_key};

/// Which of this process's rounds its own watch has delivered, by deciding bucket.
#[derive(Debug)]
pub struct Rounds {
    boot: String,
    key: String,
    seen: watch::Sender<[u64; Bucket::DECIDING.len()]>,
}

impl Rounds {
    /// Rounds of the process `boot` of `node`.
    pub fn new(node: &str, boot: String) -> Self {
        Self { boot, key: heartbeat_key(node), seen: watch::Sender::new([0; _]) }
    }

    /// Notes a heartbeat that the watch delivered.
    pub fn delivered(&self, bucket: Bucket, heartbeat: &Heartbeat) {
        if heartbeat.boot != self.boot {
            return;
        }
        self.seen.send_modify(|seen| {
            for (of, round) in Bucket::DECIDING.iter().zip(seen) {
                if *of == bucket {
                    *round = (*round).max(heartbeat.round);
                }
            }
        });
    }

    /// One round: written everywhere with a quorum's acknowledgement, and seen again everywhere. Returns when it was sent.
    async fn complete(&self, link: &Link, round: u64) -> Option<Instant> {
        let sent = Instant::now();
        let heartbeat = serde_json::to_vec(&Heartbeat { boot: self.boot.clone(), round }).ok()?;
        let whole = async {
            let writes = Bucket::DECIDING
                .map(|bucket| store::put_once(link, bucket, &self.key, &heartbeat, bus::HEARTBEAT_ROUND));
            if let Some(error) = join_all(writes).await.into_iter().find_map(Result::err) {
                tracing::debug!(round, "heartbeat not acknowledged: {error}");
                return None;
            }
            self.seen.subscribe().wait_for(|seen| seen.iter().all(|r| *r >= round)).await.ok()?;
            Some(sent)
        };
        tokio::time::timeout(bus::HEARTBEAT_ROUND, whole).await.ok().flatten()
    }
}

/// Renews the lease for as long as the process lives. `alive` is called once a round: it feeds the watchdog, so that a daemon
/// whose heartbeats have stopped is ended by its service manager.
pub async fn keep(gate: Arc<Gate>, rounds: Arc<Rounds>, link: watch::Receiver<Option<Arc<Link>>>, alive: impl Fn()) {
    let mut tick = tokio::time::interval(bus::HEARTBEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 1.. {
        tick.tick().await;
        if let Some(link) = link.borrow().clone() {
            // Not awaited: while an election goes on, the next round must not wait for this one.
            let (gate, rounds) = (gate.clone(), rounds.clone());
            tokio::spawn(async move {
                if let Some(sent) = rounds.complete(&link, round).await {
                    gate.renew(sent);
                }
            });
        }
        alive();
    }
}
