//! Why an attachment was not read, added or removed, and what is known of its effect.

use unibus_core::bus::Bucket;
use unibus_store::{Operation, StoreError, WriteError};

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The store could not, or did not say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Attachments take as much of the disk as they may.
    #[error("the attachments take as much of the disk as they may ({why}); remedy: remove some, or ask the operator")]
    Full {
        /// Which bound was met.
        why: String,
    },
    /// The bytes are not those of the name.
    #[error("what was sent does not have the digest that it is named by; remedy: send it again")]
    OtherDigest,
    /// What lies in the store is not what was put there.
    #[error("the attachment is damaged in the store: {why}; remedy: restore it from a backup, or remove it")]
    Damaged {
        /// What is wrong with it.
        why: String,
    },
}

impl BlobError {
    /// Nobody does it now; nothing was changed.
    pub(super) fn unavailable(verb: &'static str, why: impl Into<String>) -> Self {
        StoreError::Unavailable { operation: Operation::on(verb, Bucket::Blobs), why: why.into() }.into()
    }

    /// What became of a write. What the engine refuses it refuses for want of room: nothing else is wrong with what we send.
    pub(super) fn of_write(verb: &'static str, error: WriteError) -> Self {
        let operation = Operation::on(verb, Bucket::Blobs);
        match error {
            WriteError::Refused(why) => Self::Full { why },
            WriteError::Unavailable => Self::unavailable(verb, "the cluster has no leader for it now"),
            error @ (WriteError::Unknown | WriteError::Conflict) => {
                StoreError::Unknown { operation, why: error.to_string() }.into()
            }
        }
    }

    /// Whether it may have been done all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, BlobError::Store(StoreError::Unknown { .. }))
    }
}
