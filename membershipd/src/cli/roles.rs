//! Roles as arguments: the words of the domain, with what each means.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use unibus_core::domain::{Role, RoomRole};

/// What a user may do beside using the bus.
#[derive(Debug, Clone, Copy)]
pub(super) struct UserRole(pub(super) Role);

impl ValueEnum for UserRole {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(Role::Admin), Self(Role::User)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            Role::Admin => PossibleValue::new("admin").help("Administers users and rooms"),
            Role::User => PossibleValue::new("user").help("Uses the bus"),
        })
    }
}

/// What a member may do in a room.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberRole(pub(super) RoomRole);

impl ValueEnum for MemberRole {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(RoomRole::Reader), Self(RoomRole::Member), Self(RoomRole::Moderator), Self(RoomRole::Owner)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self.0 {
            RoomRole::Reader => PossibleValue::new("reader").help("Reads"),
            RoomRole::Member => PossibleValue::new("member").help("Reads and writes"),
            RoomRole::Moderator => {
                PossibleValue::new("moderator").help("Invites and removes members and readers as well")
            }
            RoomRole::Owner => PossibleValue::new("owner").help("Decides about the room and everybody in it"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_that_of_the_api() {
        for role in UserRole::value_variants() {
            let word = role.to_possible_value().unwrap();
            assert_eq!(serde_json::to_value(role.0).unwrap(), word.get_name());
        }
        for role in MemberRole::value_variants() {
            let word = role.to_possible_value().unwrap();
            assert_eq!(serde_json::to_value(role.0).unwrap(), word.get_name());
        }
        assert_eq!(MemberRole::value_variants().len(), RoomRole::ALL.len());
    }
}
