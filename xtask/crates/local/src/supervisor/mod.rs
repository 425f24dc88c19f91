//! What systemd is on a server, for a local cluster: starts the daemons, watches them, ends them.
//!
//! One process a cluster. It owns every daemon; when it ends, however it ends, they end too.

mod child;
mod client;
mod env_file;
mod exec_child;
mod log_file;
mod machine;
mod proto;
mod serve;

pub use client::{Control, last_lines, start};
pub use exec_child::{ExecChild, run as exec_child};
pub use proto::{NodeStatus, Phase, Request, Status};
pub use serve::{Supervise, run as supervise};
