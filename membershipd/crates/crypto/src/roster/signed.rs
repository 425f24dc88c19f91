//! An entry as it is kept and sent: encoded, and signed.

use nkeys::KeyPair;
use sha2::{Digest, Sha256};

use super::encoding::{body, is_doubly_signed, read};
use super::entry::{Entry, Head};
use super::limits::FIRST_ENTRY_BYTES;
use super::link::InviteKey;
use super::refusal::RosterRefusal;
use crate::Untrue;
use crate::context::Context;
use crate::frame::RosterHead;
use crate::recipient::{Signature, sign, verify};
use unibus_core::domain::SignPub;

/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// An entry with its signatures, in its one encoding. Nothing is proven of it before it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEntry {
    entry: Entry,
    /// Body and signatures.
    bytes: Vec<u8>,
    /// Bytes of the body.
    body: usize,
}

impl SignedEntry {
    /// Signs `entry` with the actor's key pair; `invite` is the key of the link with which the actor comes in, where they do.
    ///
    /// # Errors
    /// `pair` or `invite` is not the one that the entry names, or no log can have such an entry.
    pub fn sign(entry: &Entry, pair: &KeyPair, invite: Option<&InviteKey>) -> Result<Self, RosterRefusal> {
        let is_actor = SignPub::from_nkey(&pair.public_key()).is_ok_and(|key| key == entry.actor_key);
        if !is_actor {
            return Err(RosterRefusal::OtherKey(entry.actor.clone()));
        }
        if invite.map(InviteKey::public) != entry.action.invite_key() {
            return Err(RosterRefusal::InviteSignature(entry.actor.clone()));
        }
        let context = body(entry);
        let signature = sign(pair, &context).map_err(|_| RosterRefusal::Signature(entry.actor.clone()))?;
        let mut bytes = [context.bytes(), &signature.to_bytes()].concat();
        if let Some(invite) = invite {
            let signature = sign(invite.pair(), &invite_statement(context.bytes()));
            let signature = signature.map_err(|_| RosterRefusal::InviteSignature(entry.actor.clone()))?;
            bytes.extend_from_slice(&signature.to_bytes());
        }
        Self::decode(&bytes)
    }

    /// Reads an encoded entry. Refuses what is not in its one encoding; signatures are checked when it is applied.
    pub fn decode(bytes: &[u8]) -> Result<Self, RosterRefusal> {
        if bytes.len() > FIRST_ENTRY_BYTES {
            return Err(RosterRefusal::TooLarge(bytes.len()));
        }
        let signatures = if is_doubly_signed(bytes) { 2 * SIGNATURE } else { SIGNATURE };
        let length = bytes.len().checked_sub(signatures).ok_or(RosterRefusal::Malformed("it is cut off"))?;
        let entry = read(bytes.get(..length).unwrap_or_default())?;
        Ok(Self { entry, bytes: bytes.to_vec(), body: length })
    }

    /// What it says.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its hash, signatures included.
    pub fn hash(&self) -> RosterHead {
        RosterHead::from_bytes(Sha256::digest(&self.bytes).into())
    }

    /// The head of a log that ends with it.
    pub fn head(&self) -> Head {
        Head { number: self.entry.number, hash: self.hash() }
    }

    /// Checks its signatures, strictly, with the keys that it names. Whether these are the right ones only the log tells.
    pub fn prove(&self) -> Result<(), RosterRefusal> {
        let actor = || self.entry.actor.clone();
        let (body, signatures) = self.bytes.split_at_checked(self.body).unwrap_or_default();
        let (first, second) = signatures.split_at_checked(SIGNATURE).unwrap_or_default();
        if !self.entry.actor_key.verifies(body, first) {
            return Err(RosterRefusal::Signature(actor()));
        }
        let Some(invite) = self.entry.action.invite_key() else { return Ok(()) };
        let second = second.try_into().map(Signature::from_bytes).map_err(|_| Untrue::Signature);
        let good = second.and_then(|second| verify(invite.verifier().as_ref(), &invite_statement(body), second));
        good.map_err(|_| RosterRefusal::InviteSignature(actor()))
    }
}

/// What the holder of a link signs with the invite key.
fn invite_statement(body: &[u8]) -> Context {
    Context::new("unibus.roster-invite.1").and(body)
}
