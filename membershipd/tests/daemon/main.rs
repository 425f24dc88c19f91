//! One daemon and the public parts of the crate, each with real engines and clients from outside; what takes three daemons
//! is in `three`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod admin;
mod api;
mod bad_input;
mod blobs;
mod cli;
mod commands_kv;
mod configuration;
mod conversations;
mod copies;
mod damaged;
mod examples;
mod hand_over;
mod history;
mod invites;
mod kept;
mod kept_copies;
mod kept_limits;
mod kept_mended;
mod levels;
mod operations;
mod ordinary_user;
mod proxies;
mod rights;
mod rooms;
mod signature_oracle;
mod standalone;
mod store_model;
mod store_suite;
mod stores;
mod strays;
mod tail;
