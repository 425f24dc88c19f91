//! What a command is decided on: records with their revisions, of one moment.

use crate::domain::{self, RecordKey, SignPub, User};
use crate::store::{Records, Revision};

/// Records and their revisions, all of one moment.
pub trait Snapshot: domain::Records {
    /// The revision of a record; none: there is no such record.
    fn revision(&self, record: &RecordKey) -> Option<Revision>;
    /// The user for whom this key was claimed, where his record names it too.
    fn user_of_key(&self, key: &SignPub) -> Option<&User>;
}

/// There is no proof that what is known here is current; nothing is decided on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot decide on what this node knows: {why}")]
pub struct NotProven {
    /// What is missing.
    pub why: String,
}

/// Where snapshots come from: the view of a node behind its lease, or a tool's own copy.
pub trait State: Send + Sync {
    /// A snapshot.
    type Snapshot: Snapshot;

    /// Looks at what is known now, where that may be decided on.
    fn read<T>(&self, look: impl FnOnce(&Self::Snapshot) -> T) -> Result<T, NotProven>;

    /// Ends when all changes of `bucket` up to `revision` are known here. It may take for ever.
    fn seen(&self, bucket: Records, revision: Revision) -> impl Future<Output = ()> + Send + '_;
}
