//! How much of what was said goes together.

use super::error::HistoryError;
use unibus_core::domain::RoomId;
use unibus_store::Message;

/// Bytes of messages that are read at once, unless a single one is larger.
pub const PAGE_BYTES: usize = 1 << 20;

/// Some of what was said in a room, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// Sequence of the oldest message that there was when it was asked.
    pub first: u64,
    /// Sequence of the newest; 0: nothing was ever said.
    pub last: u64,
    /// Sequences of messages that are kept and cannot be read, among those of the page.
    pub unreadable: Vec<u64>,
    /// All up to this sequence are in the page, or are unreadable, or are gone.
    pub reached: u64,
    /// How many there are after that, at most: in a stream that captures them some of these may be gone.
    pub more: u64,
}

/// What could be read of a room for a copy, from one sequence on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readable {
    /// The messages.
    pub messages: Vec<Message>,
    /// Sequences of messages that cannot be read.
    pub unreadable: Vec<u64>,
    /// The next ones begin after this.
    pub reached: u64,
    /// Why nothing more can be read, where that is so although more may be kept.
    pub damaged: Option<String>,
}

impl Readable {
    /// All of it: there is no more after `reached`.
    pub fn is_end(&self) -> bool {
        self.messages.is_empty() && self.unreadable.is_empty()
    }

    /// The messages, where nothing is damaged; else what is.
    pub fn whole(self, room: &RoomId) -> Result<Vec<Message>, HistoryError> {
        let why = match (self.damaged, self.unreadable.first()) {
            (Some(why), _) => why,
            (None, Some(sequence)) => format!("message {sequence} cannot be read"),
            (None, None) => return Ok(self.messages),
        };
        Err(HistoryError::Damaged { room: room.clone(), why })
    }
}
