//! Why a room's stream is not what it shall be, or cannot be read.

use unibus_core::domain::RoomId;

/// Why a room's stream is not what it shall be, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// Nobody answered for it. What was to be done may have been, or may still be.
    #[error("nobody answers for the messages of room '{room}': {why}")]
    Unavailable {
        /// The room.
        room: RoomId,
        /// What is the matter.
        why: String,
    },
    /// The engine said no.
    #[error("the engine refused what was to be done about the messages of room '{room}': {why}")]
    Refused {
        /// The room.
        room: RoomId,
        /// What it said.
        why: String,
    },
    /// What it keeps cannot be read, or no longer be added to.
    #[error("the history of room '{room}' is damaged: {why}")]
    Damaged {
        /// The room.
        room: RoomId,
        /// What is the matter.
        why: String,
    },
}

impl HistoryError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            HistoryError::Unavailable { .. } => "see 'membershipd status'; try again, or on another node",
            HistoryError::Refused { .. } => "see the disk of the nodes, and 'membershipd status'; it is tried again",
            HistoryError::Damaged { .. } => "as root on a node: membershipd repair --room ROOM",
        }
    }
}
