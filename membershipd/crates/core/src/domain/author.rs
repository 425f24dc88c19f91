//! Who made a change, as records and the audit name them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::subject::is_token_byte;
use super::user::{Handle, InvalidValue};

/// Who made a change: a user by its handle, or root on a node, over the control socket or by a repair, as `root@NODE`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Author {
    /// A user of the bus.
    User(Handle),
    /// Root, on the node of this name.
    Root(NodeName),
}

/// Name of a node in a record: 1 to 32 of `[a-z0-9_-]`. Wider than what a node may be called now, since records outlive rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeName(String);

const ROOT: &str = "root@";

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        if (1..=32).contains(&value.len()) && value.bytes().all(is_token_byte) {
            return Ok(Self(value.to_owned()));
        }
        Err(InvalidValue::new("node name", value, "1 to 32 characters of a-z, 0-9, '_' and '-'"))
    }
}

impl FromStr for Author {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        match value.strip_prefix(ROOT) {
            Some(node) => node.parse().map(Self::Root),
            None => value.parse().map(Self::User),
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Author::User(handle) => handle.fmt(f),
            Author::Root(NodeName(node)) => write!(f, "{ROOT}{node}"),
        }
    }
}

impl From<Author> for String {
    fn from(author: Author) -> Self {
        author.to_string()
    }
}

impl TryFrom<String> for Author {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_root_cannot_be_taken_for_each_other() {
        for good in ["alice", "root", "root@magnus", "root@node-1"] {
            assert_eq!(good.parse::<Author>().unwrap().to_string(), good);
        }
        assert!(matches!("root".parse().unwrap(), Author::User(_)));
        assert!(matches!("root@x".parse().unwrap(), Author::Root(_)));
        for bad in [
            "",
            "@",
            "root@",
            "root@a.b",
            "root@A",
            "alice@magnus",
            "root@ä",
            "root@a@b",
            &format!("root@{}", "a".repeat(33)),
        ] {
            assert!(bad.parse::<Author>().is_err(), "{bad}");
        }
    }
}
