//! Rooms: id, policy, state and the record of one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::keep::Keep;
use super::limits::ROOM_ID_BYTES;
use super::schema::Schema;
use super::subject::{Subject, is_token_byte};
use super::user::InvalidValue;

/// Name of a room for ever, chosen by whoever makes it: 1 to 64 of `[a-z0-9_-]`, starting with a letter or digit.
///
/// It is one token of a subject, a part of a key of the store and of a path of the API, in which nothing needs an escape. Two
/// ids never differ in case alone. An id is not given again after its room was removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomId(String);

impl RoomId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomId {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let starts = value.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts && value.len() <= ROOM_ID_BYTES && value.bytes().all(is_token_byte) {
            return Ok(Self(value.to_owned()));
        }
        let rule = "1 to 64 characters of a-z, 0-9, '_' and '-', the first a letter or digit";
        Err(InvalidValue::new("room id", value, rule))
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RoomId> for String {
    fn from(id: RoomId) -> Self {
        id.0
    }
}

impl TryFrom<String> for RoomId {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

/// What holds for the messages of a room. The engine sees neither sealing nor signature: clients hold to these two, and
/// receivers check them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Messages are sealed with the room's key.
    pub encrypt: bool,
    /// Messages are kept, and served to members as history.
    pub persist: bool,
    /// Messages are signed by their sender.
    pub sign: bool,
}

impl Policy {
    /// For people: sealed, kept and signed.
    pub const CONVERSATION: Policy = Policy { encrypt: true, persist: true, sign: true };
    /// Whether it keeps messages that are not signed by their senders. No room begins to above the lowest feature level, since whoever
    /// reads the history could not tell who said what; rooms that did so before go on.
    pub fn keeps_unsigned(self) -> bool {
        self.persist && !self.sign
    }

    /// For telemetry and requests: in clear, gone when delivered, unsigned.
    pub const TELEMETRY: Policy = Policy { encrypt: false, persist: false, sign: false };
}

/// Whether a room is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomState {
    /// In use.
    Active,
    /// Gone for good: the tombstone keeps the id from being used again, and a late grant from landing.
    Removed,
}

/// A room as it stands in the bucket of rooms. Who owns it stands in its memberships.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// How to read this.
    pub schema: Schema<1>,
    /// Id, and the key of the record.
    pub id: RoomId,
    /// Subject of the room. It counts only while the claims of its space name this room for it.
    pub subject: Subject,
    /// What holds for its messages.
    pub policy: Policy,
    /// Whether it persisted before: what was said then is kept for as long as the room is in use, and takes its share of the
    /// disk, whatever the policy says now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// How much of what is said its owners want kept. Release 0.1.0 cannot read it, so it is written from feature level 2 on.
    #[serde(default, skip_serializing_if = "Keep::is_open")]
    pub keep: Keep,
    /// Whether it is in use.
    pub state: RoomState,
    /// Who made it.
    pub created_by: Author,
    /// Who made the last change of this record.
    pub by: Author,
}

impl Room {
    /// A room in use that `by` makes.
    pub fn new(id: RoomId, subject: Subject, policy: Policy, by: Author) -> Self {
        Self {
            schema: Schema,
            id,
            subject,
            policy,
            kept: false,
            keep: Keep::default(),
            state: RoomState::Active,
            created_by: by.clone(),
            by,
        }
    }

    /// The tombstone for a claim whose room was never made: written where there is no record, it keeps a creation that
    /// is still under way from finishing, and the claim can be released.
    pub fn never_made(id: RoomId, subject: Subject, by: Author) -> Self {
        Self { state: RoomState::Removed, ..Self::new(id, subject, Policy::TELEMETRY, by) }
    }

    /// Whether it has a share of the disk for messages.
    pub fn keeps_messages(&self) -> bool {
        self.state == RoomState::Active && (self.policy.persist || self.kept)
    }

    /// Its tombstone.
    pub fn removed(&self, by: Author) -> Self {
        Self { state: RoomState::Removed, by, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_single_tokens_without_surprises() {
        for good in ["a", "0", "kitchen", "0190a3f2-7c1e-7abc-8def-0123456789ab", &"f".repeat(ROOM_ID_BYTES)] {
            assert_eq!(good.parse::<RoomId>().unwrap().as_str(), good);
        }
        let long = "a".repeat(ROOM_ID_BYTES + 1);
        for bad in [
            "",
            ".",
            "..",
            "a.b",
            "*",
            ">",
            "a*",
            "a b",
            " a",
            "a\n",
            "A",
            "-a",
            "_a",
            "$a",
            "a/b",
            "a%2f",
            "é",
            "a\u{202e}",
            &long,
        ] {
            assert!(bad.parse::<RoomId>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<RoomId>(bad.into()).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<RoomId>("18446744073709551616").is_err());
    }

    #[test]
    fn a_room_reads_as_it_was_written() {
        let kitchen = Room::new(
            "kitchen".parse().unwrap(),
            "room.home.kitchen".parse().unwrap(),
            Policy::CONVERSATION,
            "alice".parse().unwrap(),
        );
        let golden = r#"{"schema":1,"id":"kitchen","subject":"room.home.kitchen","policy":{"encrypt":true,"persist":true,"sign":true},"state":"active","created_by":"alice","by":"alice"}"#;
        assert_eq!(serde_json::to_string(&kitchen).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Room>(golden).unwrap(), kitchen);
        let kept = Room { kept: true, ..kitchen.clone() };
        let golden_kept = golden.replace("\"state\"", "\"kept\":true,\"state\"");
        assert_eq!(serde_json::to_string(&kept).unwrap(), golden_kept);
        assert_eq!(serde_json::from_str::<Room>(&golden_kept).unwrap(), kept);
        let chosen = Room { keep: Keep { bytes: Some(5 << 20), days: None }, ..kitchen.clone() };
        let golden_chosen = golden.replace("\"state\"", "\"keep\":{\"bytes\":5242880},\"state\"");
        assert_eq!(serde_json::to_string(&chosen).unwrap(), golden_chosen);
        assert_eq!(serde_json::from_str::<Room>(&golden_chosen).unwrap(), chosen);
        let gone = kitchen.removed("root@magnus".parse().unwrap());
        let golden_gone = golden.replace("active", "removed").replace("\"by\":\"alice\"}", "\"by\":\"root@magnus\"}");
        assert_eq!(serde_json::to_string(&gone).unwrap(), golden_gone);
        assert_eq!(serde_json::from_str::<Room>(&golden_gone).unwrap(), gone);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let policy = r#"{"encrypt":true,"persist":true,"sign":true}"#;
        assert!(serde_json::from_str::<Policy>(policy).is_ok());
        for bad in [
            r#"{"encrypt":true,"persist":true}"#,
            r#"{"encrypt":1,"persist":true,"sign":true}"#,
            r#"{"encrypt":true,"persist":true,"sign":true,"retain":true}"#,
            r#"{"encrypt":true,"encrypt":false,"persist":true,"sign":true}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(bad).is_err(), "{bad}");
        }
        let room = format!(
            r#"{{"schema":1,"id":"a","subject":"room.a","policy":{policy},"state":"active","created_by":"b","by":"b"}}"#
        );
        assert!(serde_json::from_str::<Room>(&room).is_ok());
        for (from, to) in [
            ("\"schema\":1", "\"schema\":2"),
            ("\"schema\":1,", ""),
            ("active", "paused"),
            ("room.a", "room.>"),
            ("\"id\":\"a\"", "\"id\":\"A\""),
            ("\"by\":\"b\"}", "\"by\":\"b\",\"topic\":\"x\"}"),
        ] {
            assert!(serde_json::from_str::<Room>(&room.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
