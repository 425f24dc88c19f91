//! The revocation fence: what took a right away is reported as done when no node honours it any more.
//!
//! Every node that applies such an entry cuts the connections concerned, unasked (`cutting`), and keeps account of how far it
//! has come (`progress`, `ledger`). Whoever made the change asks (`asking`), and each node answers when it is that far
//! (`answering`). Whom to ask and when to stop waiting is decided by rules without input or output: `roster` and `waiting`.
//! A model of the whole (`model`) checks these very rules, with lease and store, against every order of what can happen.

mod answering;
mod asking;
mod cutting;
mod ledger;
#[cfg(test)]
mod model;
mod progress;
mod roster;
mod waiting;

pub use answering::answer;
pub use asking::RevocationFence;
pub use cutting::{Cut, Cuts, Cutter};
pub use ledger::Ledger;
pub use progress::{Positions, Progress};
pub use roster::{Process, Roster, Witness};
pub use waiting::{Acknowledgement, RevocationStatus, Waiting};
