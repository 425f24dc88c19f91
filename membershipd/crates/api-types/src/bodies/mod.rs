//! Bodies of requests and answers, named as openapi.json names them: the description of a field there is its documentation here,
//! and where the name says all there is none.

#![allow(missing_docs, reason = "what is written here stands in openapi.json")]

mod audit;
mod blobs;
mod connections;
mod history;
mod invites;
mod keys;
mod members;
mod outcome;
mod rooms;
mod status;
mod users;

pub use audit::{Audit, AuditRecord, Decided, Written};
pub use blobs::{AddedBlob, Blob, Blobs, RemovedBlob};
pub use connections::{ClosedConnection, Connection, Connections};
pub use history::{History, Message};
pub use invites::{ChangedInvite, Invite, Invites, NewInvite, Registration};
#[cfg(feature = "openapi")]
pub use keys::EnvelopeSchema;
pub use keys::{Begun, Hpke, Listed, NewEpoch, NewestKey, Recipients, SealedKey};
pub use members::{Acceptance, ChangedMember, EndedMembership, Member, MemberRole, Members};
pub use outcome::Passed;
pub use rooms::{ChangedRoom, Keeper, NewRoom, OwnMembership, Policy, Room, RoomPatch, Rooms};
pub use status::Status;
pub use users::{Bus, ChangedUser, Directory, DirectoryEntry, NewUser, Switch, User, UserPatch, Users};
