//! Three real daemons with their engines: what must hold while one of them is silent, and while all are asked at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod admin;
mod at_once;
mod cable;
mod damaged;
mod fence;
mod history;
mod kept;
mod kept_copies;
mod large;
mod levels;
mod nodes;
mod patience;
mod silent;
mod stock;
mod stock_proof;
mod talk;
