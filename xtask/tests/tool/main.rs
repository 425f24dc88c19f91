//! The verbs as an operator runs them, on a scratch clone: servers and outside tools are played; real daemons are in
//! `cluster`, real machines in `fleet`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on must stop")]

#[path = "../common/mod.rs"]
mod common;

mod backup;
mod build;
mod chaos;
mod clones;
mod doctor;
mod engine;
mod files;
mod finishing;
mod layers;
mod one_feature_set;
mod operations;
mod operator;
mod pki;
mod previous;
mod reboot;
mod replace_and_scale;
mod rolling;
mod rotation;
mod secrets;
mod setup;
mod stage;
#[cfg(target_os = "linux")]
mod supervisor;
mod terminal;
mod topology;
