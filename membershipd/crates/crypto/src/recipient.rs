//! To whom keys of rooms are sealed: a user's HPKE key, and his own word that it is his.

use std::fmt;

use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, Serializable};
use nkeys::KeyPair;
use zeroize::Zeroizing;

use super::Untrue;
use super::context::Context;
use super::encoded::encoded;
use unibus_core::domain::{Handle, SignPub, Verifier};

type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Private = <X25519HkdfSha256 as Kem>::PrivateKey;

encoded! {
    /// A public HPKE key: X25519 (RFC 7748).
    HpkePub[32], "HPKE key", HEXLOWER, "64 hexadecimal digits of an X25519 public key, in lower case"
}

encoded! {
    /// An Ed25519 signature.
    Signature[64], "signature", BASE64, "the base64 of 64 bytes"
}

/// A secret HPKE key.
pub struct HpkeSecret(Zeroizing<[u8; 32]>);

/// A user whom keys can be sealed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Who.
    pub handle: Handle,
    /// The key with which he signs.
    pub sign_pub: SignPub,
    /// The key that is sealed to.
    pub hpke_pub: HpkePub,
}

impl HpkePub {
    pub(super) fn key(self) -> Result<Public, Untrue> {
        Public::from_bytes(&self.to_bytes()).map_err(|_| Untrue::Key)
    }
}

impl HpkeSecret {
    /// The key with these bytes.
    pub fn from_bytes(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Its public half.
    pub fn public(&self) -> Result<HpkePub, Untrue> {
        let public = X25519HkdfSha256::sk_to_pk(&self.key()?).to_bytes();
        public.as_slice().try_into().map(HpkePub::from_bytes).map_err(|_| Untrue::Key)
    }

    pub(super) fn key(&self) -> Result<Private, Untrue> {
        Private::from_bytes(&*self.0).map_err(|_| Untrue::Key)
    }
}

impl fmt::Debug for HpkeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hpke key]")
    }
}

impl Recipient {
    /// His word that the HPKE key is his, made with `pair`.
    pub fn vouch(&self, pair: &KeyPair) -> Result<Signature, Untrue> {
        sign(pair, &self.statement())
    }

    /// Whether `vouched` is his word. Without it the key is somebody else's, or that of a server that lies.
    pub fn check(&self, vouched: Signature) -> Result<(), Untrue> {
        self.hpke_pub.key()?;
        verify(self.sign_pub.verifier().as_ref(), &self.statement(), vouched)
    }

    fn statement(&self) -> Context {
        let context = Context::new("unibus.hpke-key.1").and(self.handle.as_str());
        context.and(self.sign_pub.to_bytes()).and(self.hpke_pub.to_bytes())
    }
}

/// Signs with Ed25519.
pub(super) fn sign(pair: &KeyPair, context: &Context) -> Result<Signature, Untrue> {
    let signature = pair.sign(context.bytes()).map_err(|_| Untrue::Key)?;
    signature.try_into().map(Signature::from_bytes).map_err(|_| Untrue::Key)
}

/// Checks an Ed25519 signature strictly.
pub(super) fn verify(key: Option<&Verifier>, context: &Context, signature: Signature) -> Result<(), Untrue> {
    let good = key.is_some_and(|key| key.verifies(context.bytes(), &signature.to_bytes()));
    if good { Ok(()) } else { Err(Untrue::Signature) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_whose_who_signed_for_it() {
        let pair = KeyPair::new_user();
        let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
        let hpke_pub = HpkeSecret::from_bytes([7; 32]).public().unwrap();
        let alice = Recipient { handle: "alice".parse().unwrap(), sign_pub, hpke_pub };
        let vouched = alice.vouch(&pair).unwrap();
        assert_eq!(alice.check(vouched), Ok(()));
        let swapped = HpkeSecret::from_bytes([8; 32]).public().unwrap();
        let lies = [
            Recipient { hpke_pub: swapped, ..alice.clone() },
            Recipient { handle: "mallory".parse().unwrap(), ..alice.clone() },
        ];
        for lie in lies {
            assert_eq!(lie.check(vouched), Err(Untrue::Signature));
        }
        assert!("AB".repeat(32).parse::<HpkePub>().is_err(), "one way to write it");
    }
}
