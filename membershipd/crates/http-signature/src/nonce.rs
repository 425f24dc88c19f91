//! Nonces: a signed request counts once, and only what is known to be the first time counts.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};

use super::authority::Authority;
use super::refusal::Refusal;
use unibus_core::domain::SignPub;

/// 128 random bits. Among the nonces of one key, which are kept for minutes, no two are ever the same by chance.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// A nonce from randomness that nobody can foresee.
    pub fn from_entropy(entropy: [u8; 16]) -> Self {
        Self(entropy)
    }

    /// The nonce as a signature carries it.
    pub fn to_base64(self) -> String {
        BASE64.encode(&self.0)
    }

    /// Reads a nonce; strict, so that one nonce has one spelling.
    pub(super) fn from_base64(text: &str) -> Option<Self> {
        BASE64.decode(text.as_bytes()).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// The use of a nonce by the owner of a key, which may happen once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NonceUse {
    /// What the request was signed for: it counts nowhere else.
    pub authority: Authority,
    /// Whose nonce: those of different keys never meet.
    pub key: SignPub,
    /// The nonce.
    pub nonce: Nonce,
    /// When the signature ends, in seconds since 1970.
    pub expires_unix: i64,
}

impl NonceUse {
    /// Name of the entry that stands for this use: key and nonce in hexadecimal, two tokens of a subject.
    pub fn entry_key(&self) -> String {
        format!("{}.{}", self.key, HEXLOWER.encode(&self.nonce.0))
    }
}

/// Why a nonce was not accepted; either way the request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// It is there already.
    #[error("the nonce was used before")]
    Used,
    /// The store gave no answer that proves that the entry is new and will stay: a time-out, no quorum, no lease.
    #[error("whether the nonce was used before is unknown: {0}")]
    Unknown(String),
}

/// The store of used nonces, the same one behind every node.
pub trait Nonces {
    /// Notes the use, exclusively: of all that note the same one, on whatever node, at most one succeeds.
    ///
    /// Success means that the entry is durable and stays for at least [`NONCE_KEPT`](super::NONCE_KEPT). Everything that is
    /// short of that is an error, also where the entry may have been made by this very call.
    fn insert(&self, used: &NonceUse) -> impl Future<Output = Result<(), NonceError>> + Send;
}

/// A request whose signature is right, which is worth nothing yet: it may be a copy of one that was already carried out.
#[derive(Debug)]
#[must_use = "a request counts only once its nonce is spent"]
pub struct Unspent<U> {
    used: NonceUse,
    user: U,
}

impl<U> Unspent<U> {
    pub(super) fn new(used: NonceUse, user: U) -> Self {
        Self { used, user }
    }

    /// The use of the nonce that [`spend`](Self::spend) will note.
    pub fn nonce_use(&self) -> &NonceUse {
        &self.used
    }

    /// Spends the nonce, which is the only way to the user. At once: the times were checked for now, not for later.
    pub async fn spend(self, nonces: &impl Nonces) -> Result<Verified<U>, Refusal> {
        match nonces.insert(&self.used).await {
            Ok(()) => Ok(Verified { key: self.used.key, user: self.user }),
            Err(NonceError::Used) => Err(Refusal::NonceUsed),
            Err(NonceError::Unknown(why)) => Err(Refusal::NonceUnknown { why }),
        }
    }
}

/// A request that its signer made, for this server, now, and for the first time.
#[derive(Debug)]
pub struct Verified<U> {
    key: SignPub,
    user: U,
}

impl<U> Verified<U> {
    /// Key that signed it.
    pub fn key(&self) -> SignPub {
        self.key
    }

    /// What the directory said about the signer.
    pub fn user(&self) -> &U {
        &self.user
    }

    /// The same, to keep.
    pub fn into_user(self) -> U {
        self.user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NONCE_KEPT;
    use unibus_core::bus::Bucket;

    #[test]
    fn a_nonce_has_one_spelling() {
        let nonce = Nonce::from_entropy([0xfb; 16]);
        assert_eq!(Nonce::from_base64(&nonce.to_base64()), Some(nonce));
        for bad in ["", "AAAA", "+/v7+/v7+/v7+/v7+/v7+w", "+/v7+/v7+/v7+/v7+/v7+x==", "-_v7-_v7-_v7-_v7-_v7-w==", "é"]
        {
            assert_eq!(Nonce::from_base64(bad), None, "{bad}");
        }
        assert_eq!(Nonce::from_base64(&BASE64.encode(&[0; 15])), None);
        assert_eq!(Nonce::from_base64(&BASE64.encode(&[0; 17])), None);
    }

    #[test]
    fn the_bucket_keeps_nonces_for_long_enough() {
        assert!(Bucket::Nonces.max_age() >= NONCE_KEPT);
    }
}
