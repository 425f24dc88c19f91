//! Commands carried out on a store, by many at once, through crashes and outcomes that nobody knows.
//!
//! A command is decided on a snapshot and its writes are made one by one, each by compare-and-set on the revision that was
//! read; whoever loses begins anew with what is there now, within a time. What holds:
//!
//! - *Nothing is reported as done that may not be.* Done is what the store acknowledged, or what a proven state shows.
//! - *Nothing is reported as not done that may be.* A write of unknown outcome about a room is made again at the same revision (one
//!   about a user, an invite or a key is `Unknown` at once): of the two at
//!   most one can land, and a conflict says that the first one may have. From then on a command that does not get to its end is
//!   `Unknown`, whatever stopped it, unless the repetition took the first one's place. Giving it again completes it, or finds it done.
//! - *What takes a right away is fenced* before it is reported, and a repetition is fenced again, as the first one may have died
//!   in between.
//! - *What gives a right in a room gives way.* Where another command restricted the same record since this one began, it is not decided again on
//!   top of that, but fails as `Overtaken`.
//! - *Two owners never both rely on each other*: see `plan`.
//! - *No change is without a record in the audit*: see `audit`.
//!
//! A future that is dropped is a crash: what it began is completed by the next one or by `repair`. Whoever serves clients that
//! may go away spawns it.
//!
//! # The one path
//! Every change of a room, a membership, a user, an invite or a key is a [`Change`], and [`Commands`] carries each of them out in
//! this order: *plan* on what is known here and can be proven, *lock* the entries that it writes, *authorize* under the lock (the
//! plan is made again, and its answer holds), *begin* in the audit, *compare-and-set*, *wait for revocation*, *end* in the audit.
//! Users and invites begin in the audit first, so that a change that is refused under the lock leaves its record, too.
//! What differs between kinds of changes is what they plan, and what they say; the order stands in `path` alone. Beside it are only
//! the claim on an invite (compare-and-set alone: the user that it becomes is a change), the hint to a room's newest epoch, the mark of
//! a cluster that was initialized, the level at which an empty file begins, heartbeats and the registers of load tests. A caller that asks
//! earlier whether a change may be made, as the API does for each request, does so to refuse it before it costs anything.
//!
//! From the bottom up: `keys`, `pace`, `state` and `fence` are what the rest is given; `gated` is the state of a node,
//! `load` and `watched` are for tools and tests; `error`, `audit`, `plan`, `change` and `done` say what is done; `record_locks`, `index`, `claiming` and `claims_move` do parts
//! of it; `path` does it; `order` and `rooms` are the commands about rooms (those about users, invites and keys stand above, in modules
//! of their own). `repair` finishes what others left, and `derived` does the part of that which a node does by itself.

pub mod audit;
pub mod audit_query;
mod change;
mod claiming;
pub(crate) mod claims_move;
mod denied;
mod derived;
mod done;
mod error;
mod fence;
mod gated;
mod index;
pub mod keys;
mod load;
mod order;
mod pace;
mod path;
mod plan;
mod record_locks;
mod repair;
mod rooms;
mod state;
mod watched;

#[cfg(test)]
mod tests;

pub use change::{Change, Principal};
pub use derived::put_right;
pub use done::{Done, Patience, Unfinished, Wrote};
pub use error::CommandError;
pub use fence::{Fence, Revoked, WaitOut};
pub use gated::Gated;
pub use index::Indexed;
pub use load::load;
pub use order::{Demand, Order};
pub use pace::{Pace, Real};
pub use path::Commands;
pub use plan::{Earlier, Plan, Step};
pub use repair::{Repair, Repaired};
pub use rooms::Outcome;
pub use state::{NotProven, State};
pub use watched::Watched;
