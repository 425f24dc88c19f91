//! Who exists on the bus: types that cannot hold a wrong value, and the decision over them.

mod decide;
mod permissions;
mod user;

pub use decide::{Action, Decision, Denial, decide};
pub use permissions::{Permissions, SubjectList};
pub use user::{Handle, InvalidValue, Role, SignPub, State, User};
