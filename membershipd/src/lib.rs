//! membershipd: the control plane of the unibus message bus.
//!
//! It runs a nats-server as its engine, decides about every connection to it, and denies whatever it cannot prove.
//! `serve` is the way in; modules only look downwards from there.

pub mod api;
pub mod blobs;
pub mod bootstrap;
pub mod callout;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod copies;
pub mod deadman;
pub mod engine;
mod engine_list;
pub mod expiry;
pub mod fence;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gate;
pub mod heartbeat;
pub mod history;
pub mod invites;
pub mod keeping;
pub mod kick;
pub mod level;
pub mod peers;
pub mod posture;
pub mod presence;
pub mod probe;
pub mod probe_routes;
mod rate;
pub mod room_keys;
pub mod scale;
pub mod serve;
pub mod sweeper;
pub mod tell;
pub mod transfer;
pub mod usage;
pub mod users;
