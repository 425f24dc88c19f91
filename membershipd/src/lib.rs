//! membershipd: the control plane of the unibus message bus.
//!
//! It runs a nats-server as its engine, decides about every connection to it, and denies whatever it cannot prove.
//! `serve` is the way in; modules only look downwards from there.

pub mod api;
pub mod bench;
pub mod blobs;
pub mod bootstrap;
pub mod bus;
pub mod callout;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod control;
pub mod conversation;
pub mod copies;
pub mod deadman;
pub mod domain;
pub mod engine;
pub mod expiry;
pub mod faults;
pub mod fence;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gate;
pub mod heartbeat;
pub mod history;
pub mod identity;
pub mod invites;
pub mod kick;
pub mod lease;
pub mod link;
pub mod load;
pub mod posture;
pub mod private_file;
pub mod probe;
pub mod probe_routes;
pub mod random;
pub mod room_keys;
pub mod scale;
pub mod secret;
pub mod serve;
pub mod signature;
pub mod store;
pub mod sweeper;
pub mod talk;
pub mod tell;
pub mod transfer;
pub mod users;
pub mod view;
