//! A message on its way: the bytes that are published on a room's subject.
//!
//! ```text
//! version   1 byte   1
//! flags     1 byte   1: sealed, 2: signed, 4: several messages
//! id       16 bytes  UUID of version 7
//! epoch     4 bytes  of the key, most significant first; 0 in clear
//! length    1 byte   of the sender's handle
//! sender             his handle
//! payload            what is said, or what of it was sealed, the tag at its end
//! signature 64 bytes if signed
//! ```

use std::fmt;

use nkeys::KeyPair;

use super::Untrue;
use super::context::Context;
use super::epoch::Epoch;
use super::id::MessageId;
use super::recipient::{Signature, sign, verify};
use super::room_key::{MessageKey, RoomKey};
use unibus_core::domain::{Handle, Policy, RoomId, Verifier};

const VERSION: u8 = 1;
const SEALED: u8 = 1;
const SIGNED: u8 = 2;
const SEVERAL: u8 = 4;
/// Bytes before the sender.
const FIXED: usize = 23;
const SIGNATURE: usize = 64;

/// Why a frame is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameRefusal {
    /// It is no frame.
    #[error("it is no message of unibus: {0}")]
    Malformed(&'static str),
    /// The room's messages have to be sealed.
    #[error("it is in clear, and the room's messages have to be sealed")]
    Clear,
    /// The room's messages have to be signed.
    #[error("it is unsigned, and the room's messages have to be signed")]
    Unsigned,
    /// It is sealed with the key of an epoch that the reader does not have.
    #[error("it is sealed with the key of epoch {0}, which is not sealed for you")]
    NoKey(Epoch),
    /// Nobody has this handle.
    #[error("it names {0} as its sender, and there is no such user")]
    NoSender(Handle),
    /// It is not what its sender made.
    #[error("it names {0} as its sender, but {1}")]
    Untrue(Handle, Untrue),
    /// It came before.
    #[error("it has come before: somebody sent it again")]
    Replayed,
    /// It was not made when it came.
    #[error("it was made {0} s before or after it came: it is an old one sent again, or a clock is wrong")]
    WrongTime(u64),
}

/// What stands at the beginning of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its id.
    pub id: MessageId,
    /// Epoch of the key that it is sealed with; none: it is in clear.
    pub epoch: Option<Epoch>,
    /// Whose it says that it is.
    pub sender: Handle,
    /// It carries several messages.
    pub several: bool,
}

/// A frame, taken apart.
pub struct Frame<'a> {
    /// What it says of itself, proven by nothing yet.
    pub header: Header,
    head: &'a [u8],
    payload: &'a [u8],
    signature: Option<Signature>,
}

/// Makes the frames of one sender in one room.
pub struct Sealer {
    room: RoomId,
    sender: Handle,
    pair: Option<KeyPair>,
    key: Option<(Epoch, MessageKey)>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} in {})", self.sender, self.room)
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({:?})", self.header)
    }
}

impl Sealer {
    /// For `sender` in `room`: signs if there is a `pair`, seals if there is a key.
    pub fn new(
        room: RoomId,
        sender: Handle,
        pair: Option<KeyPair>,
        key: Option<(Epoch, &RoomKey)>,
    ) -> Result<Self, Untrue> {
        let derived = |(epoch, key): (Epoch, &RoomKey)| Ok((epoch, key.message_key(&room, epoch, &sender)?));
        let key = key.map(derived).transpose()?;
        Ok(Self { room, sender, pair, key })
    }

    /// The epoch in which it seals.
    pub fn epoch(&self) -> Option<Epoch> {
        self.key.as_ref().map(|(epoch, _)| *epoch)
    }

    /// A frame with these messages, to be published on `subject`. No id may be used for two frames.
    pub fn seal<T: AsRef<[u8]>>(&self, subject: &str, id: MessageId, messages: &[T]) -> Result<Vec<u8>, Untrue> {
        let several = messages.len() != 1;
        let mut payload = Vec::new();
        for message in messages.iter().map(AsRef::as_ref) {
            if several {
                let length = u32::try_from(message.len()).map_err(|_| Untrue::Seal)?;
                payload.extend_from_slice(&length.to_be_bytes());
            }
            payload.extend_from_slice(message);
        }
        let flag = |set: bool, flag| if set { flag } else { 0 };
        let flags = flag(self.key.is_some(), SEALED) | flag(self.pair.is_some(), SIGNED) | flag(several, SEVERAL);
        let length = u8::try_from(self.sender.as_str().len()).map_err(|_| Untrue::Seal)?;
        let mut frame = vec![VERSION, flags];
        frame.extend_from_slice(&id.to_bytes());
        frame.extend_from_slice(&self.epoch().map_or([0; 4], Epoch::to_bytes));
        frame.push(length);
        frame.extend_from_slice(self.sender.as_str().as_bytes());
        if let Some((_, key)) = &self.key {
            key.seal(id.nonce(), &bound(&self.room, subject, &frame), &mut payload)?;
        }
        let signature = self.pair.as_ref().map(|pair| sign(pair, &statement(&self.room, subject, &frame, &payload)));
        frame.append(&mut payload);
        if let Some(signature) = signature {
            frame.extend_from_slice(&signature?.to_bytes());
        }
        Ok(frame)
    }
}

impl<'a> Frame<'a> {
    /// Takes a frame apart.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameRefusal> {
        let short = FrameRefusal::Malformed("it is too short");
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(short.clone())?;
        let [version, flags, middle @ .., length] = fixed;
        if *version != VERSION {
            return Err(FrameRefusal::Malformed("it is of another version"));
        }
        if flags & !(SEALED | SIGNED | SEVERAL) != 0 {
            return Err(FrameRefusal::Malformed("it has flags that nobody knows"));
        }
        let (id, epoch) = middle.split_first_chunk::<16>().ok_or(short.clone())?;
        let id = MessageId::from_bytes(*id).ok_or(FrameRefusal::Malformed("its id is no UUID of version 7"))?;
        let epoch = epoch.try_into().map(u32::from_be_bytes).map_err(|_| short.clone())?;
        let epoch = Epoch::new(epoch);
        if epoch.is_some() != (flags & SEALED != 0) {
            return Err(FrameRefusal::Malformed("what is sealed has an epoch, and nothing else"));
        }
        let (sender, rest) = rest.split_at_checked(usize::from(*length)).ok_or(short.clone())?;
        let handle = std::str::from_utf8(sender).ok().and_then(|sender| sender.parse().ok());
        let sender = handle.ok_or(FrameRefusal::Malformed("its sender is no handle"))?;
        let (payload, signature) = match flags & SIGNED != 0 {
            true => {
                let (payload, signature) = rest.split_last_chunk::<SIGNATURE>().ok_or(short.clone())?;
                (payload, Some(Signature::from_bytes(*signature)))
            }
            false => (rest, None),
        };
        let head = bytes.get(..bytes.len() - rest.len()).ok_or(short)?;
        let header = Header { id, epoch, sender, several: flags & SEVERAL != 0 };
        Ok(Self { header, head, payload, signature })
    }

    /// Whether it carries a signature.
    pub fn is_signed(&self) -> bool {
        self.signature.is_some()
    }

    /// What it says, once it is proven that its sender said it, in `room` and on `subject`: `sender` is his key, none if nobody
    /// has the handle; `key` is his key in the epoch that the header names, none if the reader does not have it. More than
    /// the policy asks for is taken, less is not.
    pub fn open(
        &self,
        room: &RoomId,
        subject: &str,
        policy: Policy,
        sender: Option<&Verifier>,
        key: Option<&MessageKey>,
    ) -> Result<Vec<Vec<u8>>, FrameRefusal> {
        let whose = || self.header.sender.clone();
        if policy.encrypt && self.header.epoch.is_none() {
            return Err(FrameRefusal::Clear);
        }
        if policy.sign && self.signature.is_none() {
            return Err(FrameRefusal::Unsigned);
        }
        let untrue = |untrue| FrameRefusal::Untrue(whose(), untrue);
        if let Some(signature) = self.signature {
            let sender = sender.ok_or_else(|| FrameRefusal::NoSender(whose()))?;
            verify(Some(sender), &statement(room, subject, self.head, self.payload), signature).map_err(untrue)?;
        }
        let payload = match self.header.epoch {
            Some(epoch) => {
                let key = key.ok_or(FrameRefusal::NoKey(epoch))?;
                key.open(self.header.id.nonce(), &bound(room, subject, self.head), self.payload).map_err(untrue)?
            }
            None => self.payload.to_vec(),
        };
        if self.header.several { split(&payload) } else { Ok(vec![payload]) }
    }
}

/// Takes several messages apart.
pub(super) fn split(mut payload: &[u8]) -> Result<Vec<Vec<u8>>, FrameRefusal> {
    let short = FrameRefusal::Malformed("one of its messages is cut off");
    let mut messages = Vec::new();
    while !payload.is_empty() {
        let (length, rest) = payload.split_first_chunk::<4>().ok_or(short.clone())?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short.clone())?;
        let (message, rest) = rest.split_at_checked(length).ok_or(short.clone())?;
        messages.push(message.to_vec());
        payload = rest;
    }
    Ok(messages)
}

fn bound(room: &RoomId, subject: &str, head: &[u8]) -> Context {
    Context::new("unibus.frame.1").and(room.as_str()).and(subject).and(head)
}

fn statement(room: &RoomId, subject: &str, head: &[u8], payload: &[u8]) -> Context {
    let context = Context::new("unibus.frame-signature.1").and(room.as_str()).and(subject);
    context.and(head).and(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_core::domain::SignPub;

    const SUBJECT: &str = "room.kitchen";

    struct Sender {
        pair: KeyPair,
        key: RoomKey,
    }

    impl Sender {
        fn new() -> Self {
            Self { pair: KeyPair::new_user(), key: RoomKey::from_bytes([9; 32]) }
        }

        fn seal(&self, sealed: bool, signed: bool, messages: &[&str]) -> Vec<u8> {
            let pair = signed.then(|| KeyPair::from_seed(&self.pair.seed().unwrap()).unwrap());
            let key = sealed.then_some((Epoch::FIRST, &self.key));
            let sealer = Sealer::new(room(), "alice".parse().unwrap(), pair, key).unwrap();
            sealer.seal(SUBJECT, id(), messages).unwrap()
        }

        fn open(&self, frame: &[u8], room: &RoomId, subject: &str) -> Result<Vec<Vec<u8>>, FrameRefusal> {
            let frame = Frame::parse(frame)?;
            let sender = SignPub::from_nkey(&self.pair.public_key()).unwrap().verifier();
            let key = self.key.message_key(room, frame.header.epoch.unwrap_or(Epoch::FIRST), &frame.header.sender);
            frame.open(room, subject, Policy::CONVERSATION, sender.as_ref(), Some(&key.unwrap()))
        }
    }

    fn room() -> RoomId {
        "kitchen".parse().unwrap()
    }

    fn id() -> MessageId {
        MessageId::new(1_700_000_000_000, [3; 10])
    }

    #[test]
    fn what_was_said_is_read_by_whoever_has_the_key_and_nothing_else_is() {
        let sender = Sender::new();
        for messages in [&["hello"][..], &["one", "", "three"], &[]] {
            let frame = sender.seal(true, true, messages);
            let read = sender.open(&frame, &room(), SUBJECT).unwrap();
            assert_eq!(read, messages.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
            assert!(!frame.windows(5).any(|window| window == b"hello"));
        }
        let frame = sender.seal(true, true, &["hello"]);
        let other = "cellar".parse().unwrap();
        let untrue = |untrue| Err(FrameRefusal::Untrue("alice".parse().unwrap(), untrue));
        assert_eq!(sender.open(&frame, &other, SUBJECT), untrue(Untrue::Signature));
        assert_eq!(sender.open(&frame, &room(), "room.cellar"), untrue(Untrue::Signature));
        let unsigned = sender.seal(true, false, &["hello"]);
        let parsed = Frame::parse(&unsigned).unwrap();
        let telemetry = Policy { sign: false, ..Policy::CONVERSATION };
        let key = |room: &RoomId, epoch: Epoch, who: &str| {
            sender.key.message_key(room, epoch, &who.parse().unwrap()).unwrap()
        };
        let open = |key: &MessageKey, subject| parsed.open(&room(), subject, telemetry, None, Some(key));
        assert!(open(&key(&room(), Epoch::FIRST, "alice"), SUBJECT).is_ok());
        assert_eq!(open(&key(&room(), Epoch::FIRST, "alice"), "room.cellar"), untrue(Untrue::Seal));
        assert_eq!(open(&key(&other, Epoch::FIRST, "alice"), SUBJECT), untrue(Untrue::Seal));
        assert_eq!(open(&key(&room(), Epoch::FIRST, "bob"), SUBJECT), untrue(Untrue::Seal));
        assert_eq!(open(&key(&room(), Epoch::FIRST.next().unwrap(), "alice"), SUBJECT), untrue(Untrue::Seal));
    }

    #[test]
    fn less_than_the_policy_asks_for_is_refused_and_more_is_taken() {
        let sender = Sender::new();
        assert_eq!(sender.open(&sender.seal(false, true, &["x"]), &room(), SUBJECT), Err(FrameRefusal::Clear));
        assert_eq!(sender.open(&sender.seal(true, false, &["x"]), &room(), SUBJECT), Err(FrameRefusal::Unsigned));
        let frame = sender.seal(true, true, &["x"]);
        let parsed = Frame::parse(&frame).unwrap();
        let none = |policy| parsed.open(&room(), SUBJECT, policy, None, None);
        assert_eq!(none(Policy::CONVERSATION), Err(FrameRefusal::NoSender("alice".parse().unwrap())));
        let clear = sender.seal(false, false, &["x"]);
        let open = Policy { encrypt: false, persist: false, sign: false };
        let read = Frame::parse(&clear).unwrap().open(&room(), SUBJECT, open, None, None);
        assert_eq!(read.unwrap(), [b"x"]);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let sender = Sender::new();
        let frame = sender.seal(true, true, &["hello"]);
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 0x10;
            assert!(sender.open(&changed, &room(), SUBJECT).is_err(), "byte {at}");
            assert!(sender.open(&frame[..at], &room(), SUBJECT).is_err(), "the first {at} bytes");
        }
    }

    #[test]
    fn a_bundle_that_lies_about_its_lengths_is_refused() {
        for bad in [&[0, 0, 0][..], &[0, 0, 0, 2, 1], &[0xff; 4], &[0, 0, 0, 0, 1]] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
        assert_eq!(split(&[0, 0, 0, 0, 0, 0, 0, 1, 7]).unwrap(), [vec![], vec![7]]);
    }
}
