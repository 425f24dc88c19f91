//! The buckets: one contract, kept on JetStream and in a file; and what the daemon asks of JetStream beside it.

mod backing;
mod buckets;
mod contract;
mod error;
#[cfg(any(test, feature = "test-support"))]
pub mod faulty;
pub mod group_commit;
mod kv;
pub mod link;
mod message;
mod nonce_log;
mod raise;
#[cfg(test)]
mod scratch;
mod sqlite;
mod typed;
mod watch;
mod write;

pub use backing::{Backing, follow, load};
pub use buckets::{Replicas, ensure, ensure_bucket, replicas, replicas_of};
pub use contract::{Answer, Entry, Event, Events, Keyed, Nonce, Page, PageSize, Revision, Store};
pub use error::{Operation, Standing, StoreError};
pub use kv::KvStore;
pub use kv::asked_again;
pub use message::Message;
pub use raise::{Raised, raise, raise_stream};
pub use sqlite::{BlobRow, Clock, NewFile, NewFileError, OpenError, SqliteStore};
pub use typed::{create_json, get_json, update_json};
pub use unibus_core::key::{Key, Prefix, Records};
pub use watch::{Delivered, Position};
pub use write::{WriteError, get, put, put_once};
pub use write::{append, look};
