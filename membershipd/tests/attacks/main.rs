//! What an ordinary member or a stranger can try against the others, with clients and sockets that anyone has. `docs/attacks.md` says
//! what each attack did to release 0.1.0.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod api;
mod bus;
mod files;
mod monitor;
mod page;
mod replies;
mod terminal;
