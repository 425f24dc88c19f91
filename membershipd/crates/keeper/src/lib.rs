//! Keeps what members say in rooms that persist. Bytes that a member sent never reach JetStream as they came: members publish to the
//! bus, every daemon hears it ([`Listener`]), and one of them checks each frame as a client would and appends it.
//!
//! Here belongs all that happens to a frame between the bus and the store: hearing it, checking it, the share of its sender, the
//! append, what is said to the sender, and pages of what is kept. Never here: who may be in a room (`unibus-core`), how a frame is
//! made (`unibus-crypto`), the API.
//!
//! - *A shard* is a stream of the daemons, in which each of its rooms has a subject of its own ([`Shard`]). A room costs nothing while
//!   nothing is said in it.
//! - *One node appends to a shard*, chosen by all nodes alike from those whose heartbeats arrive; the others hold what they heard until
//!   they hear that it is kept, and append it when the choice falls on them. That two nodes append for a moment does no harm: a frame
//!   has one id ([`FrameId`](unibus_crypto::FrameId)), which the stream takes once, and each append names the sequence before it, so order holds.
//! - *The sender is told* ([`Notice`](unibus_api_types::notice::Notice)): kept, at which sequence; or refused, why, and whether trying again helps. Silence means unknown.

mod access;
mod append;
mod care;
mod carry;
mod copies;
mod export;
mod heard;
mod judge;
mod keeper;
mod listener;
mod notice;
mod read;
mod restore;
mod shard;
mod streams;
mod totals;
mod unplaced;
mod wire;

pub use access::Access;
pub use carry::{can_be_carried, carried, carry};
pub use copies::{raise, replicas};
pub use export::{count, export, rooms};
pub use keeper::Keeper;
pub use listener::Listener;
pub use read::{ReadError, page};
pub use restore::restore;
pub use shard::Shard;
