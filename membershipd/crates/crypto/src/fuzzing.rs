//! The fuzz target of what is published in rooms: frames and attachments, which any member can write, and whoever lies on the way.

use nkeys::{KeyPair, KeyPairType};

use super::content::{Content, list, listed};
use super::frame::split;
use super::{Epoch, Frame, FrameRefusal, FrameVersion, Header, RoomKey, Sealer, blob};
use unibus_core::domain::{Handle, Policy, RoomId, SignPub};

/// Seed of alice's signing key, and the key of her room in every epoch: those of the published examples, which are the seeds.
const ALICE: [u8; 32] = [1; 32];
const KEY: [u8; 32] = *b"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\
                         \x20\x21\x22\x23\x24\x25\x26\x27\x28\x29\x2a\x2b\x2c\x2d\x2e\x2f";
const SUBJECT: &str = "room.kitchen";
const CLEAR: Policy = Policy { encrypt: false, persist: false, sign: false };

/// Reads `data` as a frame and as an attachment that came, and as the text of one that a member has sealed. Holds that
/// - whatever is taken, sealed and signed or in clear, is byte for byte what its sender makes of those messages;
/// - a frame with another bit, and one on another subject, is refused;
/// - a reader without the key proves what is taken, and no signed frame with another bit;
/// - several messages taken apart are all that there was, also those that this program does not know;
/// - an attachment is taken only if it is what was sealed.
pub fn frames(data: &[u8]) {
    let (Ok(room), Ok(alice)) = ("kitchen".parse::<RoomId>(), KeyPair::new_from_raw(KeyPairType::User, ALICE)) else {
        return;
    };
    if let Ok(messages) = split(data) {
        let whole = messages.iter().flat_map(|message| {
            let Content::Text(text) = message else { return vec![] };
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            [&length.to_be_bytes(), &text[..]].concat()
        });
        assert!(whole.eq(data.iter().copied()), "what was taken apart is not what was there: {data:?}");
    }
    if let Ok(contents) = listed(data) {
        assert_eq!(list(&contents).ok().as_deref(), Some(data), "what was taken apart is not what was there");
    }
    let key = RoomKey::from_bytes(KEY);
    attachment(data, &room, &key);
    let Ok(frame) = Frame::parse(data) else { return };
    let whose = SignPub::from_nkey(&alice.public_key()).ok().and_then(|key| key.verifier());
    let own = frame.header.epoch.and_then(|epoch| key.message_key(&room, epoch, &frame.header.sender).ok());
    let open = |frame: &Frame<'_>, subject, policy| frame.open(&room, subject, policy, whose.as_ref(), own.as_ref());
    let proven = |frame: &Frame<'_>, policy| frame.prove(&room, SUBJECT, policy, whose.as_ref()).is_ok();

    match open(&frame, SUBJECT, Policy::CONVERSATION) {
        Ok(messages) => {
            let key = frame.header.epoch.map(|epoch| (epoch, &key));
            made_of(data, &frame.header, &messages, Sealer::new(room.clone(), handle(&frame), Some(alice), key).ok());
            assert!(open(&frame, "room.cellar", Policy::CONVERSATION).is_err(), "{frame:?} is of another subject");
            let other = flipped(data);
            let taken = Frame::parse(&other).and_then(|frame| open(&frame, SUBJECT, Policy::CONVERSATION));
            assert!(taken.is_err(), "a bit of it does not count: {frame:?}");
            assert!(proven(&frame, Policy::CONVERSATION), "who has no key does not prove what is true: {frame:?}");
            let taken = Frame::parse(&other).is_ok_and(|frame| proven(&frame, Policy::CONVERSATION));
            assert!(!taken, "a bit of it does not count where there is no key: {frame:?}");
        }
        Err(FrameRefusal::Clear) if !frame.is_signed() => {
            let opened = open(&frame, SUBJECT, CLEAR);
            assert_eq!(opened.is_ok(), proven(&frame, CLEAR), "a keeper and a reader differ: {frame:?}");
            if let Ok(messages) = opened {
                made_of(data, &frame.header, &messages, Sealer::new(room.clone(), handle(&frame), None, None).ok());
            }
        }
        Err(_) => {}
    }
}

fn handle(frame: &Frame<'_>) -> Handle {
    frame.header.sender.clone()
}

/// In version 1 a sender writes one message without its length; a sender that writes it with its length says the same. In version 2 there
/// is one way.
fn made_of(data: &[u8], header: &Header, contents: &[Content], sealer: Option<Sealer>) {
    let one = header.version == FrameVersion::V1 && header.several && contents.len() == 1;
    let sealer = sealer.map(|sealer| sealer.writing(header.version));
    let again = sealer.and_then(|sealer| sealer.seal_contents(SUBJECT, header.id, contents).ok());
    assert!(one || again.as_deref() == Some(data), "{header:?} is not what its sender makes of {contents:?}");
}

fn attachment(data: &[u8], room: &RoomId, key: &RoomKey) {
    let Ok(plain) = blob::open(room, key, data) else { return };
    let (epoch, salt) = (blob::epoch(data), data.get(5..21).and_then(|salt| salt.try_into().ok()));
    let again = epoch.zip(salt).and_then(|(epoch, salt): (Epoch, _)| blob::seal(room, epoch, key, salt, plain).ok());
    assert_eq!(again.as_deref(), Some(data), "it is not what was sealed");
    assert!(blob::open(room, key, &flipped(data)).is_err(), "a bit of it does not count");
}

/// With one bit changed, which one by the length.
fn flipped(data: &[u8]) -> Vec<u8> {
    let mut other = data.to_vec();
    let at = data.len() * 7 / 11;
    if let Some(byte) = other.get_mut(at) {
        *byte ^= 1 << (data.len() % 8);
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_said_by_alice_and_opened_with_the_keys_here() {
        let room: RoomId = "kitchen".parse().unwrap();
        let alice = KeyPair::new_from_raw(KeyPairType::User, ALICE).unwrap();
        let verifier = SignPub::from_nkey(&alice.public_key()).unwrap().verifier();
        let key = RoomKey::from_bytes(KEY);
        let seed = |name: &str| {
            std::fs::read(format!("{}/../../fuzz/seeds/frames/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        };
        for (name, policy, taken) in [
            ("sealed-and-signed", Policy::CONVERSATION, true),
            ("several", Policy::CONVERSATION, true),
            ("clear", CLEAR, true),
            ("refused-sender", Policy::CONVERSATION, false),
            ("refused-cut-off", Policy::CONVERSATION, false),
            ("2-sealed-and-signed", Policy::CONVERSATION, true),
            ("2-several", Policy::CONVERSATION, true),
            ("2-clear", CLEAR, true),
            ("2-refused-sender", Policy::CONVERSATION, false),
        ] {
            let frame = seed(name);
            let frame = Frame::parse(&frame).unwrap();
            let epoch = frame.header.epoch;
            let own = epoch.map(|epoch| key.message_key(&room, epoch, &frame.header.sender).unwrap());
            let opened = frame.open(&room, SUBJECT, policy, verifier.as_ref(), own.as_ref());
            assert_eq!(opened.is_ok(), taken, "{name}: {opened:?}");
        }
        blob::open(&room, &key, &seed("attachment")).unwrap();
        assert_eq!(split(&seed("lengths")).unwrap().len(), 3);
        assert_eq!(listed(&seed("2-list")).unwrap().len(), 4);
    }
}
