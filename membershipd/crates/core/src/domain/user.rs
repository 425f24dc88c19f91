//! Users: handle, signing key, role and state.

use std::fmt;
use std::str::FromStr;

use nkeys::{KeyPair, KeyPairType};
use serde::{Deserialize, Serialize};
use unibus_names::{HANDLE_RULE, is_handle};

/// A value that was refused at the edge.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{what} '{value}' is not valid: {rule}")]
pub struct InvalidValue {
    /// Kind of the value.
    pub what: &'static str,
    /// What was given.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// Name of a user: 1 to 32 of `[a-z0-9_-]`, starting with a letter or digit, so that it is one token of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handle(String);

impl Handle {
    /// The handle as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters of a refused value that are repeated: enough to know it again, and no flood in an answer or a log.
const SHOWN: usize = 80;

impl InvalidValue {
    /// The value of kind `what` breaks `rule`.
    pub(super) fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        let value = match value.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()),
            None => value.to_owned(),
        };
        Self { what, value, rule }
    }
}

impl FromStr for Handle {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        if is_handle(value) { Ok(Self(value.to_owned())) } else { Err(InvalidValue::new("handle", value, HANDLE_RULE)) }
    }
}

/// Public Ed25519 key of a user. On the bus it is an nkey (`U…`), in records and on the command line 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignPub([u8; 32]);

/// A [`SignPub`] as a point of its curve, which takes a tenth of a verification to find.
#[derive(Debug, Clone)]
pub struct Verifier(ed25519_dalek::VerifyingKey);

const SIGN_PUB_RULE: &str = "64 hexadecimal digits of an Ed25519 public key, as 'membershipd identity show' prints it";

impl SignPub {
    /// The key named by an nkey in its public text form (`U…`).
    pub fn from_nkey(nkey: &str) -> Result<Self, InvalidValue> {
        let rule = "the public key of a NATS user: 'U' and 55 characters of base32 with a checksum";
        let refused = || InvalidValue::new("nkey", nkey, rule);
        let pair = KeyPair::from_public_key(nkey).map_err(|_| refused())?;
        if pair.key_pair_type() != KeyPairType::User {
            return Err(refused());
        }
        let (_, raw) = nkeys::from_public_key(nkey).map_err(|_| refused())?;
        Self::from_bytes(raw).ok_or_else(refused)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// The same key in the engine's text form.
    pub fn to_nkey(self) -> String {
        // Type byte, key, CRC-16/XMODEM little-endian, in base32: the public half of the nkeys format.
        let mut raw = vec![NKEY_USER];
        raw.extend_from_slice(&self.0);
        let crc = raw.iter().fold(0u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |c, _| if c & 0x8000 == 0 { c << 1 } else { (c << 1) ^ 0x1021 })
        });
        raw.extend_from_slice(&crc.to_le_bytes());
        data_encoding::BASE32_NOPAD.encode(&raw)
    }

    /// Whether `signature` over `message` was made with this key. Strict: no malleable signatures, no weak keys.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier().is_some_and(|verifier| verifier.verifies(message, signature))
    }

    /// The key, made ready for many signatures; none: it is no key.
    pub fn verifier(&self) -> Option<Verifier> {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0).ok().map(Verifier)
    }

    /// The key with these bytes; none: they are no key, or a weak one (of small order), which would verify signatures over anything.
    pub fn from_bytes(raw: [u8; 32]) -> Option<Self> {
        ed25519_dalek::VerifyingKey::from_bytes(&raw).ok().filter(|key| !key.is_weak()).map(|_| Self(raw))
    }
}

impl Verifier {
    /// See [`SignPub::verifies`].
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = ed25519_dalek::Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

/// Type of a user in the nkeys format: 20 in the upper five bits.
const NKEY_USER: u8 = 20 << 3;

impl FromStr for SignPub {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("sign-pub", value, SIGN_PUB_RULE);
        let raw = data_encoding::HEXLOWER_PERMISSIVE.decode(value.as_bytes()).map_err(|_| refused())?;
        let raw: [u8; 32] = raw.try_into().map_err(|_| refused())?;
        Self::from_bytes(raw).ok_or_else(refused)
    }
}

impl fmt::Display for SignPub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Handle> for String {
    fn from(handle: Handle) -> Self {
        handle.0
    }
}

impl From<SignPub> for String {
    fn from(key: SignPub) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for Handle {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

impl TryFrom<String> for SignPub {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

/// What a user may do beside using the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Administers users and rooms.
    Admin,
    /// Uses the bus.
    User,
}

/// Whether a user is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Admitted.
    Active,
    /// Not admitted until enabled again.
    Disabled,
    /// Gone for good: the tombstone keeps handle and key from being used again.
    Removed,
}

/// A user as it stands in the bucket of users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name, and the key of the record.
    pub handle: Handle,
    /// Key with which the user proves to be that user.
    pub sign_pub: SignPub,
    /// Role on the bus.
    pub role: Role,
    /// Whether it is admitted.
    pub state: State,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_single_subject_tokens() {
        for good in ["a", "root", "0x", "a-b_c", &"a".repeat(32)] {
            assert!(good.parse::<Handle>().is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", "_a", "a.b", "a b", "a*", ">", "ä", &"a".repeat(33)] {
            assert!(bad.parse::<Handle>().is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_convert_between_hex_and_nkey() {
        let pair = KeyPair::new_user();
        let key = SignPub::from_nkey(&pair.public_key()).unwrap();
        assert_eq!(key.to_nkey(), pair.public_key());
        assert_eq!(key.to_string().parse::<SignPub>().unwrap(), key);
        assert!(key.verifies(b"nonce", &pair.sign(b"nonce").unwrap()));
        assert!(!key.verifies(b"other", &pair.sign(b"nonce").unwrap()));
    }

    #[test]
    fn short_foreign_and_weak_keys_are_refused() {
        assert!("ab".parse::<SignPub>().is_err());
        assert!("zz".repeat(32).parse::<SignPub>().is_err());
        assert!(SignPub::from_nkey(&KeyPair::new_account().public_key()).is_err());
        // The identity point has order one: with it any signature of zeros would verify.
        let weak = format!("01{}", "00".repeat(31));
        assert!(weak.parse::<SignPub>().is_err());
    }
}
