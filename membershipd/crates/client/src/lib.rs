//! The SDK of unibus: what a program needs to take part.
//!
//! [`identity`] is the file that says who a user is; [`api`] asks the nodes for rooms, members and users, and changes them;
//! [`talk`] sends and receives in rooms, sealed and signed.
//!
//! [`control`] asks the daemon of the same machine as root.
//!
//! Here belongs what runs on a member's machine. Never here: what a node decides, or how it keeps anything.

pub mod api;
pub mod control;
pub mod identity;
pub mod talk;
