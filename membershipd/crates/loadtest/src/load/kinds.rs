//! What can be done, what can come of it, and what can be found: the words of the history.

use serde::Serialize;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A register was written by compare-and-set.
    Write,
    /// A register was read.
    Read,
    /// A new connection was made and used.
    Connect,
    /// A message was sent on one connection and awaited on another.
    Message,
    /// A user was disabled.
    Disable,
    /// A message of a user who is about to be disabled, or is.
    VictimMessage,
    /// A new connection of such a user.
    VictimConnect,
    /// A room was made over the signed API.
    MakeRoom,
    /// A guest was invited to a room and accepted.
    Join,
    /// A guest was removed from a room.
    Removal,
    /// A guest sent a message in a room, and its host got it.
    MemberPublish,
    /// A guest got a message that the host of a room sent in it.
    MemberReceive,
    /// A guest read who is in a room.
    MemberRead,
    /// The record that several contend for was changed over the signed API, by compare-and-set.
    ApiWrite,
    /// It was read.
    ApiRead,
    /// A member said something in a room that keeps it, and saw that it was kept.
    Say,
    /// A member began a new epoch of the room's key.
    Rotate,
    /// A member read all that was kept there.
    ReadHistory,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// It was acknowledged.
    Ok,
    /// It certainly did not happen.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// The code of a failure with which a node that was there turned somebody away.
pub(super) const DENIED: &str = "denied";

/// Why an attempt was not acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub(super) struct Failure {
    /// A word for programs.
    pub(super) code: String,
    /// Whether it certainly had no effect.
    pub(super) certain: bool,
    /// What went wrong.
    pub(super) why: String,
}

impl Failure {
    /// It certainly did not happen.
    pub(super) fn certain(why: impl Into<String>) -> Self {
        Self { code: "refused".to_owned(), certain: true, why: why.into() }
    }

    /// Somebody who may decide that has said no.
    pub(super) fn denied(why: impl Into<String>) -> Self {
        Self { code: DENIED.to_owned(), ..Self::certain(why) }
    }

    /// It may have happened, or may yet.
    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self { code: "unknown".to_owned(), certain: false, why: why.into() }
    }
}

/// What a member found at one place of a room's history.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Found {
    /// The place.
    pub(super) seq: u64,
    /// What is there.
    #[serde(flatten)]
    pub(super) what: Content,
}

/// What there can be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Content {
    /// Something that somebody said.
    Said {
        /// Who, as the signature proves.
        by: String,
        /// What.
        text: String,
    },
    /// What was there at an earlier place already.
    Doubled(String),
    /// Something that the client does not show, and why.
    Refused(String),
}
