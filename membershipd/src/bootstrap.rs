//! The first admin: imported from a record that the operator leaves on the seed node, once in the life of a cluster. And the feature
//! level at which a cluster begins.
//!
//! A compare-and-set `initialized` entry is written first and names the admin, so that a crash at any point is completed by
//! whichever node comes next, and a record that turns up again after the admin was removed does nothing.
//!
//! A *new* cluster has the first admin at most, and no room: nothing in it has to go on as it was, so it begins at the highest level
//! that its nodes can do. The entry is marked done, and the record deleted, once the level is raised, which every node has to be there
//! for; so `wait --for current` waits for it, too. Where others came before that, the cluster is new no more and stays at its level
//! until `roll --finish`, as one that was upgraded does, and one that was restored from a copy. The store of a node on its own begins at
//! the highest level as long as it is empty.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::commands::keys::Address;
use crate::commands::{self, Commands, Principal};
use crate::gate::Gate;
use crate::level::{LevelError, RaiseLevel};
use crate::presence::Presence;
use crate::users::{UserChange, UserError};
use unibus_core::domain::{FeatureLevel, Handle, LevelRecord, RecordKey, Role, SignPub, State, User};
use unibus_core::private_file;
use unibus_core::view::{INITIALIZED_KEY, Initialized, Versioned, View};
use unibus_store::{Records, Revision, Store, StoreError, create_json, update_json};

/// How often the record is looked for.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    schema: u32,
    handle: Handle,
    sign_pub: SignPub,
}

/// What a node needs to begin a cluster.
#[derive(Debug)]
pub struct Beginning {
    /// Where the operator leaves the record.
    pub record: PathBuf,
    /// Whether a new cluster begins at the lowest feature level, and not at the highest one.
    pub at_lowest_level: bool,
    /// This node.
    pub node: String,
    /// Which nodes are there.
    pub presence: Arc<Presence>,
    /// What decides.
    pub gate: Arc<Gate>,
    /// How changes are made.
    pub commands: Arc<Commands>,
    /// The change that raises the level, by root of this node.
    pub raise: RaiseLevel,
}

/// Whether the cluster is at the level at which it begins.
enum Level {
    /// It is, or it is not new any more and stays where it is.
    Settled,
    /// Not yet, for this reason; it is tried again.
    Waits(String),
}

impl Beginning {
    /// Looks for the record for as long as the process lives.
    pub async fn keep(self) {
        let mut complaint = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.gate.lease_valid(Instant::now()) {
                continue;
            }
            let (said, is_error) = match self.step().await {
                Ok(Level::Settled) => continue,
                Ok(Level::Waits(why)) => (why, false),
                Err(error) => (format!("{error:#}"), true),
            };
            if said != complaint {
                if is_error {
                    tracing::error!("the first admin was not imported, or the level not raised: {said}");
                } else {
                    tracing::info!("a new cluster begins at the highest feature level once it can be raised: {said}");
                }
                complaint = said;
            }
        }
    }

    async fn step(&self) -> Result<Level> {
        let path = self.record.as_path();
        match self.gate.view(|view| view.initialized().cloned()) {
            None if path.exists() => {
                let record = self.read()?;
                let claim = Initialized { handle: record.handle, sign_pub: record.sign_pub, done: false };
                claim_or_lose(put(&self.commands, &claim, None).await)?;
            }
            Some(Versioned { value, revision }) if !value.done => {
                self.add_first(&value).await?;
                if let waits @ Level::Waits(_) = self.begin_at_highest(&value.handle).await? {
                    return Ok(waits);
                }
                let done = Initialized { done: true, ..value };
                claim_or_lose(put(&self.commands, &done, Revision::new(revision)).await)?;
            }
            Some(Versioned { value, .. }) if path.exists() => {
                std::fs::remove_file(path).with_context(|| format!("cannot delete {}", path.display()))?;
                tracing::info!(first_admin = %value.handle, "the cluster is initialized; the bootstrap record was deleted");
            }
            _ => {}
        }
        Ok(Level::Settled)
    }

    /// Makes the first admin, unless there is a user of that name.
    async fn add_first(&self, first: &Initialized) -> Result<()> {
        let (handle, sign_pub) = (first.handle.clone(), first.sign_pub);
        if self.gate.view(|view| view.versioned_user(&handle).is_some()) {
            return Ok(());
        }
        let admin = User { handle, sign_pub, role: Role::Admin, state: State::Active };
        let root = Principal::root(self.raise.by.clone());
        match self.commands.change_user(root, UserChange::Add(admin, None)).await {
            Ok(_) => tracing::info!(handle = %first.handle, "the first admin is in"),
            // A user of that name or key was made by other means: then that one stands.
            Err(error @ UserError::Conflict(_)) => tracing::warn!("the first admin was not imported: {error}"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Raises the level of a new cluster, by one of its nodes.
    async fn begin_at_highest(&self, first: &Handle) -> Result<Level> {
        let (at, new) = self.gate.view(|view| (view.level(), is_new(view, Some(first))));
        if self.at_lowest_level || at >= FeatureLevel::highest() || !new {
            return Ok(Level::Settled);
        }
        let there = self.presence.nodes(Instant::now());
        if let Some(other) = there.first().filter(|other| **other != self.node) {
            return Ok(Level::Waits(format!("{other} does it")));
        }
        match self.commands.raise_level(&self.raise).await {
            Ok(raised) => {
                tracing::info!(level = %raised.level, "this cluster is new and begins at this feature level");
                Ok(Level::Settled)
            }
            Err(error @ LevelError::NotReady { .. }) => Ok(Level::Waits(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self) -> Result<Record> {
        let path = self.record.as_path();
        let text = private_file::read(path)?;
        let record: Record = serde_json::from_str(text.expose_secret())
            .with_context(|| format!("{} is not a bootstrap record", path.display()))?;
        ensure!(record.schema == 1, "{}: schema {} is not 1", path.display(), record.schema);
        Ok(record)
    }
}

/// Has a file that is empty begin at the highest level: any user may be its first, and before there is any. Nothing is ever carried into
/// such a store while it is in use, and no other node has to follow, so this is one entry and no change of a cluster.
pub async fn begin_own_file(store: &dyn Store) -> Result<(), StoreError> {
    let (highest, at) = (FeatureLevel::highest(), Address::of(&RecordKey::Level)?);
    // What cannot be read, the session with the engine reports, with a remedy.
    let Ok(view) = commands::load(store).await else { return Ok(()) };
    if view.level() >= highest || !is_new(&view, None) {
        return Ok(());
    }
    create_json(store, at.bucket, &at.key, &LevelRecord::new(highest)).await.map(drop)
}

/// Whether nothing has ever been done in this cluster but that its first admin was made.
fn is_new(view: &View, first: Option<&Handle>) -> bool {
    view.rooms().next().is_none() && view.users().all(|user| Some(&user.handle) == first)
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

#[cfg(test)]
mod tests {
    use super::*;
    use nkeys::KeyPair;
    use unibus_core::bus::Bucket;
    use unibus_core::view::user_key;

    fn add(view: &mut View, handle: &str, state: State, revision: u64) {
        let sign_pub = SignPub::from_nkey(&KeyPair::new_user().public_key()).unwrap();
        let user = User { handle: handle.parse().unwrap(), sign_pub, role: Role::User, state };
        let value = serde_json::to_vec(&user).unwrap();
        view.apply(Bucket::Users, &user_key(&user.handle), &value, revision).unwrap();
    }

    #[test]
    fn a_cluster_is_new_until_there_is_more_than_its_first_admin() {
        let (mut view, root) = (View::default(), "root".parse().unwrap());
        assert!(is_new(&view, None) && is_new(&view, Some(&root)));
        add(&mut view, "root", State::Active, 1);
        assert!(is_new(&view, Some(&root)) && !is_new(&view, None));
        add(&mut view, "alice", State::Removed, 2);
        assert!(!is_new(&view, Some(&root)), "what was removed was there");
    }
}
