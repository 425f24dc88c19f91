//! The view of this node, kept current: where store, access, events and disconnects meet.
//!
//! Each entry of a deciding bucket that the store delivers goes one way, in order: access applies it, events tell of it, the
//! heartbeats in it prove the lease and say which nodes are there, and the connections that it leaves with too much are cut.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::fence::{Cut, Cuts, Ledger, Positions};
use crate::gate::Gate;
use crate::heartbeat::Rounds;
use crate::kick::Kicker;
use crate::presence::Presence;
use crate::tell::Teller;
use crate::transfer;
use unibus_core::view::{Change, Unreadable, View};
use unibus_store::link::Link;
use unibus_store::{Backing, Delivered, Position, Records};

/// Pause before a bucket that cannot be read is read again.
const LOAD_PAUSE: Duration = Duration::from_millis(300);
/// Pause before the messages in a file are carried into the engine once more.
const UNPACK_PAUSE: Duration = Duration::from_secs(1);

/// Keeps the view current. What it is given are the sides that meet here.
pub(super) struct ViewSync {
    /// Name of this node.
    pub(super) node: String,
    /// With how many copies a bucket is made.
    pub(super) copies: usize,
    /// The store.
    pub(super) backing: Backing,
    /// Access.
    pub(super) gate: Arc<Gate>,
    /// How far this process has come, and which others there are.
    pub(super) ledger: Arc<Ledger>,
    pub(super) rounds: Arc<Rounds>,
    /// Which nodes are there.
    pub(super) presence: Arc<Presence>,
    /// Disconnects.
    pub(super) cuts: Cuts,
    pub(super) kicker: Kicker,
}

impl ViewSync {
    /// Makes the buckets, loads the view from them, and follows them for as long as the session lasts. `teller` tells events.
    pub(super) async fn run(&self, link: &Link, teller: &Teller) -> Result<()> {
        self.backing.ensure(link, self.copies).await;
        self.unpack(link).await;
        let positions = self.load(link, teller).await;
        let follow = |(records, position): (Records, _)| {
            self.backing.follow(link, records, position, move |delivered| self.apply(records, delivered, teller))
        };
        futures::future::try_join_all(positions.into_iter().map(follow)).await?;
        Ok(())
    }

    /// Puts what the buckets have in the place of the view. Connections with rights that are gone are cut. Says how far each
    /// bucket was read.
    async fn load(&self, link: &Link, teller: &Teller) -> Vec<(Records, Position)> {
        let since = Instant::now();
        let mut view = View::default();
        let (mut positions, mut entries) = (Vec::new(), 0usize);
        let mut reached = Positions::default();
        for records in Records::DECIDING {
            let bucket = records.bucket();
            let position = loop {
                let loaded = self.backing.load(link, records, |key, value, revision| {
                    entries += 1;
                    if let Change::Heartbeat(node, heartbeat) = view.apply(bucket, key, value, revision)? {
                        self.ledger.heard(bucket, &node, &heartbeat, Instant::now());
                    }
                    Ok(())
                });
                match loaded.await {
                    Ok(position) => break position,
                    Err(error) if error.is::<Unreadable>() => {
                        // It does not get better by itself: the operator has to install another release.
                        let why = error.to_string();
                        if self.gate.stay_out(why.clone()) {
                            tracing::error!("this node stays out and denies everything: {why}");
                        }
                        tokio::time::sleep(LOAD_PAUSE).await;
                    }
                    Err(error) => {
                        tracing::debug!(bucket = bucket.name(), "cannot load yet: {error:#}");
                        tokio::time::sleep(LOAD_PAUSE).await;
                    }
                }
            };
            reached.reach(bucket, position.0);
            positions.push((records, position));
        }
        tracing::info!(entries, took = ?since.elapsed(), "loaded what decides");
        let review = self.gate.replace_view(view);
        teller.gained(&review, None);
        let cut = review.cut.into_iter().collect();
        self.kicker.cut_off(cut, &BTreeSet::new()).await;
        self.ledger.loaded(&reached);
        positions
    }

    /// Applies an entry of `records` that the store delivered.
    fn apply(&self, records: Records, delivered: Delivered<'_>, teller: &Teller) -> Result<()> {
        let Delivered { key, value, revision, last } = delivered;
        let (bucket, since) = (records.bucket(), Instant::now());
        let applied = self.gate.apply(bucket, key, value, revision)?;
        teller.applied(&self.gate, &applied, revision, since);
        if let Change::Heartbeat(node, heartbeat) = &applied.change {
            self.ledger.heard(bucket, node, heartbeat, since);
            self.presence.hear(node, since);
            if *node == self.node {
                self.rounds.delivered(bucket, heartbeat);
            }
        }
        let (connections, users, reconnect) = (applied.review.cut, applied.lost, applied.review.reconnect);
        if !reconnect.is_empty() {
            let kicker = self.kicker.clone();
            tokio::spawn(async move { kicker.send_away(reconnect).await });
        }
        self.cuts.applied(Cut { bucket, revision, connections, users }, last);
        Ok(())
    }

    /// Carries what was said in rooms, where the store is a file that came from a copy, into the engine. Until that is done there
    /// is no view, and so no client is let in.
    async fn unpack(&self, link: &Link) {
        let Backing::Sqlite(file) = &self.backing else { return };
        while let Err(error) = transfer::unpack(file, link).await {
            tracing::error!("the messages in the file are not in the engine yet, and nobody is let in: {error}");
            tokio::time::sleep(UNPACK_PAUSE).await;
        }
    }
}
