//! Taking part in the conversation of a room: what `say` and `tail` do, and what programs in Rust use.
//!
//! From the bottom up: `error`; `pins`, what this user has once seen of others and does not take back; `people`, who is who, by the
//! directory and the pins; `keyring`, the keys of a room, fetched, checked and made anew when they are stale; `reading`, from a
//! frame to what somebody said; `history`, what was kept; `part`, what a member needs in a room; `bus`, a connection to any of the nodes; `sending` and `listening`, the
//! two things that one does, and `attaching`, for what is too large to be said.
//!
//! No server is trusted with what is said, nor with who says it: a key that is not vouched for, one that was swapped, a frame that
//! is not what it claims to be is refused, and that is told.

mod attaching;
mod bus;
mod error;
mod history;
mod keyring;
mod listening;
mod part;
mod people;
mod pins;
mod reading;
mod sending;

pub use attaching::Attachments;
pub use bus::Bus;
pub use error::TalkError;
pub use history::{Ahead, Kept, Page};
pub use keyring::Keyring;
pub use listening::{From, Heard, Listener};
pub use people::{People, Person};
pub use pins::{Pinned, Pins, PinsError};
pub use reading::{Arrived, Message, Reader};
pub use sending::{Sender, Sent};
pub use unibus_crypto::{Attachment, AttachmentName, Content, FrameVersion, RosterHead};
