//! Why a request was not answered as hoped, and what is known of its effect.

use std::fmt;

use http::StatusCode;
use serde_json::Value;

use super::explain::Explanation;
use super::url::NodeUrl;
use unibus_api_types::problem::Kind;
use unibus_http_signature::NONCE_UNKNOWN;

/// A refusal, as a problem document says it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Type of the problem, without what all types have in common.
    pub slug: String,
    /// What the type means, and what it is this time.
    pub what: String,
    /// Id of the request in the log of the node.
    pub instance: String,
    /// The node.
    pub node: String,
    status: StatusCode,
    /// What to do about it, where this client knows; none: the node's log tells more.
    remedy: Option<&'static str>,
}

impl Refused {
    pub(super) fn read(node: &NodeUrl, status: StatusCode, document: Value) -> Self {
        let text = |field: &str| document.get(field).and_then(Value::as_str).map(str::to_owned);
        let slug = text("type").and_then(|uri| uri.strip_prefix(unibus_api_types::problem::TYPES).map(str::to_owned));
        let title = text("title").unwrap_or_else(|| format!("the answer has status {status}"));
        let more = text("detail").filter(|detail| !detail.eq_ignore_ascii_case(&title));
        Self {
            slug: slug.unwrap_or_else(|| status.as_u16().to_string()),
            what: more.map(|detail| format!("{title}: {detail}")).unwrap_or(title),
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

    /// Whether it may have been done all the same. Only nodes that say so have certainly done nothing.
    pub(super) fn leaves_open(&self) -> bool {
        // Without its nonce nothing of a request is done, whatever became of the nonce.
        let certain = [Kind::UNAVAILABLE, Kind::OVERLOADED, Kind::CONTENDED, Kind::RATE_LIMITED];
        self.slug != NONCE_UNKNOWN && certain.iter().all(|kind| kind.slug != self.slug)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The nodes that were tried, and why each did not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Whether it may have been done by one of them.
    pub(super) open: bool,
    nodes: Vec<(String, String)>,
}

impl Tried {
    pub(super) fn note(&mut self, node: &NodeUrl, open: bool, why: String) {
        self.open |= open;
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
    #[error("nobody knows whether it was done: {0}")]
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
            ClientError::Refused(refused) => refused.remedy.map_or_else(
                || format!("see the log of {} about request {}", refused.node, refused.instance),
                str::to_owned,
            ),
            ClientError::Nobody(_) => "try again; see 'cargo xtask verify'; name more nodes with --url".to_owned(),
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
        Refused::read(&node, StatusCode::from_u16(status).unwrap(), problem)
    }

    #[test]
    fn a_problem_is_read_and_anything_else_is_named_by_its_status() {
        let read = refused(409, "conflict");
        assert_eq!((read.slug.as_str(), read.to_string().as_str(), read.elsewhere()), ("conflict", "T: d", false));
        let odd = Refused::read(&"https://a".parse().unwrap(), StatusCode::BAD_GATEWAY, Value::Null);
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
}
