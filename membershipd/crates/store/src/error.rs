//! What a store says that did not do what it was asked: not done, not known, or not possible.

use std::fmt;

use super::contract::Revision;
use super::watch::Position;
use unibus_core::bus::Bucket;
use unibus_core::key::Key;

/// What was asked, of what: the beginning of every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The verb.
    pub verb: &'static str,
    /// The bucket.
    pub bucket: Bucket,
    /// The key, or what the keys begin with.
    pub key: Option<Key>,
}

impl Operation {
    /// `verb` on the whole of `bucket`.
    pub fn on(verb: &'static str, bucket: Bucket) -> Self {
        Self { verb, bucket, key: None }
    }

    /// `verb` on the entry `key` of `bucket`.
    pub fn at(verb: &'static str, bucket: Bucket, key: &Key) -> Self {
        Self { verb, bucket, key: Some(key.clone()) }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A nonce is not for logs.
        match &self.key {
            Some(key) if !matches!(self.bucket, Bucket::Nonces | Bucket::NonceLog) => {
                write!(f, "{} {key} of {}", self.verb, self.bucket.name())
            }
            _ => write!(f, "{} {}", self.verb, self.bucket.name()),
        }
    }
}

/// What stood in the way of a write by compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is no such entry.
    Absent,
    /// The entry has this revision.
    At(Revision),
    /// Something else than was expected; what, nobody could say.
    NotSaid,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Absent => f.write_str("there is no such entry"),
            Standing::At(revision) => write!(f, "it is at revision {revision}"),
            Standing::NotSaid => f.write_str("its revision is another one"),
        }
    }
}

/// Why a store did not do, or is not known to have done, what it was asked. What only reads is never `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The entry was not as expected; nothing was written.
    #[error("cannot {operation}: somebody else was faster, {current}; nothing was written")]
    Conflict {
        /// What was asked.
        operation: Operation,
        /// What stood in the way.
        current: Standing,
    },
    /// Nobody could do it; nothing was written.
    #[error("cannot {operation} now, and nothing was changed: {why}")]
    Unavailable {
        /// What was asked.
        operation: Operation,
        /// What is the matter.
        why: String,
    },
    /// No answer, or one that says nothing: it may have been done, or may still be.
    #[error("cannot say whether it was possible to {operation}: {why}; the change may or may not have been made")]
    Unknown {
        /// What was asked.
        operation: Operation,
        /// What is the matter.
        why: String,
    },
    /// It would never be done as it was asked; nothing was written.
    #[error("cannot {operation}: {why}")]
    Refused {
        /// What was asked.
        operation: Operation,
        /// The rule it breaks.
        why: String,
    },
    /// What is stored makes no sense to this version.
    #[error("cannot {operation}: what is stored is not understood: {why}")]
    Unreadable {
        /// What was asked.
        operation: Operation,
        /// What is wrong with it.
        why: String,
    },
    /// The store has seen less than whoever asks: an older copy of it is in its place.
    #[error("cannot {operation} from after revision {}: the store only reaches {}", after.0, last.0)]
    Gap {
        /// What was asked.
        operation: Operation,
        /// From where.
        after: Position,
        /// The last revision of the bucket.
        last: Position,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            StoreError::Conflict { .. } => "read the entry again, and decide anew",
            StoreError::Unavailable { .. } => "see 'membershipd status' and the disk; try again",
            StoreError::Unknown { .. } => "read the entry once the store answers again: repeating is safe",
            StoreError::Refused { .. } => "ask for less",
            StoreError::Unreadable { .. } => "use the membershipd that wrote it, or a backup",
            StoreError::Gap { .. } => "restart the daemon, so that it reads everything anew",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_was_asked_and_never_a_nonce() {
        let key: Key = "user.root".parse().unwrap();
        let operation = Operation::at("update", Bucket::Users, &key);
        let error = StoreError::Conflict { operation, current: Standing::Absent };
        assert_eq!(
            error.to_string(),
            "cannot update user.root of UNIBUS_users: somebody else was faster, there is no such entry; nothing was written"
        );
        assert_eq!(Operation::at("insert into", Bucket::Nonces, &key).to_string(), "insert into UNIBUS_nonces");
    }
}
