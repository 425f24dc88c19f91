//! A message as it is kept, and how much of them goes together.

use bytes::Bytes;

/// Bytes of messages that are read at once, unless a single one is larger.
pub const PAGE_BYTES: usize = 1 << 20;

/// Something that was said in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in the room's stream: larger than that of whatever was said before.
    pub sequence: u64,
    /// When it was kept, milliseconds since 1970, by the clock of the node that led the stream.
    pub at_ms: i64,
    /// Where it was said: the room's subject then, or below it.
    pub subject: String,
    /// What was said, as it was sent.
    pub frame: Bytes,
}

impl Message {
    /// Bytes that it takes of a page.
    pub(super) fn bytes(&self) -> usize {
        self.subject.len() + self.frame.len()
    }
}

/// Some of what was said in a room, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// Sequence of the oldest message that there was when it was asked.
    pub first: u64,
    /// Sequence of the newest; 0: nothing was ever said.
    pub last: u64,
}
