//! The id under which a frame is kept once.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use unibus_core::domain::RoomId;

const BYTES: usize = 16;
/// So that no other hash of these parts is ever taken for one of these.
const DOMAIN: &[u8] = b"unibus.frame.id.1\0";

/// The first 128 bits of SHA-256 over room, subject and frame.
///
/// Over the whole frame: were it the id that its sender chose, another member could send other bytes with it first, and the true
/// frame would be taken for a repetition and vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FrameId([u8; BYTES]);

/// A text that is no id of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id of a frame is 32 hexadecimal digits in lower case")]
pub struct InvalidFrameId;

impl FrameId {
    /// The id of `frame`, said in `room` on `subject`.
    pub fn of(room: &RoomId, subject: &str, frame: &[u8]) -> Self {
        let mut hash = Sha256::new_with_prefix(DOMAIN);
        // Neither of the two has a zero byte.
        for text in [room.as_str(), subject] {
            hash.update(text);
            hash.update([0]);
        }
        hash.update(frame);
        Self(hash.finalize().first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for FrameId {
    type Err = InvalidFrameId;

    fn from_str(text: &str) -> Result<Self, InvalidFrameId> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidFrameId)?;
        bytes.try_into().map(Self).map_err(|_| InvalidFrameId)
    }
}

impl From<FrameId> for String {
    fn from(id: FrameId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for FrameId {
    type Error = InvalidFrameId;

    fn try_from(text: String) -> Result<Self, InvalidFrameId> {
        text.parse()
    }
}
