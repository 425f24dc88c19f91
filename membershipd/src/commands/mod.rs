//! Commands carried out on a store, by many at once, through crashes and outcomes that nobody knows.
//!
//! A command is decided on a snapshot and its writes are made one by one, each by compare-and-set on the revision that was
//! read; whoever loses begins anew with what is there now, within a time. What holds:
//!
//! - *Nothing is reported as done that may not be.* Done is what the store acknowledged, or what a proven state shows.
//! - *Nothing is reported as not done that may be.* A write of unknown outcome is made again at the same revision: of the two at
//!   most one can land, and a conflict says that the first one may have. From then on a command that does not get to its end is
//!   `Unknown`, whatever stopped it, unless the repetition took the first one's place. Giving it again completes it, or finds it done.
//! - *What takes a right away is fenced* before it is reported, and a repetition is fenced again, as the first one may have died
//!   in between.
//! - *What gives a right gives way.* Where somebody restricted the same record since the command began, it is not decided anew on
//!   top of that, but fails as `Overtaken`.
//! - *Two owners never both rely on each other*: see `plan`.
//! - *No change is without a record in the audit*: see `audit`.
//!
//! A future that is dropped is a crash: what it began is completed by the next one or by `repair`. Whoever serves clients that
//! may go away spawns it.
//!
//! From the bottom up: `keys`, `pace`, `state` and `fence` are what the rest is given; `gated` is the state of a node,
//! `load` and `watched` are for tools and tests; `error`, `audit`, `order` and `plan` say what is done; `queues`, `index` and `claiming` do parts of it; `service`
//! does it, `repair` finishes what others left, and `derived` does the part of that which a node does by itself.

pub mod audit;
mod claiming;
mod derived;
mod error;
mod fence;
mod gated;
mod index;
pub mod keys;
mod load;
mod order;
mod pace;
mod plan;
mod queues;
mod repair;
mod service;
mod state;
mod watched;

#[cfg(test)]
mod tests;

pub use derived::put_right;
pub use error::{CommandError, Retry};
pub use fence::{Fence, Revoked, WaitOut};
pub use gated::Gated;
pub use index::Indexed;
pub use load::load;
pub use order::{Actor, Demand, Order};
pub use pace::{Pace, Real};
pub use repair::{Repair, Repaired};
pub use service::{Commands, Outcome, Patience, Unfinished};
pub use state::{NotProven, State};
pub use watched::Watched;

/// Commands as a node carries them out: on the view of its gate, behind its fence.
pub type NodeCommands = Commands<Gated, std::sync::Arc<dyn Fence>>;
