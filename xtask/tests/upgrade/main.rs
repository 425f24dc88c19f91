//! From the previous release to this one: what its daemons and its files hold is still there, and no client notices the change.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must stop"
)]

#[path = "../cluster/client.rs"]
#[allow(dead_code, reason = "the tests of clusters use the rest")]
mod client;
#[path = "../cluster/harness.rs"]
#[allow(dead_code, reason = "the tests of clusters use the rest")]
mod harness;
#[path = "../cluster/judged.rs"]
#[allow(dead_code, reason = "the tests of clusters use the rest")]
mod judged;

mod files;
mod rolling;
