//! Attachments: sealed by whoever adds them, kept in the object store of the buckets, named by the digest of what is kept.
//!
//! An attachment is chunks and a record (the format of NATS object stores, ADR-20), and the record comes last: what has none was
//! never there. Chunks that are left of an upload that did not end well are found by the sweep. What is read is compared with
//! its name before the last piece of it is handed on. A name begins with its room, so no two rooms share anything: who finds that
//! something is there already would otherwise learn what others have.
//!
//! A copy brings attachments in by pieces (`carry`). Nothing here asks who may: that is decided above. Reads are answered by the leader of the stream, writes are acknowledged by a
//! quorum.

mod carry;
mod error;
mod name;
mod reading;
mod record;
mod stream;
mod sweep;
mod upload;

pub use error::BlobError;
pub use name::{BlobName, Body};
pub use reading::read;
pub use record::BlobRecord;
pub use stream::{Blobs, Usage};
pub use sweep::{Swept, sweep};
pub use unibus_api_types::BlobId;
pub use upload::{Added, Upload};
