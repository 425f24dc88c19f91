//! The forms of texts and numbers in bodies, paths and queries, as openapi.json describes them. Patterns and limits are made of the
//! constants that the server itself applies, and a test compares each with what reads it.

use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use unibus_core::domain;
use unibus_core::domain::limits::{ROOM_ID_BYTES, SUBJECT_BYTES, SUBJECT_TOKENS};
use unibus_names::{MAX_HANDLE_BYTES, MAX_LABEL_BYTES};

/// Longest cursor, in characters: none of ours is longer.
pub const CURSOR_CHARACTERS: usize = 128;

/// A text of this form.
fn text(pattern: impl Into<String>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// So many hexadecimal digits in lower case.
fn hex(digits: usize) -> ObjectBuilder {
    text(format!("^[0-9a-f]{{{digits}}}$"))
}

/// The base64 of so many bytes.
fn base64(bytes: usize) -> ObjectBuilder {
    let (characters, padding) = ((bytes * 8).div_ceil(6), (3 - bytes % 3) % 3);
    text(format!("^[A-Za-z0-9+/]{{{characters}}}{}$", "=".repeat(padding)))
}

/// One of these, as they stand in JSON.
fn one_of<T: Serialize>(values: &[T]) -> ObjectBuilder {
    let words = values.iter().filter_map(|value| serde_json::to_value(value).ok());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words))
}

/// Writes the types from one table: the description of each is its documentation.
macro_rules! described {
    ($($(#[doc = $what:literal])+ $name:ident => $schema:expr;)+) => {$(
        $(#[doc = $what])+
        #[derive(Debug)]
        pub struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let what = concat!($($what),+).trim();
                $schema.description(Some(what)).into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )+};
}

described! {
    /// Name of a user: the first character is a letter or a digit.
    Handle => text(format!("^[a-z0-9][a-z0-9_-]{{0,{}}}$", MAX_HANDLE_BYTES - 1));
    /// Name of a room, for ever: the first character is a letter or a digit.
    RoomId => text(format!("^[a-z0-9][a-z0-9_-]{{0,{}}}$", ROOM_ID_BYTES - 1));
    /// Name of a node.
    NodeName => text(format!("^[a-z0-9_-]{{1,{MAX_LABEL_BYTES}}}$"));
    /// Who did something: the handle of a user, or `root@` and a node.
    Author => text(format!("^([a-z0-9][a-z0-9_-]{{0,{}}}|root@[a-z0-9_-]{{1,{MAX_LABEL_BYTES}}})$", MAX_HANDLE_BYTES - 1));
    /// Subject of a room: a space and more tokens, separated by dots.
    Subject => text(format!("^({})(\\.[a-z0-9_-]+){{1,{}}}$", spaces(), SUBJECT_TOKENS - 1)).max_length(Some(SUBJECT_BYTES));
    /// Public Ed25519 key, in hexadecimal digits.
    SignPub => text("^[0-9a-fA-F]{64}$");
    /// Public X25519 key, in hexadecimal digits.
    HpkePub => hex(64);
    /// A signature with an Ed25519 key, in base64.
    Signature => base64(64);
    /// What HPKE encapsulated, in base64.
    Encapsulated => base64(32);
    /// A key of a room, sealed, in base64.
    SealedKeyBytes => base64(48);
    /// Which key of a room it is; derived from it.
    KeyId => hex(32);
    /// Number of the key of a room.
    Epoch => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(u32::MAX as usize));
    /// Name of an attachment: the SHA-256 of its bytes.
    Sha256 => hex(64);
    /// Name of an invite: the SHA-256 of its token.
    InviteId => hex(64);
    /// Token of an invite: 32 bytes in base64url.
    Token => text("^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$");
    /// Number of a change in the audit log.
    ChangeId => hex(32);
    /// Where a page of a list begins: what the server gave out as `next`, or as `earlier`.
    Cursor => text(format!("^[A-Za-z0-9_-]{{1,{CURSOR_CHARACTERS}}}$"));
    /// Role on the bus.
    Role => one_of(&[domain::Role::Admin, domain::Role::User]);
    /// Whether a user is admitted.
    UserState => one_of(&[domain::State::Active, domain::State::Disabled, domain::State::Removed]);
    /// The states between which a user can be switched.
    UserSwitch => one_of(&[crate::bodies::Switch::Active, crate::bodies::Switch::Disabled]);
    /// Role in a room.
    RoomRole => one_of(&domain::RoomRole::ALL);
    /// Whether a room is in use.
    RoomState => one_of(&[domain::RoomState::Active, domain::RoomState::Removed]);
    /// How a user stands to a room.
    MemberState => one_of(&domain::MemberState::ALL);
    /// How it is known that no node honours what was taken away: every node said so, or so much time has passed that none can.
    RevocationOutcome => one_of(&[domain::RevocationOutcome::Acknowledged, domain::RevocationOutcome::WaitedOut]);
}

/// The spaces in which subjects of rooms are.
fn spaces() -> String {
    domain::Space::ALL.map(domain::Space::as_str).join("|")
}
