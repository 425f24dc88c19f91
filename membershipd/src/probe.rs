//! Registers that `load` writes and reads, to see whether acknowledged writes survive what is done to the cluster.
//!
//! They lie in the bucket of users, written by the same compare-and-set as a change of a user, without its plan, lock and audit.

use std::sync::Arc;
use std::time::Instant;

use unibus_api_types::control::{ProbeValue, Register};

use crate::commands::keys::Address;
use crate::gate::Gate;
use crate::users::UserError;
use unibus_core::view::Versioned;
use unibus_store::{Operation, Records, Revision, Store, StoreError};

/// The registers, through one node.
#[derive(Debug, Clone)]
pub struct Probes {
    gate: Arc<Gate>,
    store: Arc<dyn Store>,
}

impl Probes {
    /// Registers in `store`, behind `gate`'s lease.
    pub fn new(gate: Arc<Gate>, store: Arc<dyn Store>) -> Self {
        Self { gate, store }
    }

    /// Sets a register that still has the revision `expected`. Returns the new one.
    pub async fn write(&self, register: Register, value: &ProbeValue, expected: u64) -> Result<u64, UserError> {
        self.gate.require_lease(Instant::now())?;
        let (Address { key, .. }, value) = (Address::new(Records::Users, &register.key())?, value.as_str().as_bytes());
        let written = match Revision::new(expected) {
            None => self.store.create(Records::Users, &key, value).await?,
            Some(expected) => self.store.update(Records::Users, &key, value, expected).await?,
        };
        Ok(written.get())
    }

    /// What a register holds; none: it was never written.
    pub async fn read(&self, register: Register) -> Result<Option<Versioned<String>>, UserError> {
        self.gate.require_lease(Instant::now())?;
        let Address { key, .. } = Address::new(Records::Users, &register.key())?;
        let Some(found) = self.store.get(Records::Users, &key).await? else { return Ok(None) };
        let text = String::from_utf8(found.value.to_vec());
        let value = text.map_err(|error| StoreError::Unreadable {
            operation: Operation::at("read", Records::Users.bucket(), &key),
            why: error.utf8_error().to_string(),
        })?;
        Ok(Some(Versioned { value, revision: found.revision.get() }))
    }
}
