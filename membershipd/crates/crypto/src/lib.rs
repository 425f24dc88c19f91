//! What is said in a room, on its way from one member to the others: pure, and the same for every program that takes part.
//!
//! Nobody on the servers can read it: a room has a key for each epoch, which members seal for each other (`envelope`) with keys
//! that they vouch for themselves (`recipient`). From it the keys of messages and attachments are derived (`room_key`). A message
//! travels as a `frame`, whose `id` tells when it was made; `replay` tells a frame that comes again from one that is new; `blob`
//! seals attachments. What every signature and every seal covers is put together by `context`, so that none passes for another; `encoded` are bytes that
//! documents carry as text.
//!
//! The same in prose, for programs in other languages, is `membershipd/docs/conversations.md`; `vectors`, which only the tests have,
//! makes the examples beside it.
//!
//! Here belongs what members compute and no server may; never here: a socket, a file, a clock.

pub mod blob;
mod context;
mod encoded;
mod envelope;
mod epoch;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod id;
mod recipient;
mod replay;
mod room_key;
#[cfg(test)]
mod vectors;

pub use envelope::{Envelope, Sealing};
pub use epoch::Epoch;
pub use frame::{Frame, FrameRefusal, Header, Sealer};
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzzing::frames;
pub use id::MessageId;
pub use recipient::{HpkePub, HpkeSecret, Recipient, Signature};
pub use replay::{Seen, Source};
pub use room_key::{KeyId, MessageKey, RoomKey};

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
}
