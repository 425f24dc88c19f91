//! What is said in a room, on its way from one member to the others: pure, and the same for every program that takes part.
//!
//! Nobody on the servers can read it: a room has a key for each epoch, which members seal for each other (`envelope`) with keys
//! that they vouch for themselves (`recipient`). From it the keys of messages and attachments are derived (`room_key`). A message
//! travels as a `frame`, which a `sealer` makes; `content` is what it says, its `id` tells when it was made, and `refusal` why one is
//! not shown. `replay` tells a frame that comes again from one that is new, `frame_id` is what the servers call it; `blob` seals
//! attachments. Who is in a room is what a signed log says (`roster`); a person's keys derive from one secret (`identity`), which is written
//! down, as what people compare is, in `words`. What every signature and every seal covers is put together by `context`, so that none passes for another; `encoded` are bytes that
//! documents carry as text.
//!
//! The same in prose, for programs in other languages, is `membershipd/docs/conversations.md` and, for the log, `roster.md` beside it;
//! `vectors`, which only the tests have, make the examples there.
//!
//! Here belongs what members compute, whether a server may or not: it can check what they signed. Never here: a socket, a file, a clock.

pub mod blob;
mod content;
mod context;
mod encoded;
mod envelope;
mod epoch;
mod frame;
mod frame_id;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod id;
mod identity;
mod recipient;
mod refusal;
mod replay;
mod room_key;
pub mod roster;
mod sealer;
#[cfg(test)]
mod vectors;
mod words;

pub use content::{Attachment, AttachmentName, Content};
pub use envelope::{Envelope, Sealing};
pub use epoch::Epoch;
pub use frame::{Frame, FrameVersion, Header, RosterHead};
pub use frame_id::FrameId;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::frames;
pub use id::MessageId;
pub use identity::{BadWords, IDENTITY_WORDS, IdentitySecret};
pub use recipient::{HpkePub, HpkeSecret, Recipient, Signature};
pub use refusal::FrameRefusal;
pub use replay::{Seen, Source, timely};
pub use room_key::{KeyId, MessageKey, RoomKey};
pub use sealer::Sealer;
pub use words::SharedWords;

/// Most bytes of a frame that the history keeps: with all that is around it, what the engine takes.
pub const FRAME_BYTES: usize = unibus_core::bus::VALUE_BYTES;

/// Why something that was sealed or signed is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untrue {
    /// The signature is not that of whom it claims to be.
    #[error("its signature is not that of its sender")]
    Signature,
    /// It was sealed with another key, for another room, epoch, subject or person, or was changed.
    #[error("it cannot be opened: it was changed, or made for another room, epoch, subject or person")]
    Seal,
    /// A key in it is not one.
    #[error("a key in it is not one")]
    Key,
    /// The machine gives no randomness.
    #[error("this machine gives no randomness")]
    Randomness,
    /// A frame of version 1 carries text and nothing else.
    #[error("version 1 of frames, which is written here, carries text only")]
    TextOnly,
}

impl Untrue {
    /// A word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Untrue::Signature => "signature",
            Untrue::Seal => "seal",
            Untrue::Key => "key",
            Untrue::Randomness => "randomness",
            Untrue::TextOnly => "text-only",
        }
    }
}
