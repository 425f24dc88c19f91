//! A message of a room as it is kept, in a stream or in a file.

use bytes::Bytes;

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
    pub fn bytes(&self) -> usize {
        self.subject.len() + self.frame.len()
    }
}
