//! A whole cluster on this machine: set up, started, proved and taken down, with a supervisor that is to its daemons what systemd
//! is to those of a server.
//!
//! Here belongs what is true of a cluster on one machine only. It never reaches a server, and it does not know the program that it is
//! part of: the caller names the program with the hidden verbs `supervise` and `exec-child`.

#![cfg(target_os = "linux")]

#[macro_use]
extern crate unibus_ops;

pub mod cluster;
pub mod supervisor;
