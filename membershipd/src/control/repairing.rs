//! A repair through the control socket: under the lease of this node, as root on it.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::Failure;
use crate::commands::{Fence, Pace, Repair};
use crate::gate::Gate;
use crate::posture::SCHEMA;
use unibus_core::domain::Author;
use unibus_store::Store;

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
}

impl Repairing {
    /// Looks for what there is to do, and does it. Takes half a minute where a claim is to be released.
    pub(super) async fn run(&self) -> Result<Value, Failure> {
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
        Ok(json!({ "schema": SCHEMA, "repaired": repaired }))
    }
}
