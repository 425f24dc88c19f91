//! Refusals as problem documents (RFC 9457): the one table of their types, and how each is said.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::blobs::BlobError;
use crate::users::UserError;
use unibus_api_types::bodies::EndedMembership;
use unibus_api_types::problem::{Kind, NOT_PERMITTED, of_denial};
use unibus_core::domain::{Denial, InvalidValue};
use unibus_core::lease::Closed;
use unibus_http_signature::Refusal;
use unibus_store::StoreError;

/// Making problems of their types.
pub(super) trait Refuse {
    /// A problem of this kind with no more to say than its title.
    fn problem(self) -> Problem;

    /// A problem of this kind, and what it is this time.
    fn because(self, detail: impl Into<Cow<'static, str>>) -> Problem;
}

impl Refuse for Kind {
    fn problem(self) -> Problem {
        Problem { kind: self, detail: None, retry_after: None, allow: None, ended: None, cause: None, store: false }
    }

    fn because(self, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { detail: Some(detail.into()), ..self.problem() }
    }
}

/// Every kind that there is, by slug; one that stands in two places stands here once.
pub(super) fn all_kinds() -> Vec<Kind> {
    let signatures = Refusal::SLUGS.iter().copied().map(of_signature);
    let mut all: Vec<Kind> = Kind::OWN.iter().copied().chain(signatures).chain(Kind::DENIALS.iter().copied()).collect();
    all.sort_by_key(|kind| kind.slug);
    all.dedup_by_key(|kind| kind.slug);
    all
}

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    /// For the client: nothing secret, and of the request only what its sender knows.
    pub(super) detail: Option<Cow<'static, str>>,
    /// How long to wait before it is worth trying again, in whole seconds (RFC 9110 section 10.2.3).
    pub(super) retry_after: Option<u32>,
    /// Methods that would do.
    pub(super) allow: Option<Box<str>>,
    /// How the caller's own membership ended, where that is why.
    pub(super) ended: Option<Box<EndedMembership>>,
    /// For the log alone.
    pub(super) cause: Option<Box<str>>,
    /// It is the store's.
    pub(super) store: bool,
}

/// Longest detail, in characters: parsers quote what they were given.
const DETAIL: usize = 300;
/// Pause before trying again what an election or a crowd stands in the way of.
const SOON: Duration = Duration::from_secs(1);

impl Problem {
    /// The same, to be tried again after `pause`.
    pub(super) fn retry_after(self, pause: Duration) -> Self {
        let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
        Self { retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)), ..self }
    }

    /// The same, to be tried again soon.
    pub(super) fn soon(self) -> Self {
        self.retry_after(SOON)
    }

    /// The document of the refusal of the request with the id `instance`.
    pub(super) fn document(&self, instance: &str) -> Vec<u8> {
        let detail = self.detail.as_deref().map(|detail| match detail.char_indices().nth(DETAIL) {
            Some((end, _)) => format!("{}…", detail.get(..end).unwrap_or_default()),
            None => detail.to_owned(),
        });
        let document = ProblemDocument {
            r#type: self.kind.uri(),
            title: self.kind.title.to_owned(),
            status: self.kind.status.as_u16(),
            detail,
            instance: instance.to_owned(),
            membership: self.ended.as_deref().cloned(),
        };
        // A struct of strings and a number: this cannot fail.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// The answer to the request with the id `instance`.
    pub(super) fn into_response(self, instance: &str) -> Response {
        let status = self.kind.status;
        let body = self.document(instance);
        let mut response = (status, body).into_response();
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            fields.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.and_then(|methods| HeaderValue::from_str(&methods).ok()) {
            fields.insert(ALLOW, allow);
        }
        if status == StatusCode::UNAUTHORIZED {
            // 401 must name a scheme (RFC 9110 section 15.5.2), and signatures have none: it is told what to sign as well
            // (RFC 9421 section 5.1).
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Signature realm=\"unibus\""));
            fields.insert("accept-signature", HeaderValue::from_static(ACCEPT_SIGNATURE));
        }
        response
    }
}

const ACCEPT_SIGNATURE: &str = "unibus=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\")\
    ;created;expires;nonce;keyid;tag=\"unibus\"";

/// A problem as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// Type of the problem: one of `ProblemType`.
    r#type: String,
    /// What the type means.
    title: String,
    /// The status of the answer, again.
    status: u16,
    /// What it is this time, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Id of the request, which the log of the node has too.
    instance: String,
    /// How the caller's own membership of the room ended, where that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<EndedMembership>,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem = of_signature(refusal.slug()).because(refusal.to_string());
        match refusal {
            Refusal::NonceUnknown { why } => Self { cause: Some(why.into()), store: true, ..problem.soon() },
            _ => problem,
        }
    }
}

/// The kind of the refusals of signatures with this slug.
fn of_signature(slug: &'static str) -> Kind {
    let (status, title) = match slug {
        "head-too-large" | "signature-field-too-large" => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large")
        }
        "authority-foreign" => (StatusCode::MISDIRECTED_REQUEST, "The request is for another server"),
        "authority-ambiguous" => (StatusCode::BAD_REQUEST, "The request names two servers"),
        "digest-missing" | "digest-malformed" | "digest-algorithm" | "digest-mismatch" => {
            (StatusCode::BAD_REQUEST, "The body's digest is not right")
        }
        "key-unknown" => (StatusCode::UNAUTHORIZED, "No user has this key"),
        "user-disabled" => (StatusCode::FORBIDDEN, NOT_PERMITTED),
        "nonce-unknown" => (StatusCode::SERVICE_UNAVAILABLE, "The nonce could not be spent"),
        _ => (StatusCode::UNAUTHORIZED, "The request is not signed as it must be"),
    };
    Kind { slug, status, title }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        of_denial(denial).because(denial.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = match &error {
            StoreError::Conflict { .. } => {
                Kind::CONFLICT.because("another change was made first; read it again, and decide again")
            }
            StoreError::Unavailable { .. } => {
                Kind::UNAVAILABLE.because("the store does not answer; nothing was changed").soon()
            }
            StoreError::Unknown { .. } => unknown_outcome(),
            StoreError::Refused { .. } | StoreError::Unreadable { .. } | StoreError::Gap { .. } => {
                Kind::INTERNAL.problem()
            }
        };
        Self { cause: Some(error.to_string().into()), store: true, ..problem }
    }
}

pub(super) fn unknown_outcome() -> Problem {
    Kind::UNKNOWN_OUTCOME.because("the change may or may not have been made; send it again: repeating is safe").soon()
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Store(error) => error.into(),
            BlobError::Full { .. } => Kind::STORAGE_FULL.because(error.to_string()),
            BlobError::OtherDigest => Refusal::DigestMismatch.into(),
            BlobError::Damaged { .. } => {
                Self { cause: Some(error.to_string().into()), store: true, ..Kind::INTERNAL.problem() }
            }
        }
    }
}

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        let cause = Some(error.to_string().into());
        match error {
            UserError::NoLease => no_lease(),
            UserError::Missing(_) => Kind::NOT_FOUND.because(error.to_string()),
            UserError::Conflict(why) => Kind::CONFLICT.because(why),
            UserError::Contended(_) => Kind::CONTENDED.because(error.to_string()).soon(),
            UserError::Stale(_) => Kind::PRECONDITION_FAILED.because(error.to_string()),
            UserError::Denied(denial) => denial.into(),
            UserError::Audit(_) => {
                let problem =
                    Kind::UNAVAILABLE.because("the audit log did not take its record; nothing was changed").soon();
                Self { cause, store: true, ..problem }
            }
            UserError::Write(StoreError::Conflict { .. }) => {
                Kind::CONFLICT.because("it keeps being changed; read it again, and decide again")
            }
            UserError::Unknown { .. } | UserError::Write(StoreError::Unknown { .. }) => {
                Self { cause, store: true, ..unknown_outcome() }
            }
            UserError::Write(_) => {
                let problem = Kind::UNAVAILABLE.because("the store did not take it; nothing was changed").soon();
                Self { cause, store: true, ..problem }
            }
        }
    }
}

impl From<Closed> for Problem {
    fn from(_: Closed) -> Self {
        no_lease()
    }
}

/// What is said for as long as this node has no lease.
pub(super) fn no_lease() -> Problem {
    Kind::UNAVAILABLE.because("this node has no proof that its view is current; try again, or ask another node").soon()
}

/// What is said about a value in the path.
pub(super) fn bad_path(error: &InvalidValue) -> Problem {
    Kind::BAD_PATH.because(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::room_keys::KeysError;
    use unibus_core::bus::Bucket;
    use unibus_core::domain::RecordKey;
    use unibus_store::{Operation, Standing};

    #[test]
    fn a_slug_has_one_meaning_and_is_one_word() {
        let mut seen = BTreeMap::new();
        let signatures = Refusal::SLUGS.iter().copied().map(of_signature);
        for kind in Kind::OWN.iter().copied().chain(signatures).chain(Kind::DENIALS.iter().copied()) {
            let word = |c: char| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit();
            assert!(kind.slug.chars().all(word), "{}", kind.slug);
            let status = kind.status;
            assert!(status.is_client_error() || status.is_server_error(), "{}", kind.slug);
            assert_eq!(*seen.entry(kind.slug).or_insert(kind), kind, "{}", kind.slug);
        }
        assert_eq!(seen.len(), all_kinds().len());
    }

    #[test]
    fn what_is_not_known_is_never_called_refused() {
        let write = |error| Problem::from(UserError::Write(error)).kind;
        let (operation, why) = (|| Operation::on("update", Bucket::Users), String::new);
        assert_eq!(write(StoreError::Unknown { operation: operation(), why: why() }), Kind::UNKNOWN_OUTCOME);
        assert_eq!(write(StoreError::Unavailable { operation: operation(), why: why() }), Kind::UNAVAILABLE);
        assert_eq!(write(StoreError::Conflict { operation: operation(), current: Standing::NotSaid }), Kind::CONFLICT);
        assert_eq!(Problem::from(UserError::NoLease).kind, Kind::UNAVAILABLE);
        // Another change held the record until the time was up: to be sent again, not to be decided again.
        let held = || crate::commands::keys::Address::of(&RecordKey::User("bob".parse().unwrap())).unwrap();
        for contended in [UserError::Contended(held()).into(), Problem::from(KeysError::Contended(held()))] {
            assert_eq!((contended.kind, contended.retry_after.is_some()), (Kind::CONTENDED, true));
        }
        let unknown = Problem::from(Refusal::NonceUnknown { why: "no quorum".to_owned() });
        assert_eq!((unknown.kind.slug, unknown.kind.status), ("nonce-unknown", StatusCode::SERVICE_UNAVAILABLE));
        assert!(unknown.store && !unknown.detail.unwrap().contains("quorum"), "why is for the log");
    }

    #[test]
    fn pauses_are_whole_seconds_and_a_401_says_what_to_sign() {
        let limited = Kind::RATE_LIMITED.problem().retry_after(Duration::from_millis(1_001)).into_response("urn:x");
        assert_eq!(limited.headers()["retry-after"], "2");
        assert_eq!(limited.headers()["content-type"], "application/problem+json");
        let unsigned = of_signature("signature-missing").problem().into_response("urn:x");
        assert!(unsigned.headers()["accept-signature"].to_str().unwrap().contains("content-digest"));
        assert!(unsigned.headers().contains_key("www-authenticate"));
    }
}
