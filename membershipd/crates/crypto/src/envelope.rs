//! A room's key, sealed for one member by another.

use std::fmt;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Untrue;
use super::context::Context;
use super::encoded::encoded;
use super::epoch::Epoch;
use super::recipient::{HpkeSecret, Recipient, Signature, sign, verify};
use super::room_key::{KeyId, RoomKey, TAG};
use unibus_core::domain::{Handle, RoomId, SignPub};

/// `info` of HPKE: what this seal is for.
const INFO: &[u8] = b"unibus.envelope.1";

encoded! {
    /// What HPKE sends beside the ciphertext: a public key made for one seal.
    Encapsulated[32], "encapsulated key", BASE64, "the base64 of 32 bytes"
}

encoded! {
    /// The sealed key of a room.
    SealedKey[32 + TAG], "sealed key", BASE64, "the base64 of 48 bytes"
}

/// A room's key as one member has sealed it for another: HPKE in base mode with X25519, HKDF-SHA256 and ChaCha20-Poly1305
/// (RFC 9180), signed by who sealed it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// HPKE's encapsulated key.
    enc: Encapsulated,
    /// The key, sealed.
    sealed: SealedKey,
    /// The signature of who sealed it.
    signature: Signature,
}

/// What all envelopes of an epoch have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealing<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// The epoch.
    pub epoch: Epoch,
    /// Who has made the key.
    pub by: &'a Handle,
    /// Which key it is.
    pub key: KeyId,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[envelope]")
    }
}

impl Sealing<'_> {
    /// Seals `key` for `to`, signed with the key pair of `by`.
    pub fn seal(&self, key: &RoomKey, to: &Recipient, pair: &KeyPair) -> Result<Envelope, Untrue> {
        let aad = self.bound(&to.handle);
        let (enc, sealed) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &to.hpke_pub.key()?,
            INFO,
            key.bytes(),
            aad.bytes(),
        )
        .map_err(|_| Untrue::Seal)?;
        let enc = enc.to_bytes().as_slice().try_into().map(Encapsulated::from_bytes).map_err(|_| Untrue::Seal)?;
        let sealed = sealed.try_into().map(SealedKey::from_bytes).map_err(|_| Untrue::Seal)?;
        let signature = sign(pair, &self.statement(to, enc, sealed))?;
        Ok(Envelope { enc, sealed, signature })
    }

    /// Opens the envelope for `own`, who has the key `secret`: `signer` is the key of `by`, as the one who opens has it pinned.
    pub fn open(
        &self,
        envelope: &Envelope,
        own: &Recipient,
        secret: &HpkeSecret,
        signer: SignPub,
    ) -> Result<RoomKey, Untrue> {
        verify(signer.verifier().as_ref(), &self.statement(own, envelope.enc, envelope.sealed), envelope.signature)?;
        let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&envelope.enc.to_bytes());
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &secret.key()?,
            &enc.map_err(|_| Untrue::Key)?,
            INFO,
            &envelope.sealed.to_bytes(),
            self.bound(&own.handle).bytes(),
        );
        let opened = Zeroizing::new(opened.map_err(|_| Untrue::Seal)?);
        let key = RoomKey::from_bytes(opened.as_slice().try_into().map_err(|_| Untrue::Seal)?);
        // Whoever gives two members two keys under one name is found out here.
        if key.id(self.room, self.epoch)? == self.key { Ok(key) } else { Err(Untrue::Seal) }
    }

    fn bound(&self, to: &Handle) -> Context {
        let context = Context::new("unibus.envelope.1").and(self.room.as_str()).and(self.epoch.to_bytes());
        context.and(to.as_str()).and(self.key.to_bytes())
    }

    fn statement(&self, to: &Recipient, enc: Encapsulated, sealed: SealedKey) -> Context {
        let context = Context::new("unibus.envelope-signature.1").and(self.room.as_str()).and(self.epoch.to_bytes());
        let context = context.and(self.by.as_str()).and(to.handle.as_str()).and(to.hpke_pub.to_bytes());
        context.and(self.key.to_bytes()).and(enc.to_bytes()).and(sealed.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Person {
        pair: KeyPair,
        secret: HpkeSecret,
        public: Recipient,
    }

    fn person(handle: &str, seed: u8) -> Person {
        let pair = KeyPair::new_user();
        let secret = HpkeSecret::from_bytes([seed; 32]);
        let (sign_pub, hpke_pub) = (SignPub::from_nkey(&pair.public_key()).unwrap(), secret.public().unwrap());
        Person { public: Recipient { handle: handle.parse().unwrap(), sign_pub, hpke_pub }, pair, secret }
    }

    #[test]
    fn only_whom_it_is_for_opens_it_and_only_as_what_it_is() {
        let (alice, bob, mallory) = (person("alice", 1), person("bob", 2), person("mallory", 3));
        let (room, other): (RoomId, RoomId) = ("kitchen".parse().unwrap(), "cellar".parse().unwrap());
        let key = RoomKey::random().unwrap();
        let (epoch, second) = (Epoch::FIRST, Epoch::FIRST.next().unwrap());
        let id = key.id(&room, epoch).unwrap();
        let sealing = Sealing { room: &room, epoch, by: &alice.public.handle, key: id };
        let envelope = sealing.seal(&key, &bob.public, &alice.pair).unwrap();
        let json = serde_json::to_string(&envelope).unwrap();
        let envelope: Envelope = serde_json::from_str(&json).unwrap();

        let open = |sealing: Sealing<'_>, who: &Person, signer| {
            sealing.open(&envelope, &who.public, &who.secret, signer).map(|key| key.bytes().to_vec())
        };
        let signer = alice.public.sign_pub;
        assert_eq!(open(sealing, &bob, signer).unwrap(), key.bytes());
        let lies = [
            open(Sealing { room: &other, ..sealing }, &bob, signer),
            open(Sealing { epoch: second, ..sealing }, &bob, signer),
            open(Sealing { by: &mallory.public.handle, ..sealing }, &bob, signer),
            open(Sealing { key: key.id(&room, second).unwrap(), ..sealing }, &bob, signer),
            open(sealing, &bob, mallory.public.sign_pub),
            open(sealing, &mallory, signer),
        ];
        for lie in lies {
            assert_eq!(lie.unwrap_err(), Untrue::Signature);
        }
    }

    #[test]
    fn a_member_who_seals_another_key_under_the_same_name_is_found_out() {
        let (alice, bob) = (person("alice", 1), person("bob", 2));
        let room: RoomId = "kitchen".parse().unwrap();
        let id = RoomKey::random().unwrap().id(&room, Epoch::FIRST).unwrap();
        let sealing = Sealing { room: &room, epoch: Epoch::FIRST, by: &alice.public.handle, key: id };
        let envelope = sealing.seal(&RoomKey::random().unwrap(), &bob.public, &alice.pair).unwrap();
        let opened = sealing.open(&envelope, &bob.public, &bob.secret, alice.public.sign_pub);
        assert_eq!(opened.unwrap_err(), Untrue::Seal);
    }
}
