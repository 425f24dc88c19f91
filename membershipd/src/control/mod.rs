//! The control socket: how root and the daemon's own user ask a running daemon. One request and one answer a connection,
//! each a line of JSON; what they are is in [`unibus_api_types::control`].

mod blobs;
mod copying;
mod repairing;
mod server;

pub use copying::OverSocket;
pub use repairing::Repairing;
pub use server::{of_users, serve};
pub use unibus_api_types::control::{Answer, Failure, REQUEST_BYTES, Request, socket};
pub use unibus_client::control::{ask, ask_for};

use crate::users::UserError;
use unibus_core::lease::Closed;

impl From<UserError> for Failure {
    fn from(error: UserError) -> Self {
        Self::new(error.code(), &error.to_string(), error.remedy())
    }
}

/// What is said for as long as this node cannot prove its view.
fn not_proven(closed: Closed) -> Failure {
    UserError::from(closed).into()
}
