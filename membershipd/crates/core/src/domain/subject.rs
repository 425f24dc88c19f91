//! The subjects that rooms claim: a space and tokens below it, never a wildcard.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::limits::{SUBJECT_BYTES, SUBJECT_TOKENS};
use super::user::InvalidValue;

/// The first token of a room's subject: what the room is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// Telemetry of processes.
    Proc,
    /// Requests and their replies.
    Rpc,
    /// Conversations.
    Room,
    /// What an agent says and is told.
    Agent,
}

impl Space {
    /// All of them.
    pub const ALL: [Space; 4] = [Space::Proc, Space::Rpc, Space::Room, Space::Agent];

    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Space::Proc => "proc",
            Space::Rpc => "rpc",
            Space::Room => "room",
            Space::Agent => "agent",
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Subject that a room claims, such as `room.kitchen`: a space and one to seven more tokens of `[a-z0-9_-]`, at most
/// `SUBJECT_BYTES` in all. Everything below it belongs to the room too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject {
    text: String,
    space: Space,
}

const RULE: &str = "'proc', 'rpc', 'room' or 'agent' and 1 to 7 more tokens of a-z, 0-9, '_' and '-', separated by dots, \
                    100 characters at most";

impl Subject {
    /// The subject as the engine knows it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The space in which it is.
    pub fn space(&self) -> Space {
        self.space
    }

    /// Whether one of the two is the other one or lies below it, so that two rooms cannot have both.
    pub fn overlaps(&self, other: &Subject) -> bool {
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        below(&self.text, &other.text) || below(&other.text, &self.text)
    }

    /// Its ancestors and itself, the shortest first.
    pub(super) fn lineage(&self) -> impl Iterator<Item = &str> {
        let dots = self.text.match_indices('.').map(|(at, _)| at);
        dots.chain([self.text.len()]).filter_map(|end| self.text.get(..end))
    }
}

// `Borrow` demands that order and hash are those of the text; the order is, as the space follows from the text.
impl Borrow<str> for Subject {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl Hash for Subject {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl FromStr for Subject {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("subject", value, RULE);
        let token = |token: &str| !token.is_empty() && token.bytes().all(is_token_byte);
        let mut tokens = value.split('.');
        let space = Space::ALL.into_iter().find(|space| Some(space.as_str()) == value.split('.').next());
        let below = value.split('.').count().saturating_sub(1);
        let ok = value.len() <= SUBJECT_BYTES && (1..SUBJECT_TOKENS).contains(&below) && tokens.all(token);
        space.filter(|_| ok).map(|space| Self { text: value.to_owned(), space }).ok_or_else(refused)
    }
}

/// Whether a byte may stand in a token of a subject that clients name.
pub(super) fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.text
    }
}

impl TryFrom<String> for Subject {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    #[test]
    fn a_space_and_plain_tokens_and_nothing_else() {
        let longest = format!("room.{}", "a".repeat(SUBJECT_BYTES - 5));
        for good in ["room.a", "proc.web-1.cpu", "rpc._x.-", "agent.0", "room.a.b.c.d.e.f.g", &longest] {
            let parsed: Subject = good.parse().unwrap();
            assert_eq!(parsed.as_str(), good);
            assert!(good.starts_with(parsed.space().as_str()));
        }
        let too_long = format!("{longest}a");
        let bad = [
            "",
            ".",
            "room",
            "room.",
            ".room",
            "room..a",
            ".room.a",
            "room.a.",
            "rooms.a",
            "Room.a",
            "room.A",
            "room.*",
            "room.>",
            "*.a",
            ">",
            "room.a b",
            " room.a",
            "room.a ",
            "room.a\t",
            "room.a\n",
            "room.a\0",
            "room.ä",
            "room.а",
            "$SYS.a",
            "$JS.API.INFO",
            "_INBOX.a",
            "unibus.event.a",
            "room.$x",
            "room.a/b",
            "room.a.b.c.d.e.f.g.h",
            &too_long,
        ];
        for bad in bad {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<Subject>(bad.into()).is_err(), "{bad:?}");
        }
        for bad in ["1", "null", "[\"room.a\"]", "{}", "1e999"] {
            assert!(serde_json::from_str::<Subject>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_a_flood() {
        let error = "x.".repeat(1 << 20).parse::<Subject>().unwrap_err();
        assert!(error.to_string().len() < 400, "{}", error.to_string().len());
        assert!("ä".repeat(1 << 10).parse::<Subject>().unwrap_err().value.chars().count() < 100);
    }

    #[test]
    fn overlap_is_by_tokens_and_symmetric() {
        for (a, b, both) in [
            ("room.a", "room.a", true),
            ("room.a", "room.a.b", true),
            ("room.a", "room.a.b.c", true),
            ("room.a", "room.ab", false),
            ("room.a", "room.a-b", false),
            ("room.a.b", "room.a.c", false),
            ("room.a", "rpc.a", false),
        ] {
            assert_eq!(subject(a).overlaps(&subject(b)), both, "{a} {b}");
            assert_eq!(subject(b).overlaps(&subject(a)), both, "{b} {a}");
        }
    }

    #[test]
    fn a_lineage_begins_with_the_space_and_ends_with_itself() {
        assert_eq!(subject("room.a.b").lineage().collect::<Vec<_>>(), ["room", "room.a", "room.a.b"]);
    }
}
