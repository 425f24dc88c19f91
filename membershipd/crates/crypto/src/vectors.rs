//! The published examples of every format, `docs/vectors.json`: made anew here and compared, opened and refused as it says.
//!
//! Those of version 2 of frames are in lists of their own (`second`), so that a program that reads version 1 finds what it found.
//!
//! HPKE seals with randomness, so an envelope that is committed is kept as long as it opens. `UNIBUS_BLESS=1` writes the file.

mod second;

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::context::Context;
use super::{
    Content, Envelope, Epoch, Frame, FrameRefusal, FrameVersion, HpkeSecret, MessageId, Recipient, RoomKey, Sealer,
    Sealing, Seen, Source, Untrue, blob,
};
use unibus_core::domain::{Handle, Policy, RoomId, SignPub};

const ABOUT: &str = "Examples of docs/conversations.md. Keys and ids are hexadecimal, all other bytes base64. What has 'refused' must not \
                     be taken, for that reason. All secrets are made for this file.";
const FILE: &str = "../../docs/vectors.json";
const KITCHEN: &str = "room.kitchen";
const CELLAR: &str = "room.cellar";
const NOW: u64 = 1_764_000_000_000;
const UNSIGNED: Policy = Policy { encrypt: true, persist: true, sign: false };

struct Person {
    pair: KeyPair,
    hpke: [u8; 32],
    secret: HpkeSecret,
    public: Recipient,
}

fn person(handle: &str, seed: u8) -> Person {
    let pair = KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap();
    let hpke = [seed + 100; 32];
    let secret = HpkeSecret::from_bytes(hpke);
    let (sign_pub, hpke_pub) = (SignPub::from_nkey(&pair.public_key()).unwrap(), secret.public().unwrap());
    Person { public: Recipient { handle: handle.parse().unwrap(), sign_pub, hpke_pub }, pair, hpke, secret }
}

fn people() -> [Person; 3] {
    [person("alice", 1), person("bob", 2), person("mallory", 3)]
}

fn find(handle: &Handle) -> Option<Person> {
    people().into_iter().find(|person| person.public.handle == *handle)
}

/// Keys of rooms that a reader of the examples has.
fn key_of(room: &RoomId, epoch: Epoch) -> Option<RoomKey> {
    let first = match (room.as_str(), epoch.get()) {
        ("kitchen", 1) => 0x10,
        ("kitchen", 2) => 0x20,
        ("cellar", 1) => 0x30,
        _ => return None,
    };
    Some(RoomKey::from_bytes(std::array::from_fn(|at| first + u8::try_from(at).unwrap())))
}

fn room(id: &str) -> RoomId {
    id.parse().unwrap()
}

fn epoch(number: u32) -> Epoch {
    Epoch::new(number).unwrap()
}

fn id(number: u8) -> MessageId {
    MessageId::new(NOW + u64::from(number), [number; 10])
}

/// Adds what came of it: the field, or why it was refused.
fn with(mut vector: Value, field: &str, outcome: Result<Value, &'static str>) -> Value {
    match outcome {
        Ok(value) => vector[field] = value,
        Err(why) => vector["refused"] = json!(why),
    }
    vector
}

fn contexts() -> Vec<Value> {
    let of = |label: &'static str, parts: &[&[u8]]| {
        let context = parts.iter().fold(Context::new(label), |context, part| context.and(part));
        let parts: Vec<_> = parts.iter().map(|part| BASE64.encode(part)).collect();
        json!({ "label": label, "parts": parts, "context": BASE64.encode(context.bytes()) })
    };
    vec![
        of("unibus.key-id.1", &[b"kitchen", &[0, 0, 0, 1]]),
        of("unibus.frame.1", &[b"kitchen", b"room.kitchen", b""]),
        of("unibus.frame.1", &[b"kitchenr", b"oom.kitchen", b""]),
    ]
}

fn hpke_keys() -> Vec<Value> {
    let [alice, bob, mallory] = people();
    let vouched = alice.public.vouch(&alice.pair).unwrap();
    let swapped = Recipient { hpke_pub: mallory.public.hpke_pub, ..alice.public.clone() };
    let cases = [
        ("signed by whose it is", alice.public.clone(), vouched),
        ("another key in its place", swapped.clone(), vouched),
        ("another key in its place, signed by another", swapped.clone(), swapped.vouch(&mallory.pair).unwrap()),
        ("under another name", Recipient { handle: bob.public.handle, ..alice.public }, vouched),
    ];
    let cases = cases.into_iter().map(|(what, who, vouched)| {
        let vector = json!({
            "what": what, "handle": who.handle, "sign_pub": who.sign_pub, "hpke_pub": who.hpke_pub, "signature": vouched,
        });
        with(vector, "good", who.check(vouched).map(|()| json!(true)).map_err(Untrue::code))
    });
    cases.collect()
}

fn keys() -> Vec<Value> {
    let cases = [("kitchen", 1, "alice"), ("kitchen", 2, "bob"), ("cellar", 1, "alice")];
    let cases = cases.into_iter().map(|(id, number, sender)| {
        let (room, epoch) = (room(id), epoch(number));
        let key = key_of(&room, epoch).unwrap();
        let context = Context::new("unibus.message-key.1").and(id).and(epoch.to_bytes()).and(sender);
        let mut message_key = [0; 32];
        key.derive(&context, &mut message_key).unwrap();
        json!({
            "room": id, "epoch": epoch, "key": HEXLOWER.encode(key.bytes()), "key_id": key.id(&room, epoch).unwrap(),
            "sender": sender, "message_key": HEXLOWER.encode(&message_key),
        })
    });
    cases.collect()
}

/// The envelopes, with those of `committed` that are good still.
fn envelopes(committed: &Value) -> Vec<Value> {
    let [alice, bob, mallory] = people();
    let (kitchen, cellar) = (room("kitchen"), room("cellar"));
    let key = key_of(&kitchen, epoch(1)).unwrap();
    let sealing =
        Sealing { room: &kitchen, epoch: epoch(1), by: &alice.public.handle, key: key.id(&kitchen, epoch(1)).unwrap() };
    let open = |sealing: Sealing<'_>, to: &Person, envelope: &Envelope| {
        let signer = find(sealing.by).unwrap().public.sign_pub;
        let key = sealing.open(envelope, &to.public, &to.secret, signer);
        key.map(|key| json!(HEXLOWER.encode(key.bytes()))).map_err(Untrue::code)
    };
    let kept = |at: usize, wanted: Result<Value, &str>| {
        let envelope: Envelope = serde_json::from_value(committed["envelopes"][at]["envelope"].clone()).ok()?;
        (open(sealing, &bob, &envelope) == wanted).then_some(envelope)
    };
    let good = Ok(json!(HEXLOWER.encode(key.bytes())));
    let envelope = kept(0, good).unwrap_or_else(|| sealing.seal(&key, &bob.public, &alice.pair).unwrap());
    let other = key_of(&kitchen, epoch(2)).unwrap();
    let two_faced = kept(1, Err("seal")).unwrap_or_else(|| sealing.seal(&other, &bob.public, &alice.pair).unwrap());
    let cases = [
        ("sealed by alice for bob", sealing, &bob, &envelope),
        ("another key under the same id", sealing, &bob, &two_faced),
        ("as one of another room", Sealing { room: &cellar, ..sealing }, &bob, &envelope),
        ("as one of another epoch", Sealing { epoch: epoch(2), ..sealing }, &bob, &envelope),
        ("as if mallory had sealed it", Sealing { by: &mallory.public.handle, ..sealing }, &bob, &envelope),
        ("under another id", Sealing { key: other.id(&kitchen, epoch(2)).unwrap(), ..sealing }, &bob, &envelope),
        ("as if it were for mallory", sealing, &mallory, &envelope),
    ];
    let cases = cases.into_iter().map(|(what, sealing, to, envelope)| {
        let vector = json!({
            "what": what, "room": sealing.room, "epoch": sealing.epoch, "by": sealing.by, "to": to.public.handle,
            "key_id": sealing.key, "envelope": envelope,
        });
        with(vector, "key", open(sealing, to, envelope))
    });
    cases.collect()
}

/// A frame of `who` in the kitchen, with the keys of these.
fn frame(who: &str, signed: Option<&Person>, key: Option<(u32, &RoomKey)>, subject: &str, texts: &[&str]) -> Vec<u8> {
    let pair = signed.map(|person| KeyPair::from_seed(&person.pair.seed().unwrap()).unwrap());
    let key = key.map(|(number, key)| (epoch(number), key));
    let sealer = Sealer::new(room("kitchen"), who.parse().unwrap(), pair, key).unwrap();
    sealer.seal(subject, id(u8::try_from(texts.len()).unwrap()), texts).unwrap()
}

fn changed(frame: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    assert_ne!(frame[at], byte);
    frame[at] = byte;
    frame
}

fn frames() -> Vec<Value> {
    let [alice, bob, mallory] = people();
    let (first, second) = (key_of(&room("kitchen"), epoch(1)).unwrap(), key_of(&room("kitchen"), epoch(2)).unwrap());
    let (hello, both) = (&["hello"][..], Policy::CONVERSATION);
    let good = frame("alice", Some(&alice), Some((1, &first)), KITCHEN, hello);
    let sealed = frame("alice", None, Some((1, &first)), KITCHEN, hello);
    let clear = frame("alice", None, None, KITCHEN, hello);
    let corner = "room.kitchen.corner";
    let bundle = ["one", "", "drei – ü"];
    let cases = [
        ("sealed and signed", "kitchen", KITCHEN, both, good.clone()),
        (
            "several messages",
            "kitchen",
            KITCHEN,
            both,
            frame("alice", Some(&alice), Some((1, &first)), KITCHEN, &bundle),
        ),
        ("no message at all", "kitchen", KITCHEN, both, frame("alice", Some(&alice), Some((1, &first)), KITCHEN, &[])),
        (
            "of the second epoch, below the room's subject",
            "kitchen",
            corner,
            both,
            frame("bob", Some(&bob), Some((2, &second)), corner, hello),
        ),
        ("sealed", "kitchen", KITCHEN, UNSIGNED, sealed.clone()),
        ("in clear", "kitchen", KITCHEN, Policy::TELEMETRY, clear.clone()),
        ("more than the policy asks for", "kitchen", KITCHEN, Policy::TELEMETRY, good.clone()),
        ("signed, in clear", "kitchen", KITCHEN, Policy::TELEMETRY, frame("bob", Some(&bob), None, KITCHEN, hello)),
        ("in another room", "cellar", KITCHEN, both, good.clone()),
        ("on another subject", "kitchen", CELLAR, both, good.clone()),
        ("only sealed, in another room", "cellar", KITCHEN, UNSIGNED, sealed.clone()),
        ("only sealed, on another subject", "kitchen", CELLAR, UNSIGNED, sealed.clone()),
        ("only sealed, of another epoch", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, 21, 2)),
        ("only sealed, with another id", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, 17, 0)),
        ("only sealed, said to be several", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, 1, 5)),
        ("only sealed, with a byte changed", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, sealed.len() - 1, 0)),
        ("only sealed, cut off", "kitchen", KITCHEN, UNSIGNED, sealed[..sealed.len() - 1].to_vec()),
        ("of another epoch", "kitchen", KITCHEN, both, changed(&good, 21, 2)),
        ("with a byte changed", "kitchen", KITCHEN, both, changed(&good, 30, 0)),
        ("cut off", "kitchen", KITCHEN, both, good[..good.len() - 1].to_vec()),
        (
            "mallory's, in alice's name",
            "kitchen",
            KITCHEN,
            both,
            frame("alice", Some(&mallory), Some((1, &first)), KITCHEN, hello),
        ),
        (
            "signed by alice, and sealed with no key of the room",
            "kitchen",
            KITCHEN,
            both,
            frame("alice", Some(&alice), Some((1, &second)), KITCHEN, hello),
        ),
        (
            "of somebody whom nobody knows",
            "kitchen",
            KITCHEN,
            both,
            frame("carol", Some(&mallory), Some((1, &first)), KITCHEN, hello),
        ),
        (
            "of an epoch that is not for the reader",
            "kitchen",
            KITCHEN,
            both,
            frame("alice", Some(&alice), Some((3, &second)), KITCHEN, hello),
        ),
        (
            "in clear, where it must be sealed",
            "kitchen",
            KITCHEN,
            both,
            frame("alice", Some(&alice), None, KITCHEN, hello),
        ),
        ("unsigned, where it must be signed", "kitchen", KITCHEN, both, sealed.clone()),
        ("of another version", "kitchen", KITCHEN, both, changed(&good, 0, 2)),
        ("with a flag that nobody knows", "kitchen", KITCHEN, both, changed(&good, 1, 11)),
        ("with an id of another kind", "kitchen", KITCHEN, both, changed(&good, 8, 0x40)),
        ("sealed, of no epoch", "kitchen", KITCHEN, both, changed(&good, 21, 0)),
        ("in clear, of an epoch", "kitchen", KITCHEN, Policy::TELEMETRY, changed(&clear, 21, 1)),
        ("with no handle", "kitchen", KITCHEN, both, changed(&good, 23, b'A')),
        ("with a sender longer than it is", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, 22, 255)),
        ("too short for a head", "kitchen", KITCHEN, both, good[..22].to_vec()),
        ("too short for a signature", "kitchen", KITCHEN, both, good[..80].to_vec()),
        ("several messages, one of them cut off", "kitchen", KITCHEN, Policy::TELEMETRY, changed(&clear, 1, 4)),
        ("nothing", "kitchen", KITCHEN, Policy::TELEMETRY, vec![]),
    ];
    let cases = cases.into_iter().map(|(what, id, subject, policy, bytes)| {
        let vector =
            json!({ "what": what, "room": id, "subject": subject, "policy": policy, "frame": BASE64.encode(&bytes) });
        with(vector, "messages", read(&room(id), subject, policy, &bytes).map_err(|refusal| refusal.code()))
    });
    cases.collect()
}

fn read(room: &RoomId, subject: &str, policy: Policy, bytes: &[u8]) -> Result<Value, FrameRefusal> {
    let frame = Frame::parse(bytes)?;
    let sender = find(&frame.header.sender).and_then(|person| person.public.sign_pub.verifier());
    let key = frame.header.epoch.and_then(|epoch| Some((epoch, key_of(room, epoch)?)));
    let key = key.map(|(epoch, key)| key.message_key(room, epoch, &frame.header.sender).unwrap());
    let contents = frame.open(room, subject, policy, sender.as_ref(), key.as_ref())?;
    Ok(match frame.header.version {
        FrameVersion::V1 => contents.iter().map(|content| content.json().remove("text").unwrap()).collect(),
        FrameVersion::V2 { .. } => contents.iter().map(Content::json).collect(),
    })
}

fn arrivals() -> Vec<Value> {
    let (mut seen, alice) = (Seen::default(), "alice".parse().unwrap());
    let cases = [
        (1, NOW, None),
        (1, NOW + 50, Some(7)),
        (1, NOW + 50, Some(7)),
        (1, NOW + 900, None),
        (1, NOW + 60, Some(8)),
        (2, NOW + 900, Some(9)),
        (2, NOW + 950, None),
        (3, NOW + 120_003, None),
        (4, NOW + 120_005, None),
        (5, NOW - 119_995, Some(10)),
        (6, NOW - 119_995, Some(11)),
    ];
    let cases = cases.into_iter().map(|(number, at_ms, seq)| {
        let source = seq.map_or(Source::Live, |seq| Source::History { seq });
        let vector = json!({ "id": id(number).to_string(), "at_ms": at_ms, "seq": seq });
        let admitted = seen.admit(id(number), &alice, at_ms, source).map(|is_new| json!(is_new));
        with(vector, "new", admitted.map_err(|refusal| refusal.code()))
    });
    cases.collect()
}

fn blobs() -> Vec<Value> {
    let (kitchen, cellar) = (room("kitchen"), room("cellar"));
    let key = key_of(&kitchen, epoch(1)).unwrap();
    let sealed = blob::seal(&kitchen, epoch(1), &key, [5; 16], b"a picture".to_vec()).unwrap();
    let cases = [
        ("sealed", &kitchen, sealed.clone()),
        ("in another room", &cellar, sealed.clone()),
        ("of another epoch", &kitchen, changed(&sealed, 4, 2)),
        ("with another salt", &kitchen, changed(&sealed, 5, 0)),
        ("cut off", &kitchen, sealed[..sealed.len() - 1].to_vec()),
        ("of another version", &kitchen, changed(&sealed, 0, 2)),
        ("too short for a head", &kitchen, sealed[..20].to_vec()),
    ];
    let cases = cases.into_iter().map(|(what, room, bytes)| {
        let name = HEXLOWER.encode(&Sha256::digest(&bytes));
        let vector = json!({ "what": what, "room": room, "blob": BASE64.encode(&bytes), "name": name });
        let key = blob::epoch(&bytes).ok_or(Untrue::Seal).map(|epoch| key_of(room, epoch).unwrap());
        let plain = key.and_then(|key| blob::open(room, &key, &bytes));
        with(vector, "plain", plain.map(|plain| json!(String::from_utf8(plain).unwrap())).map_err(Untrue::code))
    });
    cases.collect()
}

#[test]
fn the_published_examples_are_what_this_code_makes_and_reads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let people = people().map(|person| {
        json!({
            "handle": person.public.handle, "sign": person.pair.seed().unwrap(), "sign_pub": person.public.sign_pub,
            "hpke": HEXLOWER.encode(&person.hpke), "hpke_pub": person.public.hpke_pub,
        })
    });
    let now = json!({
        "about": ABOUT, "people": people, "contexts": contexts(), "hpke_keys": hpke_keys(), "keys": keys(),
        "envelopes": envelopes(&serde_json::from_str(&text).unwrap_or_default()), "frames": frames(),
        "arrivals": arrivals(), "blobs": blobs(), "frames_2": second::frames(), "arrivals_2": second::arrivals(),
        "frame_ids": second::frame_ids(),
    });
    let now = serde_json::to_string_pretty(&now).unwrap() + "\n";
    if std::env::var_os("UNIBUS_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    } else {
        assert!(
            now == text,
            "the formats are not what {FILE} shows. If that is meant: UNIBUS_BLESS=1, and a new version"
        );
    }
}

#[test]
fn every_reason_to_refuse_has_an_example() {
    let first = [hpke_keys(), envelopes(&Value::Null), frames(), arrivals(), blobs()].concat();
    let second = [second::frames(), second::arrivals()].concat();
    let all = ["clear", "malformed", "no-key", "no-sender", "replayed", "seal", "signature", "unsigned", "wrong-time"];
    for vectors in [&first, &second] {
        let refused = vectors.iter().filter_map(|vector| vector["refused"].as_str());
        assert_eq!(refused.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>(), all);
    }
    let good = |vectors: Vec<Value>| vectors.iter().filter(|vector| vector["messages"].is_array()).count();
    assert_eq!((good(frames()), good(second::frames())), (8, 20));
}
