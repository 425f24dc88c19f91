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

/// Points of small order on the curve of X25519, without the bit that is ignored: what is sealed to one of them is sealed for all.
/// (The list of RFC 7748 section 7 and of libsodium's `x25519_ref10.c`.)
const WEAK: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

impl HpkePub {
    /// Whether nothing can be sealed to it: HPKE refuses such keys (RFC 9180 section 7.1.4), so one in a list of recipients would keep
    /// all members from sealing.
    pub fn is_weak(self) -> bool {
        let [first @ .., last] = self.to_bytes();
        let text = data_encoding::HEXLOWER.encode(&[&first[..], &[last & 0x7f]].concat());
        WEAK.contains(&text.as_str())
    }

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
    fn weak_hpke_keys_are_those_that_hpke_does_not_seal_to() {
        use hpke::{OpModeS, aead::ChaCha20Poly1305, kdf::HkdfSha256, single_shot_seal};
        let seals = |key: HpkePub| {
            let key = key.key().unwrap();
            single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&OpModeS::Base, &key, b"", b"", b"")
                .is_ok()
        };
        for weak in WEAK.map(|text| text.parse::<HpkePub>().unwrap()) {
            let mut ignored = weak.to_bytes();
            ignored[31] |= 0x80;
            for key in [weak, HpkePub::from_bytes(ignored)] {
                assert!(key.is_weak() && !seals(key), "{key}");
            }
        }
        let good = HpkeSecret::from_bytes([7; 32]).public().unwrap();
        assert!(!good.is_weak() && seals(good));
    }

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
