//! Why a request was not answered as hoped, and what is known of its effect.

use std::fmt;

use http::StatusCode;
use serde_json::Value;

use super::explain::Explanation;
use super::url::NodeUrl;
use crate::words;
use unibus_api_types::bodies::EndedMembership;
use unibus_api_types::problem::{Kind, NOT_PERMITTED, denial_of};
use unibus_core::clock;
use unibus_core::domain::{Denial, MemberState};
use unibus_http_signature::NONCE_UNKNOWN;

/// A refusal, as a problem document says it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Type of the problem, without what all types have in common.
    pub slug: String,
    /// What the type means, and what it is this time.
    pub what: String,
    /// What was asked: the path, with its query.
    pub target: String,
    /// How the caller's own membership of the room ended, where that is why.
    pub ended: Option<EndedMembership>,
    /// Id of the request in the log of the node.
    pub instance: String,
    /// The node.
    pub node: String,
    status: StatusCode,
    /// What to do about it, where this client knows; none: the node's log tells more.
    remedy: Option<&'static str>,
}

impl Refused {
    pub(super) fn read(node: &NodeUrl, target: &str, status: StatusCode, document: Value) -> Self {
        let text = |field: &str| document.get(field).and_then(Value::as_str).map(str::to_owned);
        let slug = text("type").and_then(|uri| uri.strip_prefix(unibus_api_types::problem::TYPES).map(str::to_owned));
        let title = text("title").unwrap_or_else(|| format!("the answer has status {status}"));
        let more = text("detail").filter(|detail| !detail.eq_ignore_ascii_case(&title));
        // These say nothing that a detail does not say better.
        let is_bare = [NOT_PERMITTED, Kind::NOT_FOUND.title, Kind::CONFLICT.title, Kind::NO_SUCH_USER.title];
        let ended = document.get("membership").cloned();
        Self {
            slug: slug.unwrap_or_else(|| status.as_u16().to_string()),
            what: match more {
                Some(detail) if is_bare.contains(&title.as_str()) => detail,
                Some(detail) => format!("{title}: {detail}"),
                None => title,
            },
            target: target.to_owned(),
            ended: ended.and_then(|ended| serde_json::from_value(ended).ok()),
            instance: text("instance").unwrap_or_default(),
            node: node.to_string(),
            status,
            remedy: None,
        }
    }

    /// The same with what this client knows of it besides.
    pub(super) fn explained(mut self, explanation: Option<Explanation>) -> Self {
        if let Some(Explanation { more, remedy }) = explanation {
            self.what = format!("{}; {more}", self.what);
            self.remedy = Some(remedy);
        }
        self
    }

    /// Whether it was changed since the revision that the request is for.
    pub(super) fn is_stale(&self) -> bool {
        self.slug == Kind::PRECONDITION_FAILED.slug
    }

    /// Whether another node may do what this one did not.
    pub(super) fn elsewhere(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS
    }

    /// Whether it may go better a moment later, although nothing is changed meanwhile.
    pub(super) fn passes(&self) -> bool {
        [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&self.status)
    }

    /// Whether it may have been done all the same. Only nodes that say so have certainly done nothing.
    pub(super) fn leaves_open(&self) -> bool {
        // Without its nonce nothing of a request is done, whatever became of the nonce.
        let certain = [Kind::UNAVAILABLE, Kind::OVERLOADED, Kind::CONTENDED, Kind::RATE_LIMITED];
        self.slug != NONCE_UNKNOWN && certain.iter().all(|kind| kind.slug != self.slug)
    }

    /// The room that the request is about.
    pub fn room(&self) -> Option<&str> {
        self.target.strip_prefix("/v1/rooms/")?.split(['/', '?']).next().filter(|room| !room.is_empty())
    }

    /// Whether there is no room of the name that was asked for.
    pub fn is_no_such_room(&self) -> bool {
        self.denial() == Some(Denial::NoSuchRoom)
    }

    /// What people are told instead of the document; none: the document says it.
    pub(crate) fn words(&self) -> Option<String> {
        if let Some(ended) = &self.ended {
            return Some(how_it_ended(ended, clock::unix_ms()));
        }
        let (denial, room) = (self.denial()?, self.room().unwrap_or("the room"));
        Some(match denial {
            Denial::UnknownKey => "the bus knows no user with the key of this identity".to_owned(),
            Denial::Disabled => "this user is disabled".to_owned(),
            Denial::NotAdmin => "only an admin of the bus may do that".to_owned(),
            Denial::NoSuchRoom => format!("there is no room {room}"),
            Denial::RoomRemoved => format!("the room {room} was removed for good"),
            Denial::NotMember => format!("you are not in {room}"),
            Denial::NotJoined => format!("you are invited to {room}, and have not accepted yet"),
            Denial::NotInvited => format!("you are not invited to {room}"),
            Denial::Banned => format!("you are banned from {room}"),
            Denial::RoleTooLow => format!("your role in {room} does not allow that"),
            _ => return None,
        })
    }

    fn denial(&self) -> Option<Denial> {
        denial_of(&self.slug)
    }

    /// What the caller can do about it.
    pub fn remedy(&self) -> String {
        if let Some(remedy) = self.remedy {
            return remedy.to_owned();
        }
        let room = self.room().unwrap_or("ROOM");
        let again = "ask one of its moderators or owners to invite you";
        if self.slug == Kind::NO_SUCH_USER.slug {
            return "see that the handle is right; an admin lets new people in: membershipd invite new HANDLE"
                .to_owned();
        }
        match (self.denial(), &self.ended) {
            (Some(Denial::NoSuchRoom | Denial::RoomRemoved), _) => {
                "see which rooms you are in: membershipd room list".to_owned()
            }
            (_, Some(EndedMembership { state: MemberState::Banned, .. })) | (Some(Denial::Banned), _) => {
                format!("only a moderator or owner of {room} can lift the ban")
            }
            (Some(Denial::NotMember), Some(_)) => format!("{again} again"),
            (Some(Denial::NotMember | Denial::NotInvited), None) => again.to_owned(),
            (Some(Denial::NotJoined), _) => format!("accept: membershipd member accept {room}"),
            (Some(Denial::RoleTooLow | Denial::Outranked), _) => {
                format!("ask an owner of {room}; your role is in: membershipd room show {room}")
            }
            (Some(Denial::NotAdmin), _) => "ask an admin of the bus".to_owned(),
            (Some(Denial::UnknownKey), _) => {
                "name the identity file that you registered with (--identity), and a node of that bus (--url)"
                    .to_owned()
            }
            (Some(Denial::Disabled), _) => "ask an admin of the bus to enable you again".to_owned(),
            _ if self.status.is_server_error() => {
                format!("try again; if it stays so, tell your operator: request {} at {}", self.instance, self.node)
            }
            _ => format!("if that is no help, ask your operator about request {} at {}", self.instance, self.node),
        }
    }
}

/// How a membership ended, told to whose it was.
fn how_it_ended(EndedMembership { room, state, by, at_ms }: &EndedMembership, now_ms: i64) -> String {
    let day = at_ms.map(|at_ms| format!(" {}", words::day(at_ms, now_ms))).unwrap_or_default();
    let done = if *state == MemberState::Banned { "banned" } else { "removed" };
    match by {
        None => format!("you left {room}{day}"),
        Some(by) => format!("you were {done} from {room} by {by}{day}"),
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().unwrap_or_else(|| self.what.clone()))
    }
}

/// The nodes that were tried, and why each did not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Whether it may have been done by one of them.
    pub(super) open: bool,
    /// Whether another attempt, later, may go better at one of them.
    pub(super) passes: bool,
    nodes: Vec<(String, String)>,
}

impl Tried {
    pub(super) fn note(&mut self, node: &NodeUrl, open: bool, passes: bool, why: String) {
        self.open |= open;
        self.passes |= passes;
        self.nodes.push((node.to_string(), why));
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(|(node, why)| format!("{node}: {why}")).collect();
        f.write_str(&nodes.join("; "))
    }
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A node that can decide has said no; nothing was changed.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// No node could do it; nothing was changed.
    #[error("no node could do it, and nothing was changed: {0}")]
    Nobody(Tried),
    /// It may have been done.
    #[error("it is not known whether it was done: {0}")]
    Unknown(Tried),
    /// A node answered what this client does not understand.
    #[error("the answer is not of the form that is expected: {0}")]
    Form(#[source] serde_json::Error),
}

impl ClientError {
    /// A word for programs: the type of the problem where a node has named one.
    pub fn code(&self) -> &str {
        match self {
            ClientError::Refused(refused) => &refused.slug,
            ClientError::Nobody(_) => Kind::UNAVAILABLE.slug,
            ClientError::Unknown(_) => Kind::UNKNOWN_OUTCOME.slug,
            ClientError::Form(_) => "form",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            ClientError::Refused(refused) => refused.remedy(),
            ClientError::Nobody(_) => {
                "see that --url names nodes of your bus, and name more of them; if it stays so, tell your operator"
                    .to_owned()
            }
            ClientError::Unknown(_) => "run it again: repeating is safe".to_owned(),
            ClientError::Form(_) => "use a membershipd of the release that the nodes run".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(status: u16, slug: &str) -> Refused {
        let node = "https://a:8470".parse().unwrap();
        let problem = json!({ "type": format!("/problems/{slug}"), "title": "T", "detail": "d", "instance": "i" });
        Refused::read(&node, "/v1/rooms/kitchen/history?limit=1", StatusCode::from_u16(status).unwrap(), problem)
    }

    #[test]
    fn a_problem_is_read_and_anything_else_is_named_by_its_status() {
        let read = refused(409, "conflict");
        assert_eq!((read.slug.as_str(), read.to_string().as_str(), read.elsewhere()), ("conflict", "T: d", false));
        let odd = Refused::read(&"https://a".parse().unwrap(), "/v1/me", StatusCode::BAD_GATEWAY, Value::Null);
        assert_eq!((odd.slug.as_str(), odd.elsewhere(), odd.leaves_open()), ("502", true, true));
    }

    #[test]
    fn only_nodes_that_say_so_have_done_nothing() {
        for (status, slug, open) in [
            (503, "unavailable", false),
            (503, "overloaded", false),
            (503, "contended", false),
            (503, "nonce-unknown", false),
            (429, "rate-limited", false),
            (503, "unknown-outcome", true),
            (500, "internal", true),
        ] {
            let refused = refused(status, slug);
            assert_eq!((refused.elsewhere(), refused.leaves_open()), (true, open), "{slug}");
        }
    }
    #[test]
    fn a_member_is_told_in_words_and_never_sent_to_a_log() {
        for (slug, words) in [
            ("no-such-room", "there is no room kitchen"),
            ("not-member", "you are not in kitchen"),
            ("banned", "you are banned from kitchen"),
            ("not-joined", "you are invited to kitchen, and have not accepted yet"),
            ("epoch-taken", "T: d"),
        ] {
            let refused = refused(403, slug);
            assert_eq!(refused.to_string(), words);
            assert!(!refused.remedy().contains(" log"), "{slug}: {}", refused.remedy());
        }
    }

    #[test]
    fn who_was_removed_is_told_by_whom_and_when() {
        let ended = |state: &str, by: Value, at_ms: Value| {
            let ended = json!({ "room": "kitchen", "state": state, "by": by, "at_ms": at_ms });
            how_it_ended(&serde_json::from_value(ended).unwrap(), 90_000_000)
        };
        assert_eq!(ended("removed", json!("root"), Value::Null), "you were removed from kitchen by root");
        assert_eq!(ended("removed", Value::Null, Value::Null), "you left kitchen");
        let banned = ended("banned", json!("root@magnus"), json!(89_999_000));
        assert!(banned.starts_with("you were banned from kitchen by root@magnus today at "), "{banned}");
    }
}
