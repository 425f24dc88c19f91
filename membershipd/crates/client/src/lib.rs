//! The SDK of unibus: what a program needs to take part.
//!
//! [`identity`] is the file that says who a user is; [`api`] asks the nodes for rooms, members and users, and changes them;
//! [`talk`] sends and receives in rooms, sealed and signed.
//!
//! [`control`] asks the daemon of the same machine as root; [`words`] are sizes and local times as people read them.
//!
//! A program that says something in a room:
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use unibus_client::identity::Identity;
//! use unibus_client::talk::{Pins, Sender};
//!
//! # async fn say() -> anyhow::Result<()> {
//! let file = Path::new("alice.toml"); // made by `membershipd identity new`
//! let identity = Arc::new(Identity::load(file)?);
//! let nodes = vec!["https://magnus.example:8470".parse()?];
//! let ca = Some("ca.crt".into());
//! let mut kitchen = Sender::new(identity, Pins::beside(file), nodes, ca, "kitchen".parse()?).await?;
//! kitchen.say(&["hello"]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Here belongs what runs on a member's machine. Never here: what a node decides, or how it keeps anything.

pub mod api;
pub mod control;
pub mod identity;
pub mod talk;
pub mod words;

pub use unibus_core::domain::{Handle, RoomId};
