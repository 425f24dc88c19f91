//! Whole clusters: `cargo xtask local` with the real daemon and engine, used by stock clients and broken on purpose.
//!
//! A test has a cluster of its own, in a directory and on loopback addresses of its own, and takes it down again; those that only
//! look have one together (`harness::Shared`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must stop"
)]

mod access;
mod bring_up;
mod chaos;
mod client;
mod harness;
mod judged;
mod loss;
mod operator;
mod persistence;
#[path = "../common/pty.rs"]
mod pty;
mod restarts;
mod rolling;
mod rotation;
mod safeguards;
mod scale;
mod support;
mod tls;
mod verify;
