//! A message on its way: the bytes that are published on a room's subject.
//!
//! ```text
//! version   1 byte   1 or 2
//! flags     1 byte   1: sealed, 2: signed, 4: several messages (version 1 only)
//! id       16 bytes  UUID of version 7
//! epoch     4 bytes  of the key, most significant first; 0 in clear
//! roster   32 bytes  version 2 only: head of the room's roster that the sender knows; zero: none
//! length    1 byte   of the sender's handle
//! sender             the sender's handle
//! payload            what is said, or what of it was sealed, the tag at its end
//! signature 64 bytes if signed
//! ```
//!
//! In version 1 the payload is one text, or several, each behind its length. In version 2 it is a list of messages, as `content` has it.

use std::fmt;

use super::content::{self, Content};
use super::context::Context;
use super::encoded::encoded;
use super::epoch::Epoch;
use super::id::MessageId;
use super::recipient::{Signature, verify};
use super::refusal::FrameRefusal;
use super::room_key::{MessageKey, TAG};
use unibus_core::domain::{Handle, Policy, RoomId, Verifier};

pub(super) const SEALED: u8 = 1;
pub(super) const SIGNED: u8 = 2;
pub(super) const SEVERAL: u8 = 4;
/// Bytes that begin a frame of any version.
const START: usize = 22;
const ROSTER: usize = 32;
const SIGNATURE: usize = 64;

encoded! {
    /// Head of a room's roster: SHA-256 of its newest entry.
    RosterHead[ROSTER], "roster head", HEXLOWER, "64 hexadecimal digits"
}

impl RosterHead {
    /// No roster is known.
    pub const NONE: Self = Self([0; ROSTER]);
}

/// How a frame is written. Both versions are read; which one may be written depends on who has to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrameVersion {
    /// As all releases read it: text.
    #[default]
    V1,
    /// What a message is stands with it.
    V2 {
        /// Head of the room's roster that the sender knows.
        roster: RosterHead,
    },
}

/// What stands at the beginning of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// How it is written.
    pub version: FrameVersion,
    /// Its id.
    pub id: MessageId,
    /// Epoch of the key that it is sealed with; none: it is in clear.
    pub epoch: Option<Epoch>,
    /// Whose it says that it is.
    pub sender: Handle,
    /// It says that it carries several messages. Of version 2 that is seen when it is opened.
    pub several: bool,
}

/// A frame, taken apart.
pub struct Frame<'a> {
    /// What it says of itself, proven by nothing yet.
    pub header: Header,
    whole: &'a [u8],
    head: &'a [u8],
    payload: &'a [u8],
    signature: Option<Signature>,
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:?})", self.header)
    }
}

impl FrameVersion {
    /// The byte that a frame begins with.
    pub fn number(self) -> u8 {
        match self {
            FrameVersion::V1 => 1,
            FrameVersion::V2 { .. } => 2,
        }
    }

    /// What its signatures and seals are bound to before anything else.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            FrameVersion::V1 => ("unibus.frame.1", "unibus.frame-signature.1"),
            FrameVersion::V2 { .. } => ("unibus.frame.2", "unibus.frame-signature.2"),
        }
    }

    /// What is bound to its seal.
    pub(super) fn bound(self, room: &RoomId, subject: &str, head: &[u8]) -> Context {
        Context::new(self.labels().0).and(room.as_str()).and(subject).and(head)
    }

    /// What its sender signs.
    pub(super) fn statement(self, room: &RoomId, subject: &str, head: &[u8], payload: &[u8]) -> Context {
        Context::new(self.labels().1).and(room.as_str()).and(subject).and(head).and(payload)
    }
}

impl<'a> Frame<'a> {
    /// Takes a frame apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameRefusal> {
        let short = || FrameRefusal::Malformed("it is too short");
        let (start, rest) = bytes.split_first_chunk::<START>().ok_or_else(short)?;
        let [number, flags, middle @ ..] = start;
        let known = match number {
            1 => SEALED | SIGNED | SEVERAL,
            2 => SEALED | SIGNED,
            _ => return Err(FrameRefusal::Malformed("it is of another version")),
        };
        if flags & !known != 0 {
            return Err(FrameRefusal::Malformed("it has flags that nobody knows"));
        }
        let (id, epoch) = middle.split_first_chunk::<16>().ok_or_else(short)?;
        let id = MessageId::from_bytes(*id).ok_or(FrameRefusal::Malformed("its id is no UUID of version 7"))?;
        let epoch = epoch.try_into().map(u32::from_be_bytes).map_err(|_| short())?;
        let epoch = Epoch::new(epoch);
        if epoch.is_some() != (flags & SEALED != 0) {
            return Err(FrameRefusal::Malformed("what is sealed has an epoch, and nothing else"));
        }
        let (version, rest) = match number {
            1 => (FrameVersion::V1, rest),
            _ => {
                let (roster, rest) = rest.split_first_chunk::<ROSTER>().ok_or_else(short)?;
                (FrameVersion::V2 { roster: RosterHead::from_bytes(*roster) }, rest)
            }
        };
        let (length, rest) = rest.split_first().ok_or_else(short)?;
        let (sender, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(short)?;
        let handle = std::str::from_utf8(sender).ok().and_then(|sender| sender.parse().ok());
        let sender = handle.ok_or(FrameRefusal::Malformed("its sender is no handle"))?;
        let (payload, signature) = match flags & SIGNED != 0 {
            true => {
                let (payload, signature) = rest.split_last_chunk::<SIGNATURE>().ok_or_else(short)?;
                (payload, Some(Signature::from_bytes(*signature)))
            }
            false => (rest, None),
        };
        if version != FrameVersion::V1 && epoch.is_some() && payload.len() < TAG {
            return Err(FrameRefusal::Malformed("it is too short for what is sealed"));
        }
        let head = bytes.get(..bytes.len() - rest.len()).ok_or_else(short)?;
        let header = Header { version, id, epoch, sender, several: flags & SEVERAL != 0 };
        Ok(Self { header, whole: bytes, head, payload, signature })
    }

    /// Whether it carries a signature.
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// All that can be proven without the room's key, as the keeper of a history has to: that it is not too large to be kept, is
    /// sealed and signed as the policy asks, in `room` and on `subject`, and that its messages can be told apart where they are in
    /// clear. `sender` is the key of whom the header names, none if there is no such user. Whether that user may speak there,
    /// and whether it came at its time ([`timely`](super::timely)), is for the caller; where it is unsigned, anybody made it.
    pub fn prove(
        &self,
        room: &RoomId,
        subject: &str,
        policy: Policy,
        sender: Option<&Verifier>,
    ) -> Result<&Header, FrameRefusal> {
        if self.whole.len() > super::FRAME_BYTES {
            return Err(FrameRefusal::TooLarge(self.whole.len()));
        }
        self.hold(room, subject, policy, sender)?;
        if self.header.epoch.is_none() {
            self.contents(self.payload)?;
        }
        Ok(&self.header)
    }

    /// What it says, once it is proven that its sender said it, in `room` and on `subject`: `sender` is the sender's key, none if
    /// no user has the handle; `key` is the sender's key in the epoch that the header names, none if the reader does not have it.
    /// More than the policy asks for is taken, less is not.
    pub fn open(
        &self,
        room: &RoomId,
        subject: &str,
        policy: Policy,
        sender: Option<&Verifier>,
        key: Option<&MessageKey>,
    ) -> Result<Vec<Content>, FrameRefusal> {
        self.hold(room, subject, policy, sender)?;
        let Some(epoch) = self.header.epoch else { return self.contents(self.payload) };
        let key = key.ok_or(FrameRefusal::NoKey(epoch))?;
        let bound = self.header.version.bound(room, subject, self.head);
        let opened = key.open(self.header.id.nonce(), &bound, self.payload);
        self.contents(&opened.map_err(|untrue| FrameRefusal::Untrue(self.header.sender.clone(), untrue))?)
    }

    /// Holds it to the policy, and its signature to its sender.
    fn hold(
        &self,
        room: &RoomId,
        subject: &str,
        policy: Policy,
        sender: Option<&Verifier>,
    ) -> Result<(), FrameRefusal> {
        if policy.encrypt && self.header.epoch.is_none() {
            return Err(FrameRefusal::Clear);
        }
        if policy.sign && self.signature.is_none() {
            return Err(FrameRefusal::Unsigned);
        }
        let Some(signature) = self.signature else { return Ok(()) };
        let whose = || self.header.sender.clone();
        let sender = sender.ok_or_else(|| FrameRefusal::NoSender(whose()))?;
        let statement = self.header.version.statement(room, subject, self.head, self.payload);
        verify(Some(sender), &statement, signature).map_err(|untrue| FrameRefusal::Untrue(whose(), untrue))
    }

    fn contents(&self, payload: &[u8]) -> Result<Vec<Content>, FrameRefusal> {
        match self.header.version {
            FrameVersion::V1 if self.header.several => split(payload),
            FrameVersion::V1 => Ok(vec![Content::text(payload)]),
            FrameVersion::V2 { .. } => content::listed(payload),
        }
    }
}

/// Takes several messages of version 1 apart.
pub(super) fn split(mut payload: &[u8]) -> Result<Vec<Content>, FrameRefusal> {
    let mut contents = Vec::new();
    while !payload.is_empty() {
        let (text, rest) = content::measured(payload)?;
        contents.push(Content::text(text));
        payload = rest;
    }
    Ok(contents)
}

#[cfg(test)]
mod tests;
