//! Machines to rehearse on: real ones, in namespaces of this host, whose faults are real and which leave nothing.
//!
//! Needs root and the packages that `cargo xtask fleet up` names; without them these tests fail and say which.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on must stop")]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod harness;
mod leftovers;
mod ratios;
mod rehearse;
mod secrets;
mod side_by_side;
