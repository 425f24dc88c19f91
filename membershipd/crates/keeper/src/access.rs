//! What the keeper asks of the node that it works for.

use std::time::Instant;

use unibus_core::view::View;

/// Who may do what, as this node knows it, and the proof that it does.
pub trait Access: Send + Sync + 'static {
    /// Reads from the view.
    fn view<T>(&self, read: impl FnOnce(&View) -> T) -> T;

    /// Whether this node may decide anything at `now`.
    fn lease_valid(&self, now: Instant) -> bool;

    /// When the heartbeats were sent that prove the view: it has everything that was committed before.
    fn proven(&self) -> Option<Instant>;

    /// Names of the nodes whose heartbeats arrive at `now`, this one included.
    fn present(&self, now: Instant) -> Vec<String>;
}
