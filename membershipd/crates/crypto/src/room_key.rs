//! The key of a room in one epoch, and the keys that come of it.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use super::Untrue;
use super::context::Context;
use super::encoded::encoded;
use super::epoch::Epoch;
use unibus_core::domain::{Handle, RoomId};

/// Bytes of a key.
const KEY: usize = 32;
/// Bytes of a key's id.
const KEY_ID: usize = 16;
/// Bytes that a seal adds.
pub(super) const TAG: usize = 16;

/// The key of a room in one epoch: 32 random bytes that only members have.
pub struct RoomKey(Zeroizing<[u8; KEY]>);

encoded! {
    /// Which key it is, without saying what it is: derived from it, for its room and epoch. Everybody who was given the same id
    /// and can open his envelope has the same key.
    KeyId[KEY_ID], "key id", HEXLOWER, "32 hexadecimal digits"
}

/// The key with which one sender seals in one epoch.
pub struct MessageKey(LessSafeKey);

/// So many bytes of a derivation.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl RoomKey {
    /// The key with these bytes.
    pub fn from_bytes(key: [u8; KEY]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// A new one.
    pub fn random() -> Result<Self, Untrue> {
        let mut key = Zeroizing::new([0; KEY]);
        getrandom::fill(&mut *key).map_err(|_| Untrue::Randomness)?;
        Ok(Self(key))
    }

    /// Its bytes, for a program that keeps keys itself. Whoever has them reads the room.
    pub fn reveal(&self) -> [u8; KEY] {
        *self.0
    }

    /// Its bytes, for whoever seals them.
    pub(super) fn bytes(&self) -> &[u8] {
        &*self.0
    }

    /// Its id.
    pub fn id(&self, room: &RoomId, epoch: Epoch) -> Result<KeyId, Untrue> {
        let mut id = [0; KEY_ID];
        self.derive(&Context::new("unibus.key-id.1").and(room.as_str()).and(epoch.to_bytes()), &mut id)?;
        Ok(KeyId::from_bytes(id))
    }

    /// The key with which `sender` seals messages.
    pub fn message_key(&self, room: &RoomId, epoch: Epoch, sender: &Handle) -> Result<MessageKey, Untrue> {
        let context = Context::new("unibus.message-key.1");
        self.sealing_key(&context.and(room.as_str()).and(epoch.to_bytes()).and(sender.as_str()))
    }

    /// The key for `context`.
    pub(super) fn sealing_key(&self, context: &Context) -> Result<MessageKey, Untrue> {
        let mut key = Zeroizing::new([0; KEY]);
        self.derive(context, &mut *key)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*key).map_err(|_| Untrue::Key)?;
        Ok(MessageKey(LessSafeKey::new(key)))
    }

    // HKDF with SHA-256 (RFC 5869), no salt, the context as info.
    pub(super) fn derive(&self, context: &Context, into: &mut [u8]) -> Result<(), Untrue> {
        let prk: Prk = Salt::new(HKDF_SHA256, &[]).extract(self.bytes());
        let info = [context.bytes()];
        let okm = prk.expand(&info, Bytes(into.len())).map_err(|_| Untrue::Key)?;
        okm.fill(into).map_err(|_| Untrue::Key)
    }
}

impl MessageKey {
    /// Seals `text` in place and puts the tag behind it.
    pub(super) fn seal(&self, nonce: [u8; 12], bound: &Context, text: &mut Vec<u8>) -> Result<(), Untrue> {
        let sealed =
            self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound.bytes()), text);
        sealed.map_err(|_| Untrue::Seal)
    }

    /// Opens what was sealed.
    pub(super) fn open(&self, nonce: [u8; 12], bound: &Context, sealed: &[u8]) -> Result<Vec<u8>, Untrue> {
        let mut text = sealed.to_vec();
        let opened = self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound.bytes()), &mut text);
        let length = opened.map_err(|_| Untrue::Seal)?.len();
        text.truncate(length);
        Ok(text)
    }
}

impl fmt::Debug for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[room key]")
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[message key]")
    }
}
