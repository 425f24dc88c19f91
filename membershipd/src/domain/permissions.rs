//! Rights of a connection on the bus, as the engine is told them.

use serde::Serialize;

use super::user::Handle;
use crate::faults::Fault;

/// Subjects that one direction of a connection may and may not use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct SubjectList {
    /// What is allowed; the rest is denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What is denied even where `allow` would match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Rights of a connection in both directions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permissions {
    /// What it may publish to.
    #[serde(rename = "pub")]
    pub publish: SubjectList,
    /// What it may subscribe to.
    #[serde(rename = "sub")]
    pub subscribe: SubjectList,
}

/// Spaces of the engine that no client ever touches, whatever else it is allowed: JetStream's API and acknowledgements,
/// buckets, object stores and the system.
const ENGINE_SPACES: [&str; 4] = ["$JS.>", "$KV.>", "$O.>", "$SYS.>"];
/// Spaces in which the daemon tells its users something; clients only listen.
const TELLING_SPACES: [&str; 2] = ["unibus.user.>", "unibus.event.>"];

impl Permissions {
    /// Rights of a user: its own inbox both ways, and what the daemon tells it.
    pub fn of(handle: &Handle) -> Self {
        let inbox = format!("_INBOX.{handle}.>");
        Self {
            publish: Self::closed(vec![inbox.clone()], &TELLING_SPACES),
            subscribe: Self::closed(vec![inbox, format!("unibus.user.{handle}.>")], &[]),
        }
    }

    /// Rights of anybody on a bus without authentication: everything but the engine's own spaces.
    pub fn unauthenticated() -> Self {
        Self { publish: Self::closed(vec![">".to_owned()], &[]), subscribe: Self::closed(vec![">".to_owned()], &[]) }
    }

    // The engine takes an empty block for 'no restriction', so whoever may do nothing must be denied everything.
    fn closed(allow: Vec<String>, deny: &[&str]) -> SubjectList {
        if Fault::NoExplicitDeny.active() {
            return SubjectList::default();
        }
        if allow.is_empty() {
            return SubjectList { allow, deny: vec![">".to_owned()] };
        }
        let deny = ENGINE_SPACES.iter().chain(deny).map(|space| (*space).to_owned()).collect();
        SubjectList { allow, deny }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_allowed_is_everything_denied() {
        assert_eq!(Permissions::closed(vec![], &[]).deny, [">"]);
    }

    #[test]
    fn every_block_denies_the_engine_spaces() {
        for rights in [Permissions::of(&"alice".parse().unwrap()), Permissions::unauthenticated()] {
            for list in [rights.publish, rights.subscribe] {
                assert!(ENGINE_SPACES.iter().all(|space| list.deny.iter().any(|d| d == space)));
                assert!(!list.allow.is_empty());
            }
        }
    }
}
