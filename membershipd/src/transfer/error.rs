//! Why nothing, or not everything, was copied.

use std::fmt;

use unibus_api_types::control::Part;
use unibus_store::{NewFileError, OpenError, StoreError};

/// Differences that a message names.
const NAMED: usize = 5;

/// Why nothing, or not everything, was copied.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A store did not answer, or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon did not do its part.
    #[error("{message}")]
    Daemon {
        /// A word for programs.
        code: String,
        /// What it said.
        message: String,
        /// What to do about it.
        remedy: String,
    },
    /// The file to copy from cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file to copy to cannot be made.
    #[error(transparent)]
    NewFile(#[from] NewFileError),
    /// A copy that is a stream cannot be written, or is not whole.
    #[error("{0}")]
    Stream(String),
    /// The messages of rooms cannot be read, or not be put in place.
    #[error("the messages of rooms could not be copied: {0}")]
    NoMessages(String),
    /// There was always somebody who changed something.
    #[error("somebody was changing something all the time, for {seconds} s: what was read is not of one moment")]
    Busy {
        /// How long it was tried.
        seconds: u64,
    },
    /// Nothing proves that what was read is current.
    #[error(
        "no heartbeat reached {bucket} within {seconds} s, so nothing proves that what was read is current: \
         no quorum, or the disk is full"
    )]
    NoHeartbeat {
        /// The bucket.
        bucket: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// There is nothing to copy.
    #[error("the file holds nothing, so there is nothing to copy")]
    Nothing,
    /// An entry that no node could read.
    #[error("what is to be copied is not understood, so nothing was written: {0}")]
    NotUnderstood(String),
    /// The target has something else.
    #[error("the target holds {}, which {} not in the file, and nothing was written", named(.0), be(.0))]
    NotEmpty(Vec<Difference>),
    /// Attachments of one end are not those of the other.
    #[error("the attachments of the file and of the target differ: {}", .0.join(", "))]
    OtherBlobs(Vec<String>),
    /// After copying, the two are not the same.
    #[error("everything was written, but the two are not the same afterwards: somebody else changed {}", named(.0))]
    Changed(Vec<Difference>),
}

/// An entry in which two stores differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name of the part where it is.
    pub part: &'static str,
    /// Which it is: its key, its place in the log, or the room.
    pub name: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.part)
    }
}

fn named(differences: &[Difference]) -> String {
    let some: Vec<String> = differences.iter().take(NAMED).map(Difference::to_string).collect();
    let rest = differences.len().saturating_sub(NAMED);
    let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    format!("{}{rest}", some.join(", "))
}

fn be(differences: &[Difference]) -> &'static str {
    if differences.len() == 1 { "is" } else { "are" }
}

impl TransferError {
    /// An entry without a key.
    pub(super) fn nameless(part: Part) -> Self {
        Self::NotUnderstood(format!("an entry of {} without a key", part.name()))
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            TransferError::Store(error) => {
                format!("{}; what was begun is completed by doing the same again", error.remedy())
            }
            TransferError::Daemon { remedy, .. } => remedy.clone(),
            TransferError::Open(_) | TransferError::NewFile(_) => "see above; nothing was copied".to_owned(),
            TransferError::Stream(_) => "make the copy again, or use another one; nothing was carried over".to_owned(),
            TransferError::NoMessages(_) => {
                "see 'membershipd status'; what was begun is completed by doing the same again".to_owned()
            }
            TransferError::Busy { .. } => "try again at a quieter moment".to_owned(),
            TransferError::NoHeartbeat { .. } => {
                "see 'membershipd status', and try again, or on another node".to_owned()
            }
            TransferError::NotUnderstood(_) => "use the membershipd that wrote it, or another backup".to_owned(),
            TransferError::Nothing => "name the file that has the users".to_owned(),
            TransferError::NotEmpty(_) => {
                "copy into a cluster with empty stores; if this is another backup's cluster, there is nothing to do"
                    .to_owned()
            }
            TransferError::OtherBlobs(_) => {
                "copy into a cluster with empty stores; what was there before is left as it is".to_owned()
            }
            TransferError::Changed(_) => {
                "see what was changed; where it should not have been, begin anew with empty stores".to_owned()
            }
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &str {
        match self {
            TransferError::Store(StoreError::Unknown { .. }) => "unknown",
            TransferError::Store(StoreError::Unreadable { .. }) | TransferError::NotUnderstood(_) => "unreadable",
            TransferError::Store(_) | TransferError::NoMessages(_) | TransferError::NoHeartbeat { .. } => "unavailable",
            TransferError::Daemon { code, .. } => code,
            TransferError::Open(_) | TransferError::NewFile(_) | TransferError::Stream(_) | TransferError::Nothing => {
                "file"
            }
            TransferError::Busy { .. } => "busy",
            TransferError::NotEmpty(_) => "not_empty",
            TransferError::OtherBlobs(_) => "not_empty",
            TransferError::Changed(_) => "changed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_store::Records;

    #[test]
    fn messages_name_the_first_few_differences() {
        let of = |name: &str| Difference { part: Part::Records(Records::Users).name(), name: name.to_owned() };
        let one = TransferError::NotEmpty(vec![of("user.eve")]);
        assert_eq!(
            one.to_string(),
            "the target holds user.eve of UNIBUS_users, which is not in the file, and nothing was written"
        );
        let many = TransferError::NotEmpty((0..9).map(|n| of(&format!("user.u{n}"))).collect());
        assert!(many.to_string().contains("user.u4 of UNIBUS_users and 4 more, which are"), "{many}");
    }
}
