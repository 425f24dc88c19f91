//! The buckets on JetStream: made, written by compare-and-set, watched.

mod buckets;
mod raise;
mod watch;
mod write;

pub use buckets::{Replicas, ensure, replicas};
pub use raise::{Raised, raise};
pub use watch::{Position, follow, load};
pub use write::{WriteError, get, put, put_once};
