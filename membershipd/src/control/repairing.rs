//! A repair through the control socket: under the lease of this node, as root on it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::Failure;
use crate::commands::audit::{About, Decided, Journal, Stage};
use crate::commands::{Fence, Pace, Repair};
use crate::gate::Gate;
use crate::history::{Damaged, Histories};
use crate::posture::SCHEMA;
use unibus_core::domain::{Author, RoomId};
use unibus_store::{Store, StoreError};

/// Finishes what interrupted commands left behind.
#[derive(Debug)]
pub struct Repairing {
    /// Whose lease is asked for.
    pub gate: Arc<Gate>,
    /// What is repaired.
    pub store: Arc<dyn Store>,
    /// What the end of a claim waits for.
    pub fence: Arc<dyn Fence>,
    /// Time and chance.
    pub pace: Arc<dyn Pace>,
    /// As whom.
    pub by: Author,
    /// Whose damage is mended.
    pub histories: Histories,
}

impl Repairing {
    /// Looks for what there is to do, and does it. Takes half a minute where a claim is to be released.
    /// Rooms whose history is `damaged` are named: each is mended by a request of its own.
    pub(super) async fn run(&self, damaged: &[Damaged]) -> Result<Value, Failure> {
        self.gate.require_lease(Instant::now()).map_err(super::not_proven)?;
        let repair = Repair {
            store: self.store.clone(),
            fence: &self.fence,
            pace: self.pace.clone(),
            by: self.by.clone(),
            grace: Repair::<Arc<dyn Fence>>::GRACE,
        };
        let repaired = repair.run().await.map_err(|error| {
            let message = format!("the repair came to no end: {error}");
            Failure::new("unavailable", &message, "run it again: repeating is safe")
        })?;
        Ok(json!({ "schema": SCHEMA, "repaired": repaired.in_short(), "damaged": damaged }))
    }

    /// Replaces the history of `room` if it is damaged, and records that.
    pub(super) async fn mend(&self, room: &RoomId, without_unreadable: bool) -> Result<Value, Failure> {
        self.gate.require_lease(Instant::now()).map_err(super::not_proven)?;
        let again = "run it again: repeating is safe";
        let unrecorded =
            |error: StoreError| Failure::new("unavailable", &format!("the audit took no record of it: {error}"), again);
        let journal = Journal::new(self.store.clone(), self.pace.clone());
        let about = About { room: Some(room.clone()), ..About::new(self.by.clone(), "repair.history") };
        let id = journal.number();
        journal.begin(id, &about, Decided { bus: None, room: None }).await.map_err(unrecorded)?;
        let mended = self.histories.mend(room, without_unreadable).await;
        let stage = match &mended {
            Ok(_) => Stage::Done(Vec::new()),
            Err(error) => Stage::Unknown(error.to_string()),
        };
        journal.end(id, &about, stage).await.map_err(unrecorded)?;
        match mended {
            Ok(mended) => Ok(json!({ "schema": SCHEMA, "mended": mended })),
            Err(error) => Err(Failure::new("unavailable", &error.to_string(), again)),
        }
    }
}
