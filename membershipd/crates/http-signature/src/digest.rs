//! Content-Digest (RFC 9530): which body a signature is for.
//!
//! Exactly one digest, sha-256. RFC 9530 lets a sender add others and a recipient ignore them; a digest that is ignored would
//! be signed and still mean nothing, and one that is checked makes every body be hashed twice for nothing that sha-256 lacks.

use std::fmt;

use data_encoding::BASE64;
use sfv::BareItemFromInput;
use sha2::{Digest, Sha256};

use super::dictionary::{self, Member, Value};
use super::refusal::Refusal;

const SHA_256: &str = "sha-256";

/// SHA-256 of a body as it was received, before anything decoded it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// The digest of `body`; of no bytes for a request without a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// The digest of a body that was hashed as it came in.
    pub fn from_sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest itself.
    pub fn sha256(self) -> [u8; 32] {
        self.0
    }

    /// The value of a Content-Digest field.
    pub fn to_field(self) -> String {
        format!("{SHA_256}=:{}:", BASE64.encode(&self.0))
    }

    /// Reads the value of a Content-Digest field.
    pub(super) fn from_field(value: &[u8]) -> Result<Self, Refusal> {
        let members = dictionary::parse(value).ok_or(Refusal::DigestMalformed)?;
        match members.as_slice() {
            [] => Err(Refusal::DigestMalformed),
            [only] if only.label.as_str() == SHA_256 => Self::from_member(only).ok_or(Refusal::DigestMalformed),
            _ => Err(Refusal::DigestAlgorithm),
        }
    }

    fn from_member(member: &Member<'_>) -> Option<Self> {
        match &member.value {
            Value::Item(BareItemFromInput::ByteSequence(bytes)) if member.parameters.is_empty() => {
                Some(Self(bytes.as_slice().try_into().ok()?))
            }
            Value::Item(_) | Value::List(_) => None,
        }
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_field())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content of the examples in RFC 9530's appendices.
    const WITH_NEWLINE: &[u8] = b"{\"hello\": \"world\"}\n";

    #[test]
    fn the_examples_of_rfc_9530_hold() {
        for (body, field) in [
            (WITH_NEWLINE, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
            (b"", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
        ] {
            assert_eq!(BodyDigest::of(body).to_field(), field);
            assert_eq!(BodyDigest::from_field(field.as_bytes()), Ok(BodyDigest::of(body)));
        }
        // RFC 9421 signs the same text without its line feed: another content.
        assert_ne!(BodyDigest::of(WITH_NEWLINE), BodyDigest::of(b"{\"hello\": \"world\"}"));
    }

    #[test]
    fn one_sha_256_and_nothing_else() {
        let right = BodyDigest::of(WITH_NEWLINE).to_field();
        // RFC 9530's own sha-512 of that content: right, and refused all the same.
        let long = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";
        for (field, refusal) in [
            (long.to_owned(), Refusal::DigestAlgorithm),
            (format!("{right}, {long}"), Refusal::DigestAlgorithm),
            (format!("{right}, {right}"), Refusal::DigestAlgorithm),
            ("md5=:1B2M2Y8AsgTpgAmY7PhCfg==:".to_owned(), Refusal::DigestAlgorithm),
            (String::new(), Refusal::DigestMalformed),
            (format!("{right};x"), Refusal::DigestMalformed),
            ("sha-256=abc".to_owned(), Refusal::DigestMalformed),
            ("sha-256=:AAAA:".to_owned(), Refusal::DigestMalformed),
            (right.replace("=:", "=(:") + ")", Refusal::DigestMalformed),
            ("sha-256".to_owned(), Refusal::DigestMalformed),
        ] {
            assert_eq!(BodyDigest::from_field(field.as_bytes()), Err(refusal), "{field}");
        }
    }
}
