//! Keys of users and rooms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use unibus_core::domain::{Handle, RoomId, SignPub, State};
use unibus_crypto::{Envelope, Epoch, HpkePub, KeyId, Signature};

/// A user as everybody sees him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Listed {
    /// Name.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub handle: Handle,
    /// Public Ed25519 key, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::SignPub))]
    pub sign_pub: SignPub,
    /// `active`, `disabled` or `removed`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::UserState))]
    pub state: State,
    /// His HPKE key; none: he has not set one, and nothing can be sealed for him.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hpke: Option<Hpke>,
}

/// A user's HPKE key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Hpke {
    /// Public X25519 key, 64 hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::HpkePub))]
    pub hpke_pub: HpkePub,
    /// The user's Ed25519 signature of it, as docs/conversations.md says, in base64.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Signature))]
    pub signature: Signature,
}

/// The newest key of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewestKey {
    /// Its epoch; none: the room has no key yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Epoch>))]
    pub epoch: Option<Epoch>,
    /// It is sealed for others than those who are there now, or there is none: whoever may begin an epoch should.
    pub stale: bool,
    /// It is sealed for the caller.
    pub own: bool,
}

/// A key of a room, sealed for the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SealedKey {
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::RoomId))]
    pub room: RoomId,
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Epoch))]
    pub epoch: Epoch,
    /// Who made and sealed it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Handle))]
    pub by: Handle,
    /// When: milliseconds since 1970.
    pub at_ms: i64,
    /// Which key it is, 32 hexadecimal digits; derived from it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::KeyId))]
    pub key_id: KeyId,
    #[cfg_attr(feature = "openapi", schema(value_type = EnvelopeSchema))]
    pub envelope: Envelope,
}

/// A key, sealed for one, as it is described. What the bytes are is in docs/conversations.md.
#[cfg(feature = "openapi")]
#[derive(utoipa::ToSchema)]
#[schema(as = Envelope)]
#[expect(dead_code, reason = "`Envelope` is what is read and written; this describes it")]
pub struct EnvelopeSchema {
    /// What HPKE encapsulated, base64 of 32 bytes.
    #[schema(value_type = crate::schema::Encapsulated)]
    enc: String,
    /// The key, sealed: base64 of 48 bytes.
    #[schema(value_type = crate::schema::SealedKeyBytes)]
    sealed: String,
    /// The signature of who sealed it: base64 of 64 bytes.
    #[schema(value_type = crate::schema::Signature)]
    signature: String,
}

/// A key that is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewEpoch {
    /// Which key it is, 32 hexadecimal digits; derived from it.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::KeyId))]
    pub key_id: KeyId,
    /// The key, sealed for each recipient, by handle.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, EnvelopeSchema>))]
    pub envelopes: BTreeMap<Handle, Envelope>,
}

/// What beginning an epoch came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Begun {
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Epoch))]
    pub epoch: Epoch,
    /// False where it was so already.
    pub changed: bool,
}

/// A page of those for whom a key is to be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recipients {
    pub recipients: Vec<Listed>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}
