//! What the keeper asks of the node that it works for.

use std::time::Instant;

use futures::future::BoxFuture;
use unibus_core::domain::{Keeping, RoomId};
use unibus_core::view::View;
use unibus_store::link::Link;

/// Who may do what, as this node knows it, and the proof that it does.
pub trait Access: Send + Sync + 'static {
    /// Reads from the view.
    fn view<T>(&self, read: impl FnOnce(&View) -> T) -> T;

    /// Whether this node may decide anything at `now`.
    fn lease_valid(&self, now: Instant) -> bool;

    /// When the heartbeats were sent that prove the view: it has everything that was committed before.
    fn proven(&self) -> Option<Instant>;

    /// Makes sure that what `room` said before is where the shard has it, so that what is said now comes after it. Fails where it is
    /// not yet.
    fn settled<'a>(&'a self, link: &'a Link, room: &'a RoomId) -> BoxFuture<'a, Result<(), String>>;

    /// The rooms whose earlier messages are not in their shards yet.
    fn unsettled<'a>(&'a self, link: &'a Link) -> BoxFuture<'a, Result<Vec<RoomId>, String>>;

    /// How much of a room is kept at most, by the settings of this node.
    fn keeping(&self) -> Keeping;

    /// Names of the nodes whose heartbeats arrive at `now`, this one included.
    fn present(&self, now: Instant) -> Vec<String>;
}
