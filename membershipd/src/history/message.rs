//! How much of what was said goes together.

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
}
