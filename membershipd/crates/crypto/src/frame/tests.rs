//! Frames of both versions: read, refused, and proven without a key.

use super::*;
use crate::{RoomKey, Sealer, Untrue};
use nkeys::KeyPair;
use unibus_core::domain::SignPub;

const SUBJECT: &str = "room.kitchen";
const V2: FrameVersion = FrameVersion::V2 { roster: RosterHead::NONE };
const OPEN: Policy = Policy { encrypt: false, persist: false, sign: false };

struct Sender {
    version: FrameVersion,
    pair: KeyPair,
    key: RoomKey,
}

impl Sender {
    fn new(version: FrameVersion) -> Self {
        Self { version, pair: KeyPair::new_user(), key: RoomKey::from_bytes([9; 32]) }
    }

    fn verifier(&self) -> Option<Verifier> {
        SignPub::from_nkey(&self.pair.public_key()).unwrap().verifier()
    }

    fn sealer(&self, sealed: bool, signed: bool) -> Sealer {
        let pair = signed.then(|| KeyPair::from_seed(&self.pair.seed().unwrap()).unwrap());
        let key = sealed.then_some((Epoch::FIRST, &self.key));
        Sealer::new(room(), "alice".parse().unwrap(), pair, key).unwrap().writing(self.version)
    }

    fn seal(&self, sealed: bool, signed: bool, messages: &[&str]) -> Vec<u8> {
        self.sealer(sealed, signed).seal(SUBJECT, id(), messages).unwrap()
    }

    fn open(&self, frame: &[u8], room: &RoomId, subject: &str) -> Result<Vec<Content>, FrameRefusal> {
        let frame = Frame::parse(frame)?;
        let key = self.key.message_key(room, frame.header.epoch.unwrap_or(Epoch::FIRST), &frame.header.sender);
        frame.open(room, subject, Policy::CONVERSATION, self.verifier().as_ref(), Some(&key.unwrap()))
    }

    fn prove(&self, frame: &[u8], room: &RoomId, subject: &str, policy: Policy) -> Result<Header, FrameRefusal> {
        Frame::parse(frame)?.prove(room, subject, policy, self.verifier().as_ref()).cloned()
    }
}

fn senders() -> [Sender; 2] {
    [FrameVersion::V1, V2].map(Sender::new)
}

fn room() -> RoomId {
    "kitchen".parse().unwrap()
}

fn id() -> MessageId {
    MessageId::new(1_700_000_000_000, [3; 10])
}

fn untrue<T>(untrue: Untrue) -> Result<T, FrameRefusal> {
    Err(FrameRefusal::Untrue("alice".parse().unwrap(), untrue))
}

#[test]
fn what_was_said_is_read_by_whoever_has_the_key_and_nothing_else_is() {
    for sender in senders() {
        for messages in [&["hello"][..], &["one", "", "three"], &[]] {
            let frame = sender.seal(true, true, messages);
            let read = sender.open(&frame, &room(), SUBJECT).unwrap();
            assert_eq!(read, messages.iter().map(Content::text).collect::<Vec<_>>());
            assert!(!frame.windows(5).any(|window| window == b"hello"));
        }
        let frame = sender.seal(true, true, &["hello"]);
        let other = "cellar".parse().unwrap();
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
}

#[test]
fn less_than_the_policy_asks_for_is_refused_and_more_is_taken() {
    for sender in senders() {
        assert_eq!(sender.open(&sender.seal(false, true, &["x"]), &room(), SUBJECT), Err(FrameRefusal::Clear));
        assert_eq!(sender.open(&sender.seal(true, false, &["x"]), &room(), SUBJECT), Err(FrameRefusal::Unsigned));
        let frame = sender.seal(true, true, &["x"]);
        let parsed = Frame::parse(&frame).unwrap();
        let none = parsed.open(&room(), SUBJECT, Policy::CONVERSATION, None, None);
        assert_eq!(none, Err(FrameRefusal::NoSender("alice".parse().unwrap())));
        let clear = sender.seal(false, false, &["x"]);
        let read = Frame::parse(&clear).unwrap().open(&room(), SUBJECT, OPEN, None, None);
        assert_eq!(read.unwrap(), [Content::text("x")]);
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    for sender in senders() {
        let frame = sender.seal(true, true, &["hello"]);
        for at in 0..frame.len() {
            let mut changed = frame.clone();
            changed[at] ^= 0x10;
            assert!(sender.open(&changed, &room(), SUBJECT).is_err(), "byte {at}");
            assert!(sender.open(&frame[..at], &room(), SUBJECT).is_err(), "the first {at} bytes");
            // A reader without the key notices it too.
            assert!(sender.prove(&changed, &room(), SUBJECT, Policy::CONVERSATION).is_err(), "byte {at}");
        }
    }
}

#[test]
fn what_a_keeper_proves_is_what_a_reader_would_and_needs_no_key() {
    for sender in senders() {
        let both = Policy::CONVERSATION;
        let frame = sender.seal(true, true, &["hello"]);
        let header = sender.prove(&frame, &room(), SUBJECT, both).unwrap();
        assert_eq!((header.version, header.sender.as_str(), header.id), (sender.version, "alice", id()));
        assert_eq!(sender.prove(&frame, &"cellar".parse().unwrap(), SUBJECT, both), untrue(Untrue::Signature));
        assert_eq!(sender.prove(&frame, &room(), "room.cellar", both), untrue(Untrue::Signature));
        let none = Frame::parse(&frame).unwrap().prove(&room(), SUBJECT, both, None).cloned();
        assert_eq!(none, Err(FrameRefusal::NoSender("alice".parse().unwrap())));
        let clear = sender.seal(false, true, &["x"]);
        assert_eq!(sender.prove(&clear, &room(), SUBJECT, both), Err(FrameRefusal::Clear));
        let unsigned = sender.seal(true, false, &["x"]);
        assert_eq!(sender.prove(&unsigned, &room(), SUBJECT, both), Err(FrameRefusal::Unsigned));
        // In clear the messages are looked at as well.
        let mut cut = sender.seal(false, false, &["one", "two"]);
        assert!(sender.prove(&cut, &room(), SUBJECT, OPEN).is_ok());
        cut.pop();
        assert_eq!(sender.prove(&cut, &room(), SUBJECT, OPEN).unwrap_err().code(), "malformed");
        let most = "x".repeat(crate::FRAME_BYTES - sender.seal(true, true, &[""]).len());
        assert!(sender.prove(&sender.seal(true, true, &[&most]), &room(), SUBJECT, both).is_ok());
        let large = sender.seal(true, true, &[&(most + "x")]);
        let refused = FrameRefusal::TooLarge(crate::FRAME_BYTES + 1);
        assert_eq!(sender.prove(&large, &room(), SUBJECT, both), Err(refused));
    }
}

#[test]
fn one_version_is_never_taken_for_the_other_and_the_roster_is_signed() {
    let roster = RosterHead::from_bytes([6; 32]);
    let sender = Sender::new(FrameVersion::V2 { roster });
    let frame = sender.seal(true, true, &["hello"]);
    assert_eq!(Frame::parse(&frame).unwrap().header.version, FrameVersion::V2 { roster });
    let without = [&[1], &frame[1..22], &frame[54..]].concat();
    assert_eq!(sender.open(&without, &room(), SUBJECT), untrue(Untrue::Signature));
    let first = Sender { version: FrameVersion::V1, ..sender };
    let with = first.seal(true, true, &["hello"]);
    let with = [&[2], &with[1..22], &[0; 32][..], &with[22..]].concat();
    assert_eq!(first.open(&with, &room(), SUBJECT), untrue(Untrue::Signature));
}

#[test]
fn other_contents_go_with_version_2_only_and_are_not_to_be_seen() {
    let name = "cat.png".parse().unwrap();
    let contents = [
        Content::Attachment(crate::Attachment { sha256: [7; 32], size: 12, name }),
        Content::Unknown { kind: 9, body: b"later".to_vec() },
        Content::text("look"),
    ];
    let [first, second] = senders();
    let frame = second.sealer(true, true).seal_contents(SUBJECT, id(), &contents).unwrap();
    assert_eq!(second.open(&frame, &room(), SUBJECT).unwrap(), contents);
    // A server sees how long it is, and nothing else that a text of that length would not show.
    let text = "x".repeat(32 + 8 + 7 + 5 + 5 + 5 + 4);
    let text = second.seal(true, true, &[&text]);
    assert_eq!((text.len(), &text[..60]), (frame.len(), &frame[..60]));
    for content in &contents[..2] {
        let refused = first.sealer(true, true).seal_contents(SUBJECT, id(), std::slice::from_ref(content));
        assert_eq!(refused, Err(Untrue::TextOnly));
    }
}

#[test]
fn a_bundle_that_lies_about_its_lengths_is_refused() {
    for bad in [&[0, 0, 0][..], &[0, 0, 0, 2, 1], &[0xff; 4], &[0, 0, 0, 0, 1]] {
        assert!(split(bad).is_err(), "{bad:?}");
    }
    assert_eq!(split(&[0, 0, 0, 0, 0, 0, 0, 1, 7]).unwrap(), [Content::text(""), Content::text([7])]);
}
