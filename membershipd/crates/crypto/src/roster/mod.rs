//! Who is in a room, signed by those who may say so: the roster log, which every client verifies and no server can write.
//!
//! An [`Entry`] is one change; a [`SignedEntry`] is it as it is kept, in its one encoding. [`State`] is what a log comes to:
//! [`State::verify`] takes a whole log, by what the client trusts ([`Trust`]), and [`State::apply`] what is new. Who may do what is asked of
//! the daemon's rules. [`Takings`] are the server's word, which only takes away; [`State::recipients`] is who gets the room's key. A
//! [`RoomLink`] lets in a person whose keys are not known yet. An [`EpochStatement`] binds a room's key to the log.
//!
//! The same in prose, for programs in other languages, is `membershipd/docs/roster.md`.
//!
//! No server carries a log yet, and nothing but tests uses this.
//!
//! Pure, as all of this crate: time comes in as a value, and what to do about a refusal is the caller's to say.

mod encoding;
mod entry;
mod epoch;
mod facts;
pub mod limits;
mod link;
mod refusal;
mod rules;
mod signed;
mod state;
mod takings;
mod verify;

#[cfg(test)]
mod tests;

pub use entry::{AdoptedMember, Entry, Head, Keys, RosterAction};
pub use epoch::{EpochRefusal, EpochStatement, ProvenEpoch, RecipientsHash, SenderRefusal, SignedEpoch, Staleness};
pub(crate) use link::derive;
pub use link::{BadRoomLink, InviteKey, LinkSeed, RoomLink};
pub use refusal::{RefusedAt, RosterRefusal};
pub use signed::SignedEntry;
pub use state::{HeadOrder, Link, LinkState, Moment, Predecessor, State, SuccessionRefusal};
pub use takings::Takings;
pub use verify::Trust;
