//! Guard of the engine's store: one process at a time, and only ever in the mode in which it was made.
//!
//! A clustered engine deletes every stream that the cluster does not know, 30 s after its start (nats-server
//! `jetstream_cluster.go`, checkForOrphans): a store made standalone would lose everything, and silently.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::config::{Config, KV, SQLITE, StoreKind};
use unibus_core::private_file::{self, PrivateFileError};

/// Why the store may not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The marker could not be handled.
    #[error(transparent)]
    Marker(#[from] PrivateFileError),
    /// Another process has it.
    #[error(
        "the store {0} is in use by another membershipd; remedy: stop that one first, or give this one another --nats-store"
    )]
    InUse(PathBuf),
    /// It belongs to something else.
    #[error(
        "the store {store} was made {was}, but this node is started {now}: the engine would delete its streams; \
         remedy: start it as it was made, or give this node another --nats-store"
    )]
    Mismatch {
        /// The store.
        store: PathBuf,
        /// How it was made.
        was: String,
        /// How it is started.
        now: String,
    },
    /// The users of the node that made it are elsewhere.
    #[error(
        "the store {store} was made with --store {was}, but this node is started with --store {now}, and would know none of \
         its users; remedy: start it as it was made, or export its users and give this node another --nats-store"
    )]
    OtherEntries {
        /// The store.
        store: PathBuf,
        /// Where the users are.
        was: &'static str,
        /// Where they would be.
        now: &'static str,
    },
    /// It holds data that no membershipd put there.
    #[error(
        "the store {store} holds data but no marker {marker}: nobody knows how it was made, and the engine could delete \
         its streams; remedy: move it away, or give this node another --nats-store"
    )]
    Unmarked {
        /// The store.
        store: PathBuf,
        /// Where the marker should be.
        marker: PathBuf,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    schema: u32,
    mode: Mode,
    /// Of a clustered store.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
    node: String,
    /// Where users, rooms and members are, if not in the store itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entries: Option<Entries>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entries {
    Sqlite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Standalone,
    Clustered,
}

impl Marker {
    fn of(config: &Config) -> Self {
        let cluster_id = config.cluster.as_ref().map(|cluster| cluster.id.clone());
        let mode = if cluster_id.is_some() { Mode::Clustered } else { Mode::Standalone };
        let entries = (config.store != StoreKind::Kv).then_some(Entries::Sqlite);
        Self { schema: 1, mode, cluster_id, node: config.node.clone(), entries }
    }

    fn kind(&self) -> &'static str {
        self.entries.map_or(KV, |Entries::Sqlite| SQLITE)
    }

    fn words(&self) -> String {
        match &self.cluster_id {
            Some(id) => format!("as node {} of the cluster {id}", self.node),
            None => format!("standalone as {}", self.node),
        }
    }
}

/// The right to use the store, held until the process ends.
#[derive(Debug)]
pub struct StoreGuard {
    _lock: File,
}

impl StoreGuard {
    /// Takes the lock beside the store and compares, or writes, the marker.
    pub fn acquire(config: &Config) -> Result<Self, StoreError> {
        let store = &config.nats_store;
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { doing, path, source }
        };
        std::fs::create_dir_all(store).map_err(io("cannot make the store", store))?;
        let lock_path = private_file::sibling(store, "lock");
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(io("cannot open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(store.clone())),
            Err(TryLockError::Error(source)) => return Err(io("cannot lock", &lock_path)(source)),
        }
        let path = private_file::sibling(store, "mode.toml");
        let meant = Marker::of(config);
        if path.exists() {
            let text = private_file::read(&path)?;
            let found: Marker = toml::from_str(text.expose_secret()).map_err(|error| {
                io("cannot understand the marker", &path)(io::Error::new(io::ErrorKind::InvalidData, error))
            })?;
            if (Marker { entries: meant.entries, ..found.clone() }) == meant && found != meant {
                return Err(StoreError::OtherEntries { store: store.clone(), was: found.kind(), now: meant.kind() });
            }
            if found != meant {
                let (was, now) = (found.words(), meant.words());
                return Err(StoreError::Mismatch { store: store.clone(), was, now });
            }
        } else {
            let mut entries = std::fs::read_dir(store).map_err(io("cannot list", store))?;
            if entries.next().is_some() {
                return Err(StoreError::Unmarked { store: store.clone(), marker: path });
            }
            let text = toml::to_string(&meant)
                .map_err(|error| io("cannot write the marker", &path)(io::Error::other(error)))?;
            private_file::write(&path, text.as_bytes())?;
        }
        Ok(Self { _lock: lock })
    }
}
