//! Memberships: role, state and the record of one. An invitation to a room and a ban from it are states of it.

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::room::RoomId;
use super::schema::Schema;
use super::user::Handle;

/// What a member may do in a room. Each role may do what the ones below it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomRole {
    /// Reads.
    Reader,
    /// Reads and writes.
    Member,
    /// Invites and removes members and readers as well.
    Moderator,
    /// Decides about the room and everybody in it.
    Owner,
}

impl RoomRole {
    /// All of them, the highest first.
    pub const ALL: [RoomRole; 4] = [RoomRole::Owner, RoomRole::Moderator, RoomRole::Member, RoomRole::Reader];
}

/// How somebody stands to a room. The last two are tombstones: the record stays for good, so that a grant of unknown
/// outcome, made on an older revision, can never land after a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Asked to join, and has not answered.
    Invited,
    /// A member.
    Joined,
    /// Removed, or left; may be invited again.
    Removed,
    /// Removed, and not to be invited until the ban is lifted.
    Banned,
}

impl MemberState {
    /// All of them.
    pub const ALL: [MemberState; 4] =
        [MemberState::Invited, MemberState::Joined, MemberState::Removed, MemberState::Banned];

    /// Whether it counts among the room's members and invited ones.
    pub fn is_present(self) -> bool {
        matches!(self, MemberState::Invited | MemberState::Joined)
    }
}

/// What decides about somebody in a room: the role, and whether it is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Standing {
    /// The role, or what it was.
    pub role: RoomRole,
    /// Whether it is in force.
    pub state: MemberState,
}

/// A membership as it stands in the bucket of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// How to read this.
    pub schema: Schema<1>,
    /// The room.
    pub room: RoomId,
    /// Whose membership it is.
    pub handle: Handle,
    /// The role; in a tombstone the one that was lost.
    pub role: RoomRole,
    /// Whether it is in force.
    pub state: MemberState,
    /// Who made the last change; whoever left or accepted, made it himself.
    pub by: Author,
    /// Whether the connections that the user has when this is applied are ended, so that they come back with what the user gains by
    /// it. Release 0.1.0 cannot read it, so it is written from feature level 2 on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reconnects: bool,
}

impl Membership {
    /// A membership as `by` makes it.
    pub fn new(room: RoomId, handle: Handle, standing: Standing, by: Author) -> Self {
        Self { schema: Schema, room, handle, role: standing.role, state: standing.state, by, reconnects: false }
    }

    /// Role and state.
    pub fn standing(&self) -> Standing {
        Standing { role: self.role, state: self.state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_reads_as_it_was_written() {
        for (role, role_text) in RoomRole::ALL.into_iter().zip(["owner", "moderator", "member", "reader"]) {
            for (state, state_text) in MemberState::ALL.into_iter().zip(["invited", "joined", "removed", "banned"]) {
                let record = Membership::new(
                    "kitchen".parse().unwrap(),
                    "bob".parse().unwrap(),
                    Standing { role, state },
                    "alice".parse().unwrap(),
                );
                let reconnecting = Membership { reconnects: true, ..record.clone() };
                let golden = format!(
                    r#"{{"schema":1,"room":"kitchen","handle":"bob","role":"{role_text}","state":"{state_text}","by":"alice"}}"#
                );
                assert_eq!(serde_json::to_string(&record).unwrap(), golden);
                assert_eq!(serde_json::from_str::<Membership>(&golden).unwrap(), record);
                let golden = golden.replace("\"alice\"}", "\"alice\",\"reconnects\":true}");
                assert_eq!(serde_json::to_string(&reconnecting).unwrap(), golden);
                assert_eq!(serde_json::from_str::<Membership>(&golden).unwrap(), reconnecting);
            }
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let good = r#"{"schema":1,"room":"a","handle":"b","role":"member","state":"joined","by":"c"}"#;
        assert!(serde_json::from_str::<Membership>(good).is_ok());
        for (from, to) in [
            ("\"schema\":1", "\"schema\":7"),
            ("\"schema\":1,", ""),
            ("member", "admin"),
            ("member", "Member"),
            ("joined", "left"),
            ("\"handle\":\"b\"", "\"handle\":\"b.*\""),
            ("\"room\":\"a\"", "\"room\":\"\""),
            ("\"by\":\"c\"", "\"by\":\"c\",\"until\":99999999999999999999"),
        ] {
            assert!(serde_json::from_str::<Membership>(&good.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn roles_are_ordered_by_what_they_may() {
        assert!(RoomRole::ALL.is_sorted_by(|higher, lower| higher > lower));
    }
}
