//! Who exists on the bus and who is in which room: types that cannot hold a wrong value, the decision over them, and what
//! commands make of them.
//!
//! From the bottom up: `user`, `subject`, `author`, `room`, `member`, `claims` are the records, and `invite` what a new user comes of; `level` is what the cluster can do as a whole; `records` finds them by their
//! keys; `action` names what can be done, `rules` says who may, and `decide` asks it; `loss` sees what a change takes away; `change` makes it, or says
//! by `refusal` why not;
//! `permissions` tells the engine.

mod action;
mod author;
mod change;
mod claims;
mod claims_key;
mod decide;
mod invite;
mod keep;
mod level;
pub mod limits;
mod loss;
mod member;
mod permissions;
mod quota;
mod records;
mod refusal;
mod revocation_outcome;
mod room;
mod rules;
mod schema;
mod subject;
mod user;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod matrix;

pub use action::Action;
pub use author::{Author, NodeName};
pub use change::{Change, Command, Terms, change, permits};
pub use claims::{ClaimError, Claims};
pub use claims_key::ClaimsKey;
pub use decide::{Decision, Resource, decide, decide_each};
pub use invite::{Invite, InviteId, InviteState, Token, Unusable};
pub use keep::{Keep, Keeping, LEAST_BYTES, MOST_BYTES, MOST_DAYS};
pub use level::{FeatureLevel, LevelRecord, UnknownLevel};
pub use loss::takes_away;
pub use member::{MemberState, Membership, RoomRole, Standing};
pub use permissions::{Permissions, SubjectList, own_subject};
pub use quota::{Exhausted, Quota};
pub use records::{Record, RecordKey, Records, holds_its_subject};
pub use refusal::Refusal;
pub use revocation_outcome::RevocationOutcome;
pub use room::{Policy, Room, RoomId, RoomState};
pub use rules::Denial;
pub use schema::Schema;
pub use subject::{Space, Subject};
pub use user::{Handle, InvalidValue, Role, SignPub, State, User, Verifier};
