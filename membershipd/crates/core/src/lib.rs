//! What unibus decides with: who exists and may do what ([`domain`]), a node's [`view`] of it, the [`lease`] that proves the
//! view current, and the names and times ([`bus`]) that all of this is agreed on.
//!
//! Here belongs what is the same on every node and in every client, and what a test can ask without a network: types and
//! decisions. Never here: sockets, stores, HTTP, the command line. Time and randomness come in as values.

pub mod bus;
pub mod clock;
pub mod domain;
pub mod faults;
pub mod key;
pub mod lease;
pub mod private_file;
pub mod random;
pub mod view;
