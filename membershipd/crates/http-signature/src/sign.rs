//! Signing requests, for the command line and for tests.

use std::fmt;

use data_encoding::BASE64;
use nkeys::KeyPair;
use sfv::{Integer, KeyRef, RefBareItem, StringRef, key_ref};

use super::TAG;
use super::base::{Component, Parameter, signature_base};
use super::digest::BodyDigest;
use super::head::{Field, RequestHead};
use super::nonce::Nonce;
use super::refusal::Refusal;
use unibus_core::domain::SignPub;

/// Validity of what we sign, in seconds: enough for a clock that is as far off as is allowed and a slow body.
const VALID_S: i64 = 60;

/// Label of our signatures; it is not signed and means nothing (RFC 9421 section 4.1).
const LABEL: &KeyRef = key_ref("unibus");

/// Why a request could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsignable {
    /// The pair of keys is not one that signs.
    #[error("the key of the identity cannot sign; make a new identity: membershipd identity new")]
    Key,
    /// The request has the field already.
    #[error("the request has the field {} already; sign it without", .0.name())]
    Signed(Field),
    /// A server would refuse the request as it is.
    #[error("the request cannot be signed: {0}")]
    Request(#[from] Refusal),
    /// The clock is beyond what a signature can say.
    #[error("the time {0} s since 1970 cannot be signed; set the clock")]
    Clock(i64),
}

/// What is added to a request that was signed; each stands in the request once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFields {
    /// Value of Content-Digest.
    pub content_digest: String,
    /// Value of Signature-Input.
    pub signature_input: String,
    /// Value of Signature.
    pub signature: String,
}

impl SignedFields {
    /// Names and values.
    pub fn fields(&self) -> [(&'static str, &str); 3] {
        [
            (Field::ContentDigest.name(), &self.content_digest),
            (Field::SignatureInput.name(), &self.signature_input),
            (Field::Signature.name(), &self.signature),
        ]
    }
}

/// Who signs.
pub struct Signer {
    pair: KeyPair,
    key: SignPub,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.key)
    }
}

impl Signer {
    /// Signs with this pair of keys, which must be that of a user.
    pub fn new(pair: KeyPair) -> Result<Self, Unsignable> {
        let key = SignPub::from_nkey(&pair.public_key()).map_err(|_| Unsignable::Key)?;
        Ok(Self { pair, key })
    }

    /// Signs the request with this `head` and `body` at `now_unix` (seconds since 1970). The nonce is new for every request,
    /// also for one that is sent again.
    pub fn sign(
        &self,
        head: &RequestHead<'_>,
        body: BodyDigest,
        now_unix: i64,
        nonce: Nonce,
    ) -> Result<SignedFields, Unsignable> {
        head.check_size()?;
        for ours in [Field::ContentDigest, Field::SignatureInput, Field::Signature] {
            if head.field(ours)?.is_some() {
                return Err(Unsignable::Signed(ours));
            }
        }
        let (authority, query, content_digest) = (head.authority()?, head.signed_query()?, body.to_field());
        let if_match = head.field(Field::IfMatch)?.map(str::from_utf8).transpose();
        let if_match = if_match.map_err(|_| Refusal::ValueUnsignable(Component::IfMatch))?;
        let mut components = vec![
            (Component::Method.identifier(), head.method),
            (Component::Authority.identifier(), authority.as_str()),
            (Component::Path.identifier(), head.signed_path()?),
            (Component::Query.identifier(), &query),
            (Component::ContentDigest.identifier(), &content_digest),
        ];
        components.extend(if_match.map(|value| (Component::IfMatch.identifier(), value)));

        let seconds = |unix: i64| Integer::try_from(unix).map_err(|_| Unsignable::Clock(now_unix));
        let (nonce, keyid) = (nonce.to_base64(), self.key.to_string());
        // Base64, hexadecimal digits and our own tag are strings of structured fields, whatever the nonce and the key.
        let text = |text| StringRef::from_str(text).map_err(|_| Unsignable::Key);
        let parameters = [
            (Parameter::Created.key(), RefBareItem::Integer(seconds(now_unix)?)),
            (Parameter::Expires.key(), RefBareItem::Integer(seconds(now_unix.saturating_add(VALID_S))?)),
            (Parameter::Nonce.key(), RefBareItem::String(text(&nonce)?)),
            (Parameter::KeyId.key(), RefBareItem::String(text(&keyid)?)),
            (Parameter::Tag.key(), RefBareItem::String(text(TAG)?)),
        ];
        let base = signature_base(&components, parameters)
            .map_err(|name| Component::named(name).map_or(Refusal::ComponentForeign, Refusal::ValueUnsignable))?;
        let signature = self.pair.sign(base.text.as_bytes()).map_err(|_| Unsignable::Key)?;
        Ok(SignedFields {
            content_digest,
            signature_input: format!("{LABEL}={}", base.params),
            signature: format!("{LABEL}=:{}:", BASE64.encode(&signature)),
        })
    }
}
