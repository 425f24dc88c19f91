//! Machines to rehearse on: Debian systems in namespaces of this host, with their own systemd, sshd and two networks.
//!
//! Three processes make a fleet. The *keeper* lives outside and only waits: for its parent, for a signal, for the holder;
//! then it sweeps. The *init* is process 1 of the fleet's namespaces and only reaps. The *holder* lays the networks, powers
//! the machines and answers on a socket. When the init dies, however it dies, the kernel ends every process and takes away
//! every mount and network of the fleet; what the kernel does not take away, the scratch directory and an empty cgroup, the
//! keeper removes. A keeper that is killed takes the init along, and its leftovers go with the next `up`, `down` or
//! `rehearse`.

mod base;
mod cgroup;
mod client;
mod enter;
mod holder;
mod keeper;
mod layout;
mod machine;
mod members;
mod mounts;
mod net;
mod operator;
mod preflight;
mod proto;
mod sweep;

pub(crate) use base::Base;
pub(crate) use client::{Fleet, Order, take_down};
pub(crate) use enter::{Enter, Init, enter, init};
pub(crate) use holder::{Hold, hold};
pub(crate) use keeper::keep;
pub(crate) use layout::Layout;
pub(crate) use preflight::{check, has_room_for};
pub(crate) use proto::{Network, Power, Request, Status};
pub(crate) use sweep::{fleets, sweep_dead};
