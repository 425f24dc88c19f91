//! What the API and its clients agree on: what bodies of requests and answers look like, which types problems have, how large
//! things may be, where they are.
//!
//! Here belongs what stands on the wire, over HTTPS or over the control socket, written once for the daemon, the SDK and the command line. Never here: how a request is
//! decided, carried out or sent.

mod blob_id;
pub mod bodies;
pub mod bound;
pub mod control;
pub mod limits;
pub mod notice;
pub mod problem;
#[cfg(feature = "openapi")]
pub mod schema;

pub use blob_id::BlobId;
