//! Why a request is not taken for its signer's: one variant for each reason, and one stable name for each.

use super::authority::Authority;
use super::base::{Component, Parameter};
use super::head::Field;
use super::{LIFETIME_S, SKEW_S, TAG};

/// How a request is refused whose nonce may or may not have been spent: clients know by it that nothing else was done.
pub const NONCE_UNKNOWN: &str = "nonce-unknown";

/// Why a request was refused. Of the request the text quotes the authority alone, and nothing that is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More fields or bytes than any request of ours has.
    #[error("the request's head is too large; send fewer or shorter fields")]
    HeadTooLarge,
    /// A field that has a part in the signature is too long or has too many members.
    #[error("the field {} is too large for a signed request", .0.name())]
    FieldTooLarge(Field),
    /// A field that has a part in the signature was sent more than once.
    #[error("the field {} was sent more than once; send it in one line", .0.name())]
    FieldRepeated(Field),
    /// Signature-Input or Signature is not there.
    #[error("the field {} is missing; sign the request (RFC 9421)", .0.name())]
    SignatureMissing(Field),
    /// Signature-Input or Signature is not what RFC 9421 says it is.
    #[error("the field {} is malformed; it is a dictionary of structured fields as in RFC 9421 section 4", .0.name())]
    FieldMalformed(Field),
    /// There is another signature beside one.
    #[error("the request has more than one signature; send exactly one, with the tag '{TAG}'")]
    SignatureSurplus,
    /// The two fields name their one signature differently.
    #[error("Signature and Signature-Input have different labels; give them the same")]
    LabelMismatch,
    /// A covered component that is none of the profile's.
    #[error(
        "the signature covers a component that is not in the profile; cover exactly @method, @authority, @path, @query, \
             content-digest, and if-match where it is sent"
    )]
    ComponentForeign,
    /// A covered component has parameters, such as `req` or `key`.
    #[error("the signature covers {} with a parameter; cover it plain", .0.name())]
    ComponentQualified(Component),
    /// A component is covered more than once.
    #[error("the signature covers {} more than once; cover it once", .0.name())]
    ComponentRepeated(Component),
    /// A component that must be covered is not.
    #[error("the signature does not cover {}; cover it", .0.name())]
    ComponentMissing(Component),
    /// A component is covered that the request does not have.
    #[error("the signature covers {}, which was not sent", .0.name())]
    ComponentAbsent(Component),
    /// The value of a component has bytes that cannot be signed.
    #[error("the value of {} has characters that cannot be signed; only visible ASCII can, percent-encode the rest", .0.name())]
    ValueUnsignable(Component),
    /// A parameter that is none of the profile's, `alg` included.
    #[error(
        "the signature has a parameter that is not in the profile; send created, expires, nonce, keyid and tag, and no alg: \
             the key decides"
    )]
    ParameterForeign,
    /// A parameter is there more than once.
    #[error("the signature has {} more than once; send it once", .0.name())]
    ParameterRepeated(Parameter),
    /// A parameter is not there.
    #[error("the signature has no {}; send it", .0.name())]
    ParameterMissing(Parameter),
    /// A parameter has a wrong type or form.
    #[error("the signature's {} is malformed: {}", .0.name(), rule(*.0))]
    ParameterMalformed(Parameter),
    /// The signature was made for something else.
    #[error("the signature's tag is not '{TAG}': it was made for something else")]
    TagForeign,
    /// It was made later than now.
    #[error("the signature was made in the future; set the clock (up to {SKEW_S} s off is taken)")]
    CreatedInFuture,
    /// It was made too long ago.
    #[error("the signature was made more than {LIFETIME_S} s ago; sign the request again, with the right time")]
    CreatedTooOld,
    /// It ends before it begins.
    #[error("the signature expires before it was made, or at that moment; expires is a time after created")]
    ExpiresTooEarly,
    /// It would be valid for too long.
    #[error("the signature is valid for too long; expires is at most {LIFETIME_S} s after created")]
    LifetimeTooLong,
    /// It has ended.
    #[error("the signature has expired; sign the request again")]
    Expired,
    /// The request is for another server.
    #[error("{}", foreign(.asked.as_ref(), .names))]
    AuthorityForeign {
        /// What it is for; none: nothing that a server can be called.
        asked: Option<Authority>,
        /// What this server is called.
        names: Vec<Authority>,
    },
    /// Target and Host field name different servers.
    #[error("the request names two different authorities; send one")]
    AuthorityAmbiguous,
    /// Content-Digest is not there, which a request without a body has, too.
    #[error("content-digest is missing; send the sha-256 of the body, also of an empty one (RFC 9530)")]
    DigestMissing,
    /// Content-Digest is no dictionary with a digest in it.
    #[error("content-digest is malformed; send sha-256=:base64: (RFC 9530)")]
    DigestMalformed,
    /// Content-Digest has another digest than the one that is checked, or one more.
    #[error("content-digest must be exactly one sha-256; leave other digests out")]
    DigestAlgorithm,
    /// The body is not the one that was signed.
    #[error("the body is not the one that content-digest was made of")]
    DigestMismatch,
    /// No user has the key.
    #[error("no user has the key that keyid names; ask an admin to add it")]
    KeyUnknown,
    /// The signature was not made with the key over this request, which came in for this authority.
    #[error("the signature is not one of that key over this request, which came in for {0}")]
    SignatureInvalid(Authority),
    /// The signature is right and its user is switched off or was removed.
    #[error("the user of this key is disabled")]
    UserDisabled,
    /// The nonce was used before.
    #[error("the nonce was used before; sign the request again with a new one")]
    NonceUsed,
    /// Nobody knows whether the nonce was used before; `why` is for the log of the server, not for the client.
    #[error("whether the nonce was used before could not be established; try again later with a new signature")]
    NonceUnknown {
        /// What the store of nonces said.
        why: String,
    },
}

fn foreign(asked: Option<&Authority>, names: &[Authority]) -> String {
    let Some(asked) = asked else {
        return "the request is for nothing that a server is called: a host or an address, and its port".to_owned();
    };
    let names = names.iter().map(Authority::as_str).collect::<Vec<_>>().join(", ");
    format!("the request is for {asked}, and this node is called {names}")
}

fn rule(parameter: Parameter) -> &'static str {
    match parameter {
        Parameter::Created | Parameter::Expires => "an integer, seconds since 1970",
        Parameter::Nonce => "16 random bytes in base64, 24 characters with padding",
        Parameter::KeyId => "the 64 hexadecimal digits of an Ed25519 public key in lower case",
        Parameter::Tag => "a string",
    }
}

/// Writes `slug` and the list of all slugs from one table, so that neither can miss one.
macro_rules! slugs {
    ($($refusal:pat => $slug:expr,)+) => {
        impl Refusal {
            /// Every slug there is.
            pub const SLUGS: &[&str] = &[$($slug),+];

            /// Name of the reason, for problem documents (RFC 9457), logs and metrics; it never changes.
            pub fn slug(&self) -> &'static str {
                match self {
                    $($refusal => $slug,)+
                }
            }
        }
    };
}

slugs! {
    Self::HeadTooLarge => "head-too-large",
    Self::FieldTooLarge(_) => "signature-field-too-large",
    Self::FieldRepeated(_) => "signature-field-repeated",
    Self::SignatureMissing(_) => "signature-missing",
    Self::FieldMalformed(_) => "signature-malformed",
    Self::SignatureSurplus => "signature-surplus",
    Self::LabelMismatch => "signature-label-mismatch",
    Self::ComponentForeign => "signature-component-foreign",
    Self::ComponentQualified(_) => "signature-component-qualified",
    Self::ComponentRepeated(_) => "signature-component-repeated",
    Self::ComponentMissing(_) => "signature-component-missing",
    Self::ComponentAbsent(_) => "signature-component-absent",
    Self::ValueUnsignable(_) => "signature-value-unsignable",
    Self::ParameterForeign => "signature-parameter-foreign",
    Self::ParameterRepeated(_) => "signature-parameter-repeated",
    Self::ParameterMissing(Parameter::Created) => "signature-created-missing",
    Self::ParameterMissing(Parameter::Expires) => "signature-expires-missing",
    Self::ParameterMissing(Parameter::Nonce) => "signature-nonce-missing",
    Self::ParameterMissing(Parameter::KeyId) => "signature-keyid-missing",
    Self::ParameterMissing(Parameter::Tag) => "signature-tag-missing",
    Self::ParameterMalformed(Parameter::Created) => "signature-created-malformed",
    Self::ParameterMalformed(Parameter::Expires) => "signature-expires-malformed",
    Self::ParameterMalformed(Parameter::Nonce) => "signature-nonce-malformed",
    Self::ParameterMalformed(Parameter::KeyId) => "signature-keyid-malformed",
    Self::ParameterMalformed(Parameter::Tag) => "signature-tag-malformed",
    Self::TagForeign => "signature-tag-foreign",
    Self::CreatedInFuture => "signature-created-in-future",
    Self::CreatedTooOld => "signature-created-too-old",
    Self::ExpiresTooEarly => "signature-expires-too-early",
    Self::LifetimeTooLong => "signature-lifetime-too-long",
    Self::Expired => "signature-expired",
    Self::AuthorityForeign { .. } => "authority-foreign",
    Self::AuthorityAmbiguous => "authority-ambiguous",
    Self::DigestMissing => "digest-missing",
    Self::DigestMalformed => "digest-malformed",
    Self::DigestAlgorithm => "digest-algorithm",
    Self::DigestMismatch => "digest-mismatch",
    Self::KeyUnknown => "key-unknown",
    Self::SignatureInvalid(_) => "signature-invalid",
    Self::UserDisabled => "user-disabled",
    Self::NonceUsed => "nonce-used",
    Self::NonceUnknown { .. } => NONCE_UNKNOWN,
}
