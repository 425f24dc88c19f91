//! The first admin: imported from a record that the operator leaves on the seed node, once in the life of a cluster.
//!
//! A compare-and-set `initialized` entry is written first and names the admin, so that a crash at any point is completed by
//! whichever node comes next, and a record that turns up again after the admin was removed does nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::commands::keys::Address;
use crate::commands::{Commands, Principal};
use crate::gate::Gate;
use crate::users::{UserChange, UserError};
use unibus_core::domain::{Author, Handle, Role, SignPub, State, User};
use unibus_core::private_file;
use unibus_core::view::{INITIALIZED_KEY, Initialized, Versioned};
use unibus_store::{Records, Revision, StoreError, create_json, update_json};

/// How often the record is looked for.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    schema: u32,
    handle: Handle,
    sign_pub: SignPub,
}

/// Looks for the record for as long as the process lives.
pub async fn watch_for(path: &Path, gate: Arc<Gate>, commands: Arc<Commands>, root: Author) {
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(LOOK).await;
        if !gate.lease_valid(Instant::now()) {
            continue;
        }
        if let Err(error) = step(path, &gate, &commands, &root).await {
            let said = format!("{error:#}");
            if said != complaint {
                tracing::error!("the first admin was not imported: {said}");
                complaint = said;
            }
        }
    }
}

async fn step(path: &Path, gate: &Gate, commands: &Commands, root: &Author) -> Result<()> {
    match gate.view(|view| view.initialized().cloned()) {
        None if path.exists() => {
            let record = read(path)?;
            let claim = Initialized { handle: record.handle, sign_pub: record.sign_pub, done: false };
            claim_or_lose(put(commands, &claim, None).await)?;
        }
        Some(Versioned { value, revision }) if !value.done => {
            let (handle, sign_pub) = (value.handle.clone(), value.sign_pub);
            let admin = User { handle, sign_pub, role: Role::Admin, state: State::Active };
            match commands.change_user(Principal::root(root.clone()), UserChange::Add(admin, None)).await {
                Ok(_) => tracing::info!(handle = %value.handle, "the first admin is in"),
                // Somebody made a user of that name or key by other means: then that one stands.
                Err(error @ UserError::Conflict(_)) => tracing::warn!("the first admin was not imported: {error}"),
                Err(error) => return Err(error.into()),
            }
            let done = Initialized { done: true, ..value };
            claim_or_lose(put(commands, &done, Revision::new(revision)).await)?;
        }
        Some(Versioned { value, .. }) if path.exists() => {
            std::fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))?;
            tracing::info!(first_admin = %value.handle, "the cluster is initialized; the bootstrap record was deleted");
        }
        _ => {}
    }
    Ok(())
}

async fn put(commands: &Commands, value: &Initialized, expected: Option<Revision>) -> Result<Revision, StoreError> {
    let Address { bucket, key } = Address::new(Records::Users, INITIALIZED_KEY)?;
    match expected {
        None => create_json(&**commands.store(), bucket, &key, value).await,
        Some(expected) => update_json(&**commands.store(), bucket, &key, value, expected).await,
    }
}

// Another node, or the step before, was faster: the next look sees what it wrote.
fn claim_or_lose(written: Result<Revision, StoreError>) -> Result<(), StoreError> {
    match written {
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<Record> {
    let text = private_file::read(path)?;
    let record: Record = serde_json::from_str(text.expose_secret())
        .with_context(|| format!("{} is not a bootstrap record", path.display()))?;
    ensure!(record.schema == 1, "{}: schema {} is not 1", path.display(), record.schema);
    Ok(record)
}
