//! What `membershipd load --json` wrote down: operations and events, read line by line.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const SCHEMA: u64 = 4;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Write,
    Read,
    Connect,
    Message,
    Disable,
    VictimMessage,
    VictimConnect,
    MakeRoom,
    Join,
    Removal,
    MemberPublish,
    MemberReceive,
    MemberRead,
    ApiWrite,
    ApiRead,
    Say,
    Rotate,
    ReadHistory,
}

impl Kind {
    /// What goes on all the time, so that every window must have some of it.
    pub(crate) const STEADY: [Self; 4] = [Self::Write, Self::Connect, Self::Message, Self::ApiWrite];
    /// What nobody stands in the way of: where several write one record, only one of them can be first.
    pub(crate) const UNCONTESTED: [Self; 3] = [Self::Write, Self::Connect, Self::Message];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Connect => "connect",
            Self::Message => "message",
            Self::Disable => "disable",
            Self::VictimMessage => "victim_message",
            Self::VictimConnect => "victim_connect",
            Self::MakeRoom => "make_room",
            Self::Join => "join",
            Self::Removal => "removal",
            Self::MemberPublish => "member_publish",
            Self::MemberReceive => "member_receive",
            Self::MemberRead => "member_read",
            Self::ApiWrite => "api_write",
            Self::ApiRead => "api_read",
            Self::Say => "say",
            Self::Rotate => "rotate",
            Self::ReadHistory => "read_history",
        })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Acknowledged.
    Ok,
    /// It certainly did not happen.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One operation.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Op {
    pub(crate) op: u64,
    pub(crate) kind: Kind,
    /// The register, the user, the room, or `room/user`.
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    /// The revision that a write replaces.
    pub(crate) expected: Option<u64>,
    /// The revision that was written or read.
    pub(crate) revision: Option<u64>,
    /// Who acknowledged.
    pub(crate) node: Option<String>,
    /// Which nodes were tried.
    #[serde(default)]
    pub(crate) tried: Vec<String>,
    pub(crate) begin_us: u64,
    pub(crate) end_us: u64,
    pub(crate) outcome: Outcome,
    pub(crate) why: Option<String>,
    /// A word for that. A history of an older load has none.
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// What a member found in the history of a room, in its order.
    #[serde(default)]
    pub(crate) found: Vec<Found>,
}

/// What is at one place of a room's history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Found {
    pub(crate) seq: u64,
    #[serde(flatten)]
    pub(crate) what: Content,
}

/// What there can be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// Something that somebody said.
    Said { by: String, text: String },
    /// What was there at an earlier place already, as the client says it.
    Doubled(String),
    /// Something that the client does not show, and why.
    Refused(String),
}

impl Op {
    /// Whether it is one of several writes of one record of which another one came first, as it must be.
    pub(crate) fn is_expected_conflict(&self) -> bool {
        self.kind == Kind::ApiWrite
            && self.outcome == Outcome::Refused
            && self.expected.is_some()
            && matches!(self.code.as_deref(), Some("precondition-failed" | "conflict"))
    }

    /// Whether it was acknowledged.
    pub(crate) fn ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }
}

/// How far the load is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Event {
    pub(crate) event: String,
    pub(crate) at_us: u64,
    pub(crate) detail: Option<String>,
    /// With the last one: how many operations there were.
    pub(crate) ops: Option<u64>,
}

/// All of it, as far as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) ops: Vec<Op>,
    pub(crate) events: Vec<Event>,
}

impl History {
    /// Takes one line.
    pub(crate) fn push(&mut self, line: &str) -> Result<()> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("not a line of a history: {line}"))?;
        match value.get("schema").and_then(Value::as_u64) {
            Some(SCHEMA) => {}
            other => bail!("a history of schema {other:?}, this xtask knows {SCHEMA}: use binaries of one release"),
        }
        if value.get("event").is_some() {
            self.events.push(serde_json::from_value(value).context("an event that is not understood")?);
        } else {
            let op = serde_json::from_value(value).with_context(|| format!("not an operation: {line}"))?;
            self.ops.push(op);
        }
        Ok(())
    }

    /// The event of that name, if it has come.
    pub(crate) fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.event == name)
    }

    /// How many events of that name have come.
    pub(crate) fn events_named(&self, name: &str) -> usize {
        self.events.iter().filter(|event| event.event == name).count()
    }

    /// What is missing of it, in words; none when it is whole.
    pub(crate) fn missing(&self) -> Option<String> {
        let Some(total) = self.event("end").and_then(|end| end.ops) else {
            return Some("it has no end: the load was cut off".to_owned());
        };
        let mut numbers: Vec<u64> = self.ops.iter().map(|op| op.op).collect();
        numbers.sort_unstable();
        let wrong = (0..total).zip(&numbers).find(|(expected, found)| expected != *found);
        if let Some((expected, _)) = wrong {
            return Some(format!("operation {expected} is missing, or another is there twice"));
        }
        let found = u64::try_from(numbers.len()).unwrap_or(u64::MAX);
        (found != total).then(|| format!("it has {found} operations of {total}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u64) -> String {
        format!(
            r#"{{"schema":{SCHEMA},"op":{number},"kind":"write","tried":[],"begin_us":1,"end_us":2,"outcome":"ok"}}"#
        )
    }

    fn history(lines: &[String]) -> History {
        let mut history = History::default();
        for line in lines {
            history.push(line).unwrap();
        }
        history
    }

    #[test]
    fn a_whole_history_has_every_number_and_an_end() {
        let end = format!(r#"{{"schema":{SCHEMA},"event":"end","at_us":9,"ops":2}}"#);
        assert_eq!(history(&[op(1), op(0), end.clone()]).missing(), None);
        assert!(history(&[op(0), op(1)]).missing().unwrap().contains("no end"));
        assert!(history(&[op(0), end.clone()]).missing().unwrap().contains("1 operations of 2"));
        assert!(history(&[op(0), op(0), end.clone()]).missing().unwrap().contains("operation 1"));
        assert!(history(&[op(0), op(2), end]).missing().unwrap().contains("operation 1"));
    }

    #[test]
    fn what_a_member_found_is_read_as_the_load_writes_it() {
        let found =
            r#""found":[{"seq":1,"said":{"by":"a","text":"x"}},{"seq":2,"doubled":"w"},{"seq":3,"refused":"w"}]}"#;
        let read = history(&[op(0).replace('}', &format!(",{found}"))]);
        let said = Content::Said { by: "a".to_owned(), text: "x".to_owned() };
        let expected = [(1, said), (2, Content::Doubled("w".to_owned())), (3, Content::Refused("w".to_owned()))];
        assert_eq!(read.ops[0].found, expected.map(|(seq, what)| Found { seq, what }));
    }

    #[test]
    fn a_line_of_another_kind_is_refused() {
        let mut history = History::default();
        assert!(history.push("nonsense").is_err());
        assert!(history.push(&op(0).replace(&format!("\"schema\":{SCHEMA}"), "\"schema\":2")).is_err());
        assert!(history.push(&op(0).replace("write", "wreck")).is_err());
    }
}
