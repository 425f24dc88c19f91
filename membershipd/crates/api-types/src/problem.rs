//! The types of problem documents (RFC 9457), in one table: what the API refuses with and what a client tells apart.

use http::StatusCode;
use unibus_core::domain::Denial;

/// A type of problems. Its slug never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name, for programs.
    pub slug: &'static str,
    /// Status of the answer.
    pub status: StatusCode,
    /// What it means, for people.
    pub title: &'static str,
}

/// What the URIs of all types begin with.
pub const TYPES: &str = "/problems/";

/// Writes the kinds and the list of all of them from one table, so that neither can miss one.
macro_rules! kinds {
    ($($name:ident: $status:ident $slug:literal $title:literal,)+) => {
        impl Kind {
            $(#[doc = $title] pub const $name: Kind = Kind { slug: $slug, status: StatusCode::$status, title: $title };)+

            /// Those that are neither of a denial nor of a signature.
            pub const OWN: &[Kind] = &[$(Kind::$name),+];
        }
    };
}

kinds! {
    NO_REQUEST: BAD_REQUEST "no-request" "That is no HTTP request",
    NOT_FOUND: NOT_FOUND "not-found" "Resource not found",
    METHOD_NOT_ALLOWED: METHOD_NOT_ALLOWED "method-not-allowed" "Method not allowed",
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
    UNAVAILABLE: SERVICE_UNAVAILABLE "unavailable" "Temporarily unavailable",
    UNKNOWN_OUTCOME: SERVICE_UNAVAILABLE "unknown-outcome" "Outcome unknown",
    CONFLICT: CONFLICT "conflict" "Conflicts with current state",
    BAD_SUBJECT: BAD_REQUEST "bad-subject" "That is no subject for a room",
    SUBJECT_WILDCARD: BAD_REQUEST "subject-wildcard" "A room has one subject, and no wildcard in it",
    SUBJECT_RESERVED: BAD_REQUEST "subject-reserved" "The subject is not for rooms",
    SUBJECT_TAKEN: CONFLICT "subject-taken" "The subject is another room's",
    SUBJECT_NESTED: CONFLICT "subject-nested" "The subject lies above or below another room's",
    SPACE_FULL: CONFLICT "space-full" "No more subjects can be claimed in this space",
    ROOM_EXISTS: CONFLICT "room-exists" "There is another room of this name",
    ROOM_IN_CLEAR: FORBIDDEN "room-in-clear" "Rooms have to be encrypted here",
    PERSIST_UNSIGNED: FORBIDDEN "persist-unsigned" "A room that keeps messages has them signed",
    NEEDS_LEVEL: CONFLICT "needs-level" "The cluster is not at the feature level that this needs",
    KEEP_BOUNDS: BAD_REQUEST "keep-bounds" "Owners cannot choose to keep that much, or that little",
    NO_SUCH_USER: NOT_FOUND "no-such-user" "There is no such user",
    USER_INACTIVE: CONFLICT "user-inactive" "The user is not admitted to the bus",
    USER_BANNED: CONFLICT "member-banned" "The user is banned from the room",
    NOT_BANNED: CONFLICT "not-banned" "The user is not banned from the room",
    NOT_PRESENT: CONFLICT "not-present" "The user is neither in the room nor invited",
    ALREADY_JOINED: CONFLICT "already-joined" "The user is in the room already",
    LAST_OWNER: CONFLICT "last-owner" "The room would be without an owner",
    TOO_MANY_ROOMS: CONFLICT "too-many-rooms" "The user is in as many rooms as are allowed",
    QUOTA: CONFLICT "quota" "A user has made as many rooms as are allowed",
    NO_MORE_ROOMS: CONFLICT "no-more-rooms" "There are as many rooms as are allowed",
    TOO_MANY_MEMBERS: CONFLICT "too-many-members" "The room has as many members as are allowed",
    HPKE_KEY: CONFLICT "hpke-key" "The user has another HPKE key",
    NOT_VOUCHED: BAD_REQUEST "not-vouched" "The key is not signed by whose it is to be",
    NO_SUCH_EPOCH: NOT_FOUND "no-such-epoch" "The room has no such key",
    NOT_SEALED: FORBIDDEN "not-sealed" "The key is not sealed for the caller",
    EPOCH_TAKEN: CONFLICT "epoch-taken" "Another member has begun the epoch",
    EPOCH_NOT_NEXT: CONFLICT "epoch-not-next" "There is no epoch before it",
    RECIPIENTS: CONFLICT "recipients-changed" "The key is not sealed for those who are in the room",
    TOO_MANY_PERSISTED: CONFLICT "too-many-persisted" "As many rooms keep messages as are allowed",
    INVITE_REFUSED: FORBIDDEN "invite-refused" "No user can be registered with that",
    INVITE_EXISTS: CONFLICT "invite-exists" "The token is that of another invite",
    INVITE_USED: CONFLICT "invite-used" "The invite was used",
    HANDLE_TAKEN: CONFLICT "handle-taken" "There is or was a user of this name",
    KEY_TAKEN: CONFLICT "key-taken" "The key is or was a user's",
    OVERTAKEN: CONFLICT "overtaken" "A right was taken away meanwhile",
    CONTENDED: SERVICE_UNAVAILABLE "contended" "Too many concurrent updates",
    PRECONDITION_MALFORMED: BAD_REQUEST "precondition-malformed" "The precondition is not valid",
    PRECONDITION_UNSUPPORTED: BAD_REQUEST "precondition-unsupported" "The request takes no such precondition",
    PRECONDITION_FAILED: PRECONDITION_FAILED "precondition-failed" "It was changed in the meantime",
    PRECONDITION_REQUIRED: PRECONDITION_REQUIRED "precondition-required" "The request needs If-Match",
    INTERNAL: INTERNAL_SERVER_ERROR "internal" "Something went wrong in this node",
}

impl Kind {
    /// The URI reference of the type.
    pub fn uri(self) -> String {
        format!("{TYPES}{}", self.slug)
    }
}

/// Title of all types that say no more than that.
pub const NOT_PERMITTED: &str = "That is not permitted";

/// Writes the kind of each denial and the list of all of them from one table.
macro_rules! denials {
    ($($denial:ident: $status:ident $slug:literal $title:expr,)+) => {
        impl Kind {
            /// Those of denials.
            pub const DENIALS: &[Kind] = &[$(Kind { slug: $slug, status: StatusCode::$status, title: $title }),+];
        }

        /// The type of a denial.
        pub fn of_denial(denial: Denial) -> Kind {
            match denial {
                $(Denial::$denial => Kind { slug: $slug, status: StatusCode::$status, title: $title },)+
            }
        }

        /// The denial of the type with this slug; none: it is another type.
        pub fn denial_of(slug: &str) -> Option<Denial> {
            match slug {
                $($slug => Some(Denial::$denial),)+
                _ => None,
            }
        }
    };
}

denials! {
    UnknownKey: UNAUTHORIZED "key-unknown" "No user has this key",
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
pub fn slug_of(denial: Denial) -> &'static str {
    of_denial(denial).slug
}
