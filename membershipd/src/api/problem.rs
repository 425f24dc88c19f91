//! Refusals as problem documents (RFC 9457): the one table of their types, and how each is said.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::blobs::BlobError;
use crate::domain::{Denial, InvalidValue};
use crate::lease::Closed;
use crate::signature::Refusal;
use crate::store::StoreError;
use crate::users::UserError;

/// A type of problems. Its slug never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) slug: &'static str,
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
}

/// What the URIs of all types begin with.
pub(crate) const TYPES: &str = "/problems/";

/// Writes the kinds and the list of all of them from one table, so that neither can miss one.
macro_rules! kinds {
    ($($name:ident: $status:ident $slug:literal $title:literal,)+) => {
        $(pub(crate) const $name: Kind = Kind { slug: $slug, status: StatusCode::$status, title: $title };)+
        const OWN: &[Kind] = &[$($name),+];
    };
}

kinds! {
    NOT_FOUND: NOT_FOUND "not-found" "There is no such thing",
    METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED "method-not-allowed" "That cannot be done to it",
    BAD_PATH: BAD_REQUEST "bad-path" "A part of the path is not valid",
    BAD_QUERY: BAD_REQUEST "bad-query" "The query is not valid",
    BAD_JSON: BAD_REQUEST "bad-json" "The body is not the JSON that is expected",
    MEDIA_TYPE: UNSUPPORTED_MEDIA_TYPE "media-type" "The body is not said to be of the type that is taken",
    BODY_UNEXPECTED: BAD_REQUEST "body-unexpected" "The request takes no body",
    BODY_BROKEN: BAD_REQUEST "body-broken" "The body did not arrive whole",
    LENGTH_REQUIRED: LENGTH_REQUIRED "length-required" "The request does not say how long its body is",
    OTHER_DIGEST: BAD_REQUEST "other-digest" "The body is not what the path names",
    NO_SUCH_BLOB: NOT_FOUND "no-such-blob" "The room has no such attachment",
    STORAGE_FULL: INSUFFICIENT_STORAGE "storage-full" "Attachments take as much of the disk as they may",
    TOO_LARGE: PAYLOAD_TOO_LARGE "too-large" "The body is too large",
    TOO_SLOW: REQUEST_TIMEOUT "too-slow" "The body took too long",
    FORWARDED: BAD_REQUEST "forwarded-malformed" "The proxy does not say whose request it is",
    RATE_LIMITED: TOO_MANY_REQUESTS "rate-limited" "Too many requests",
    OVERLOADED: SERVICE_UNAVAILABLE "overloaded" "This node has too much to do",
    UNAVAILABLE: SERVICE_UNAVAILABLE "unavailable" "This node cannot do that now",
    UNKNOWN_OUTCOME: SERVICE_UNAVAILABLE "unknown-outcome" "Nobody knows whether it was done",
    CONFLICT: CONFLICT "conflict" "It contradicts what is there",
    BAD_SUBJECT: BAD_REQUEST "bad-subject" "That is no subject for a room",
    SUBJECT_WILDCARD: BAD_REQUEST "subject-wildcard" "A room has one subject, and no wildcard in it",
    SUBJECT_RESERVED: BAD_REQUEST "subject-reserved" "The subject is not for rooms",
    SUBJECT_TAKEN: CONFLICT "subject-taken" "The subject is another room's",
    SUBJECT_NESTED: CONFLICT "subject-nested" "The subject lies above or below another room's",
    SPACE_FULL: CONFLICT "space-full" "No more subjects can be claimed in this space",
    ROOM_EXISTS: CONFLICT "room-exists" "There is another room of this name",
    ROOM_IN_CLEAR: FORBIDDEN "room-in-clear" "Rooms have to be encrypted here",
    NO_SUCH_USER: NOT_FOUND "no-such-user" "There is no such user",
    USER_INACTIVE: CONFLICT "user-inactive" "The user is not admitted to the bus",
    USER_BANNED: CONFLICT "member-banned" "The user is banned from the room",
    NOT_BANNED: CONFLICT "not-banned" "The user is not banned from the room",
    NOT_PRESENT: CONFLICT "not-present" "The user is neither in the room nor invited",
    ALREADY_JOINED: CONFLICT "already-joined" "The user is in the room already",
    LAST_OWNER: CONFLICT "last-owner" "The room would be without an owner",
    TOO_MANY_ROOMS: CONFLICT "too-many-rooms" "The user is in as many rooms as are allowed",
    TOO_MANY_MEMBERS: CONFLICT "too-many-members" "The room has as many members as are allowed",
    HPKE_KEY: CONFLICT "hpke-key" "The user has another HPKE key",
    NOT_VOUCHED: BAD_REQUEST "not-vouched" "The key is not signed by whose it is to be",
    NO_SUCH_EPOCH: NOT_FOUND "no-such-epoch" "The room has no such key",
    NOT_SEALED: FORBIDDEN "not-sealed" "The key is not sealed for the caller",
    EPOCH_TAKEN: CONFLICT "epoch-taken" "The epoch was begun by somebody else",
    EPOCH_NOT_NEXT: CONFLICT "epoch-not-next" "There is no epoch before it",
    RECIPIENTS: CONFLICT "recipients-changed" "The key is not sealed for those who are in the room",
    TOO_MANY_PERSISTED: CONFLICT "too-many-persisted" "As many rooms keep messages as are allowed",
    INVITE_REFUSED: FORBIDDEN "invite-refused" "Nobody can register with that",
    INVITE_EXISTS: CONFLICT "invite-exists" "The token is that of another invite",
    INVITE_USED: CONFLICT "invite-used" "Somebody has registered with the invite",
    HANDLE_TAKEN: CONFLICT "handle-taken" "There is or was a user of this name",
    KEY_TAKEN: CONFLICT "key-taken" "The key is or was somebody's",
    OVERTAKEN: CONFLICT "overtaken" "Somebody else took a right away meanwhile",
    CONTENDED: SERVICE_UNAVAILABLE "contended" "Others were always faster",
    PRECONDITION_MALFORMED: BAD_REQUEST "precondition-malformed" "The precondition is not valid",
    PRECONDITION_UNSUPPORTED: BAD_REQUEST "precondition-unsupported" "The request takes no such precondition",
    PRECONDITION_FAILED: PRECONDITION_FAILED "precondition-failed" "It was changed in the meantime",
    PRECONDITION_REQUIRED: PRECONDITION_REQUIRED "precondition-required" "The request needs If-Match",
    INTERNAL: INTERNAL_SERVER_ERROR "internal" "Something went wrong in this node",
}

impl Kind {
    /// A problem of this kind with no more to say than its title.
    pub(super) fn problem(self) -> Problem {
        Problem { kind: self, detail: None, retry_after: None, allow: None, cause: None, store: false }
    }

    /// A problem of this kind, and what it is this time.
    pub(super) fn because(self, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { detail: Some(detail.into()), ..self.problem() }
    }

    /// The URI reference of the type.
    pub(super) fn uri(self) -> String {
        format!("{TYPES}{}", self.slug)
    }

    /// Every kind that there is, by slug; one that stands in two places stands here once.
    pub(super) fn all() -> Vec<Kind> {
        let signatures = Refusal::SLUGS.iter().copied().map(of_signature);
        let mut all: Vec<Kind> = OWN.iter().copied().chain(signatures).chain(DENIALS.iter().copied()).collect();
        all.sort_by_key(|kind| kind.slug);
        all.dedup_by_key(|kind| kind.slug);
        all
    }
}

const NOT_PERMITTED: &str = "That is not permitted";

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    /// For the client: nothing secret, and of the request only what its sender knows.
    pub(super) detail: Option<Cow<'static, str>>,
    /// How long to wait before it is worth trying again.
    pub(super) retry_after: Option<Duration>,
    /// Methods that would do.
    pub(super) allow: Option<Box<str>>,
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
        Self { retry_after: Some(pause), ..self }
    }

    /// The same, to be tried again soon.
    pub(super) fn soon(self) -> Self {
        self.retry_after(SOON)
    }

    /// The answer to the request with the id `instance`.
    pub(super) fn into_response(self, instance: &str) -> Response {
        let Kind { status, title, .. } = self.kind;
        let detail = self.detail.map(|detail| match detail.char_indices().nth(DETAIL) {
            Some((end, _)) => Cow::Owned(format!("{}…", detail.get(..end).unwrap_or_default())),
            None => detail,
        });
        let document = ProblemDocument {
            r#type: self.kind.uri(),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.map(Cow::into_owned),
            instance: instance.to_owned(),
        };
        // A struct of strings and a number: this cannot fail.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = (status, body).into_response();
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(pause) = self.retry_after {
            // Whole seconds, rounded up (RFC 9110 section 10.2.3).
            let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
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
        "key-unknown" => (StatusCode::UNAUTHORIZED, "Nobody has this key"),
        "user-disabled" => (StatusCode::FORBIDDEN, NOT_PERMITTED),
        "nonce-unknown" => (StatusCode::SERVICE_UNAVAILABLE, "The nonce could not be spent"),
        _ => (StatusCode::UNAUTHORIZED, "The request is not signed as it must be"),
    };
    Kind { slug, status, title }
}

/// Writes the kind of each denial and the list of all of them from one table.
macro_rules! denials {
    ($($denial:ident: $status:ident $slug:literal $title:expr,)+) => {
        const DENIALS: &[Kind] = &[$(Kind { slug: $slug, status: StatusCode::$status, title: $title }),+];

        fn of_denial(denial: Denial) -> Kind {
            match denial {
                $(Denial::$denial => Kind { slug: $slug, status: StatusCode::$status, title: $title },)+
            }
        }
    };
}

denials! {
    UnknownKey: UNAUTHORIZED "key-unknown" "Nobody has this key",
    Disabled: FORBIDDEN "user-disabled" NOT_PERMITTED,
    Removed: FORBIDDEN "user-removed" NOT_PERMITTED,
    NotAdmin: FORBIDDEN "not-admin" NOT_PERMITTED,
    NoSuchRoom: NOT_FOUND "no-such-room" "There is no such room",
    RoomRemoved: GONE "room-removed" "The room was removed",
    NotMember: FORBIDDEN "not-member" NOT_PERMITTED,
    NotJoined: FORBIDDEN "not-joined" NOT_PERMITTED,
    NotInvited: FORBIDDEN "not-invited" NOT_PERMITTED,
    Banned: FORBIDDEN "banned" NOT_PERMITTED,
    RoleTooLow: FORBIDDEN "role-too-low" NOT_PERMITTED,
    Outranked: FORBIDDEN "outranked" NOT_PERMITTED,
    NotOneself: FORBIDDEN "not-oneself" NOT_PERMITTED,
    Oneself: FORBIDDEN "oneself" NOT_PERMITTED,
    NotItsSubject: FORBIDDEN "not-its-subject" NOT_PERMITTED,
    NotPersisted: FORBIDDEN "not-persisted" NOT_PERMITTED,
    NotEncrypted: FORBIDDEN "not-encrypted" NOT_PERMITTED,
    MustEncrypt: FORBIDDEN "must-encrypt" NOT_PERMITTED,
    MustSign: FORBIDDEN "must-sign" NOT_PERMITTED,
    NotRpc: FORBIDDEN "not-rpc" NOT_PERMITTED,
    NotApplicable: FORBIDDEN "not-applicable" NOT_PERMITTED,
}

/// What the type of a denial is called.
pub(crate) fn slug_of(denial: Denial) -> &'static str {
    of_denial(denial).slug
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        of_denial(denial).because(denial.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = match &error {
            StoreError::Conflict { .. } => CONFLICT.because("somebody else was faster; read again, and decide anew"),
            StoreError::Unavailable { .. } => {
                UNAVAILABLE.because("the store does not answer; nothing was changed").soon()
            }
            StoreError::Unknown { .. } => unknown_outcome(),
            StoreError::Refused { .. } | StoreError::Unreadable { .. } | StoreError::Gap { .. } => INTERNAL.problem(),
        };
        Self { cause: Some(error.to_string().into()), store: true, ..problem }
    }
}

pub(super) fn unknown_outcome() -> Problem {
    UNKNOWN_OUTCOME.because("the change may or may not have been made; send it again: repeating is safe").soon()
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Store(error) => error.into(),
            BlobError::Full { .. } => STORAGE_FULL.because(error.to_string()),
            BlobError::OtherDigest => Refusal::DigestMismatch.into(),
            BlobError::Damaged { .. } => {
                Self { cause: Some(error.to_string().into()), store: true, ..INTERNAL.problem() }
            }
        }
    }
}

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        let cause = Some(error.to_string().into());
        match error {
            UserError::NoLease => no_lease(),
            UserError::Denied(denial) => denial.into(),
            UserError::Missing(_) => NOT_FOUND.because(error.to_string()),
            UserError::Conflict(why) => CONFLICT.because(why),
            UserError::Stale(_) => PRECONDITION_FAILED.because(error.to_string()),
            UserError::Audit(_) => {
                let problem = UNAVAILABLE.because("the audit log did not take its record; nothing was changed").soon();
                Self { cause, store: true, ..problem }
            }
            UserError::Write(StoreError::Conflict { .. }) => {
                CONFLICT.because("others keep changing it; read again, and decide anew")
            }
            UserError::Unknown { .. } | UserError::Write(StoreError::Unknown { .. }) => {
                Self { cause, store: true, ..unknown_outcome() }
            }
            UserError::Write(_) => {
                let problem = UNAVAILABLE.because("the store did not take it; nothing was changed").soon();
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
    UNAVAILABLE.because("this node has no proof that its view is current; try again, or ask another node").soon()
}

/// What is said about a value in the path.
pub(super) fn bad_path(error: &InvalidValue) -> Problem {
    BAD_PATH.because(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bus::Bucket;
    use crate::store::{Operation, Standing};

    #[test]
    fn a_slug_has_one_meaning_and_is_one_word() {
        let mut seen = BTreeMap::new();
        let signatures = Refusal::SLUGS.iter().copied().map(of_signature);
        for kind in OWN.iter().copied().chain(signatures).chain(DENIALS.iter().copied()) {
            let word = |c: char| c.is_ascii_lowercase() || c == '-' || c.is_ascii_digit();
            assert!(kind.slug.chars().all(word), "{}", kind.slug);
            let status = kind.status;
            assert!(status.is_client_error() || status.is_server_error(), "{}", kind.slug);
            assert_eq!(*seen.entry(kind.slug).or_insert(kind), kind, "{}", kind.slug);
        }
        assert_eq!(seen.len(), Kind::all().len());
    }

    #[test]
    fn what_is_not_known_is_never_called_refused() {
        let write = |error| Problem::from(UserError::Write(error)).kind;
        let (operation, why) = (|| Operation::on("update", Bucket::Users), String::new);
        assert_eq!(write(StoreError::Unknown { operation: operation(), why: why() }), UNKNOWN_OUTCOME);
        assert_eq!(write(StoreError::Unavailable { operation: operation(), why: why() }), UNAVAILABLE);
        assert_eq!(write(StoreError::Conflict { operation: operation(), current: Standing::NotSaid }), CONFLICT);
        assert_eq!(Problem::from(UserError::NoLease).kind, UNAVAILABLE);
        let unknown = Problem::from(Refusal::NonceUnknown { why: "no quorum".to_owned() });
        assert_eq!((unknown.kind.slug, unknown.kind.status), ("nonce-unknown", StatusCode::SERVICE_UNAVAILABLE));
        assert!(unknown.store && !unknown.detail.unwrap().contains("quorum"), "why is for the log");
    }

    #[test]
    fn pauses_are_whole_seconds_and_a_401_says_what_to_sign() {
        let limited = RATE_LIMITED.problem().retry_after(Duration::from_millis(1_001)).into_response("urn:x");
        assert_eq!(limited.headers()["retry-after"], "2");
        assert_eq!(limited.headers()["content-type"], "application/problem+json");
        let unsigned = of_signature("signature-missing").problem().into_response("urn:x");
        assert!(unsigned.headers()["accept-signature"].to_str().unwrap().contains("content-digest"));
        assert!(unsigned.headers().contains_key("www-authenticate"));
    }
}
