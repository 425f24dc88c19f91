//! All that a store has, copied: out of a running one into a new file, and from a file into an empty cluster.
//!
//! What holds:
//!
//! - *A copy is of one moment.* Buckets are read over and over until a whole round shows no change, so at the moment between the
//!   last two rounds the store held just that. Each bucket that decides access must have shown a heartbeat written meanwhile,
//!   which took a quorum: so that moment is after the beginning, and nobody's outdated view was read.
//! - *Nothing is written over.* A file is only ever made; entries are only written where there is none. A target that holds
//!   anything else is refused, and what that is is said.
//! - *It can be begun again.* What a run before has written is known by its content and left alone.
//! - *Whole or not at all, as far as that is known:* a file appears when it is complete, and after copying into a cluster
//!   everything is read back and compared.
//! - *What one room holds decides nothing:* a message, a history or an attachment that is damaged where it lies is left out and named
//!   (`missing`), and all else is copied.
//! - *What is not understood is not carried:* an entry that no node could read would shut the whole cluster.
//!
//! What was said in rooms goes along, with the time at which it was, for every room that is in use. It is only ever added to, so a
//! copy has it up to the moment at which it was last read, and nobody has to be silent for that. It is carried in when the rooms are
//! there and nobody is in them yet, so that nothing said later comes before it. Attachments are read in the same rounds as entries, and
//! compared in the same way (`blobs`).
//!
//! A copy goes into a file of the sqlite store, or, as a stream, to the program that reads it: then nothing holds all of it (`stream`).
//!
//! Heartbeats stay behind: they are a process's, not the cluster's. Nonces do too, as they end by themselves; what that means is
//! in ARCHITECTURE.md.

mod adopt;
mod blob_ends;
mod blobs;
mod content;
mod copy_in;
mod copy_out;
mod end;
mod error;
mod messages;
mod missing;
mod stream;

#[cfg(test)]
mod tests;

pub use adopt::adopt;
pub use blob_ends::random;
pub use blobs::{BlobEnd, Kept, Piece};
pub use content::Content;
pub use copy_in::{Carried, copy_in};
pub use copy_out::{Copied, copy_out, copy_to_stream};
pub use end::{Answer, BATCH_BYTES, End, Item, Items, OfStore, Put};
pub use error::TransferError;
pub use messages::{InEngine, Messages, Whole, unpack};
pub use missing::{Missing, MissingOf};
pub use stream::{StreamWriter, Unpacked, unpack_in_place, unpack_stream};
pub use unibus_api_types::control::Part;
