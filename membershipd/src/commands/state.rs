//! What a command is decided on: a view of one moment, where there is proof that it is current.

use std::fmt;

use futures::future::BoxFuture;

use unibus_core::domain::RecordKey;
use unibus_core::view::View;
use unibus_store::{Records, Revision};

/// There is no proof that what is known here is current; nothing is decided on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot decide on what this node knows: {why}")]
pub struct NotProven {
    /// What is missing.
    pub why: String,
}

/// Where views come from: the gate of a node behind its lease, or a tool's own watches.
pub trait State: fmt::Debug + Send + Sync {
    /// Shows what is known now to `look`, once, where that may be decided on.
    fn show(&self, look: &mut dyn FnMut(&View)) -> Result<(), NotProven>;

    /// Ends when all changes of `bucket` up to `revision` are known here. It may take for ever.
    fn seen(&self, bucket: Records, revision: Revision) -> BoxFuture<'_, ()>;
}

impl dyn State + '_ {
    /// Looks at what is known now, where that may be decided on.
    pub fn read<T>(&self, look: impl FnOnce(&View) -> T) -> Result<T, NotProven> {
        let (mut look, mut read) = (Some(look), None);
        self.show(&mut |view| read = look.take().map(|look| look(view)))?;
        read.ok_or_else(|| NotProven { why: "nothing was shown".to_owned() })
    }
}

/// The revision of a record in `view`; none: there is no such record.
pub(super) fn revision_of(view: &View, record: &RecordKey) -> Option<Revision> {
    view.revision(record).and_then(Revision::new)
}
