//! What the maker of a room's key signs about it: at which head of the log it was made, for whom, and which key came before.
//!
//! A server can keep an epoch back, or show an old one. It can make none, change none, and add no recipient to one.

use nkeys::KeyPair;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::state::State;
use super::takings::Takings;
use crate::context::Context;
use crate::encoded::encoded;
use crate::epoch::Epoch;
use crate::frame::RosterHead;
use crate::recipient::{Recipient, Signature, sign, verify};
use crate::room_key::KeyId;
use crate::{Untrue, roster::state::Moment};
use unibus_core::domain::{Handle, MemberState, RoomId, RoomRole};

encoded! {
    /// SHA-256 over a room and a list of recipients, in the order of their handles.
    RecipientsHash[32], "hash of recipients", HEXLOWER, "64 hexadecimal digits"
}

/// What the maker of a key says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochStatement {
    /// The room.
    pub room: RoomId,
    /// The epoch.
    pub epoch: Epoch,
    /// Which key it is.
    pub key: KeyId,
    /// Which key the epoch before has; none: this is the first.
    pub previous: Option<KeyId>,
    /// Head of the log by which its recipients were chosen.
    pub head: RosterHead,
    /// The member who made it.
    pub maker: Handle,
    /// For whom it is sealed.
    pub recipients: RecipientsHash,
}

/// A statement with its maker's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedEpoch {
    /// The statement.
    pub statement: EpochStatement,
    /// The maker's signature.
    pub signature: Signature,
}

/// An epoch that is what its maker made, for people who were in the room. A reader needs no more; a sender asks for [`State::staleness`]
/// as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenEpoch {
    /// Number of the entry at whose head it was made.
    pub made_at: u32,
    /// For whom it is sealed.
    pub recipients: Vec<Recipient>,
}

/// Why an epoch is not as it should be for saying something: begin a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Staleness {
    /// It is sealed for them, and they should not have it any more.
    pub gone: Vec<Handle>,
    /// They should have it, and it is not sealed for them.
    pub missing: Vec<Handle>,
}

impl Staleness {
    /// Whether the epoch may be used to say something.
    pub fn is_fresh(&self) -> bool {
        self.gone.is_empty() && self.missing.is_empty()
    }
}

/// Why an epoch is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochRefusal {
    /// It is of another room.
    #[error("the key is of room '{0}'")]
    ForeignRoom(RoomId),
    /// It was made at a head that the log does not have. Fetch the log first: if it is still so, the server shows two logs.
    #[error("the key was made at a head that the log of this room does not have")]
    UnknownHead,
    /// Its maker was not in the room, or could only read.
    #[error("the key was made by '{0}', who could not speak in the room at that time")]
    Maker(Handle),
    /// The signature is not that of its maker.
    #[error("the key is not signed by '{0}', whom it names as its maker")]
    Signature(Handle),
    /// It is sealed for a user who was neither in the room nor invited.
    #[error("the key is sealed for '{0}', who was neither in the room nor invited")]
    Stranger(Handle),
    /// The list of recipients is not the one that was signed.
    #[error("the key is sealed for others than its maker signed")]
    Recipients,
    /// It does not follow the epoch before it.
    #[error("the key does not follow the one that this client knows for the epoch before it")]
    Previous,
    /// It was made at an older head than the epoch before it.
    #[error("the key was made by an older list of members than the one before it")]
    WentBack,
}

impl EpochRefusal {
    /// A word for programs: the one in docs/roster.md.
    pub fn code(&self) -> &'static str {
        match self {
            EpochRefusal::ForeignRoom(_) => "foreign-room",
            EpochRefusal::UnknownHead => "unknown-head",
            EpochRefusal::Maker(_) => "maker",
            EpochRefusal::Signature(_) => "signature",
            EpochRefusal::Stranger(_) => "stranger",
            EpochRefusal::Recipients => "recipients",
            EpochRefusal::Previous => "previous",
            EpochRefusal::WentBack => "went-back",
        }
    }
}

/// Why a sender is not one of the room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SenderRefusal {
    /// The message names a head that the log does not have. Fetch the log first.
    #[error("the message names a head that the log of this room does not have")]
    UnknownHead,
    /// The sender could not speak at that head.
    #[error("'{0}' could not speak in the room at that time")]
    MayNotSpeak(Handle),
}

impl RecipientsHash {
    /// Over `recipients`, which are in the order of their handles.
    pub fn of(room: &RoomId, recipients: &[Recipient]) -> Self {
        let context = Context::new("unibus.recipients.1").and(room.as_str());
        let context = recipients.iter().fold(context, |context, person| {
            context.and(person.handle.as_str()).and(person.sign_pub.to_bytes()).and(person.hpke_pub.to_bytes())
        });
        Self::from_bytes(Sha256::digest(context.bytes()).into())
    }
}

impl EpochStatement {
    /// Signs it with its maker's key pair.
    pub fn sign(self, pair: &KeyPair) -> Result<SignedEpoch, Untrue> {
        let signature = sign(pair, &self.context())?;
        Ok(SignedEpoch { statement: self, signature })
    }

    fn context(&self) -> Context {
        let context = Context::new("unibus.epoch.1").and(self.room.as_str()).and(self.epoch.to_bytes());
        // An empty part stands for no key before.
        let previous = self.previous.map(KeyId::to_bytes);
        let context =
            context.and(self.key.to_bytes()).and(previous.as_ref().map_or(&[][..], |previous| previous.as_slice()));
        context.and(self.head.to_bytes()).and(self.maker.as_str()).and(self.recipients.to_bytes())
    }
}

impl State {
    /// Checks an epoch that is sealed for `to`; `before` is the statement of the epoch before it, where this client knows it.
    pub fn check_epoch(
        &self,
        signed: &SignedEpoch,
        to: &[Handle],
        before: Option<&EpochStatement>,
    ) -> Result<ProvenEpoch, EpochRefusal> {
        let statement = &signed.statement;
        if statement.room != self.room {
            return Err(EpochRefusal::ForeignRoom(statement.room.clone()));
        }
        let made_at = self.position(statement.head).ok_or(EpochRefusal::UnknownHead)?;
        let maker = || statement.maker.clone();
        let by = self.speaker_at(&statement.maker, made_at).ok_or_else(|| EpochRefusal::Maker(maker()))?;
        let signer = by.keys.sign_pub.verifier();
        let good = verify(signer.as_ref(), &statement.context(), signed.signature);
        good.map_err(|_| EpochRefusal::Signature(maker()))?;
        let recipients: Result<Vec<_>, _> = to.iter().map(|handle| self.recipient_at(handle, made_at)).collect();
        let mut recipients = recipients?;
        recipients.sort_by(|one, other| one.handle.cmp(&other.handle));
        if RecipientsHash::of(&self.room, &recipients) != statement.recipients {
            return Err(EpochRefusal::Recipients);
        }
        let is_first = statement.epoch == Epoch::FIRST;
        if is_first != statement.previous.is_none() {
            return Err(EpochRefusal::Previous);
        }
        if let Some(before) = before {
            if before.epoch.next() != Some(statement.epoch) || statement.previous != Some(before.key) {
                return Err(EpochRefusal::Previous);
            }
            if self.position(before.head).is_none_or(|earlier| earlier > made_at) {
                return Err(EpochRefusal::WentBack);
            }
        }
        Ok(ProvenEpoch { made_at, recipients })
    }

    /// Whether an epoch may still be used to say something: whether it is sealed for exactly those who get keys now.
    pub fn staleness(&self, epoch: &ProvenEpoch, takings: &Takings) -> Staleness {
        let now = self.recipients(takings);
        let lacks = |from: &[Recipient], those: &[Recipient]| -> Vec<Handle> {
            from.iter().filter(|person| !those.contains(person)).map(|person| person.handle.clone()).collect()
        };
        Staleness { gone: lacks(&epoch.recipients, &now), missing: lacks(&now, &epoch.recipients) }
    }

    /// The key with which `sender`, who knows the log up to `head`, signs messages.
    pub fn check_sender(&self, sender: &Handle, head: RosterHead) -> Result<&Moment, SenderRefusal> {
        let number = self.position(head).ok_or(SenderRefusal::UnknownHead)?;
        self.speaker_at(sender, number).ok_or_else(|| SenderRefusal::MayNotSpeak(sender.clone()))
    }

    fn speaker_at(&self, handle: &Handle, number: u32) -> Option<&Moment> {
        let speaks = |moment: &&Moment| moment.state == MemberState::Joined && moment.role >= RoomRole::Member;
        self.person_at(handle, number).filter(speaks)
    }

    fn recipient_at(&self, handle: &Handle, number: u32) -> Result<Recipient, EpochRefusal> {
        let present = self.person_at(handle, number).filter(|moment| moment.state.is_present());
        let moment = present.ok_or_else(|| EpochRefusal::Stranger(handle.clone()))?;
        Ok(moment.keys.of(handle.clone()))
    }
}
