//! Why a command was not carried out, or is not known to be, and whether it is right to give it again.

use super::keys::{self, Address};
use super::order::Demand;
use super::state::NotProven;
use unibus_core::domain::{RecordKey, Refusal};
use unibus_store::{Revision, StoreError};

/// Why a command was not carried out, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The rules, or what is there, say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The record is at another revision than was demanded.
    #[error("{} is at {}, and {wanted} was demanded; nothing was changed", keys::name(.record), at(*.now))]
    Precondition {
        /// The record.
        record: RecordKey,
        /// What was demanded.
        wanted: Demand,
        /// The one it has; none: there is no such record.
        now: Option<Revision>,
    },
    /// Somebody took a right away meanwhile, and the command would have given it back without knowing.
    #[error("somebody else restricted {} meanwhile; nothing was changed", keys::name(.0))]
    Overtaken(RecordKey),
    /// This node cannot prove that what it knows is current.
    #[error(transparent)]
    NotProven(#[from] NotProven),
    /// The store did not take it.
    #[error("nothing was changed: {0}")]
    Unavailable(StoreError),
    /// The audit did not take its first record.
    #[error("nothing was changed, as the audit log did not take its record: {0}")]
    Audit(StoreError),
    /// Others were always faster.
    #[error("others kept changing {0} until the time was up; nothing was changed")]
    Contended(Address),
    /// It may have been done, wholly or in part, or may still be.
    #[error("cannot say whether it was done: {why}")]
    Unknown {
        /// What is the matter.
        why: String,
    },
    /// The store can never take it as it is.
    #[error(transparent)]
    Store(StoreError),
}

fn at(now: Option<Revision>) -> String {
    now.map_or_else(|| "none, as it does not exist".to_owned(), |revision| format!("revision {revision}"))
}

impl CommandError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            CommandError::Refused(refusal) => refusal.remedy(),
            CommandError::Precondition { .. } | CommandError::Overtaken(_) => "read the record again, and decide anew",
            CommandError::NotProven(_) => "see 'membershipd status'; try again, or on another node",
            CommandError::Unavailable(error) | CommandError::Audit(error) | CommandError::Store(error) => {
                error.remedy()
            }
            CommandError::Contended(_) => "try again",
            CommandError::Unknown { .. } => {
                "give the same command again: what was begun is completed, nothing is done twice"
            }
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            CommandError::Refused(Refusal::Denied(_)) => "denied",
            CommandError::Refused(_) => "refused",
            CommandError::Precondition { .. } => "precondition",
            CommandError::Overtaken(_) => "overtaken",
            CommandError::NotProven(_) | CommandError::Unavailable(_) | CommandError::Audit(_) => "unavailable",
            CommandError::Contended(_) => "contended",
            CommandError::Unknown { .. } => "unknown",
            CommandError::Store(_) => "store",
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } | StoreError::Gap { .. } => Self::Unavailable(error),
            StoreError::Unknown { .. } => Self::Unknown { why: error.to_string() },
            StoreError::Conflict { .. } | StoreError::Refused { .. } | StoreError::Unreadable { .. } => {
                Self::Store(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_record_and_what_was_demanded() {
        let record = RecordKey::Membership("kitchen".parse().unwrap(), "bob".parse().unwrap());
        let wanted = Demand::OneOf(Revision::new(4).into_iter().collect());
        let error =
            CommandError::Precondition { record: record.clone(), wanted: wanted.clone(), now: Revision::new(7) };
        let text = "member.kitchen.bob is at revision 7, and revision 4 was demanded; nothing was changed";
        assert_eq!(error.to_string(), text);
        let error = CommandError::Precondition { record, wanted, now: None };
        assert!(error.to_string().contains("none, as it does not exist"), "{error}");
        let unknown = CommandError::Unknown { why: "no answer".to_owned() };
        assert_eq!(unknown.code(), "unknown");
    }
}
