//! The examples of version 2 of frames.

use super::*;
use crate::{Attachment, FrameId, RosterHead};

const ROSTER: RosterHead = RosterHead::NONE;
/// Where a frame of alice has its roster head, the length of her name, and what she says.
const ROSTER_AT: usize = 22;
const LENGTH_AT: usize = 54;
const PAYLOAD_AT: usize = 60;

/// Who made a frame, and how.
struct Maker<'a> {
    who: &'a str,
    signed: Option<&'a Person>,
    key: Option<(u32, &'a RoomKey)>,
    roster: RosterHead,
}

impl Maker<'_> {
    fn make(&self, subject: &str, contents: &[Content]) -> Vec<u8> {
        let pair = self.signed.map(|person| KeyPair::from_seed(&person.pair.seed().unwrap()).unwrap());
        let key = self.key.map(|(number, key)| (epoch(number), key));
        let sealer = Sealer::new(room("kitchen"), self.who.parse().unwrap(), pair, key).unwrap();
        let sealer = sealer.writing(FrameVersion::V2 { roster: self.roster });
        sealer.seal_contents(subject, id(u8::try_from(contents.len()).unwrap()), contents).unwrap()
    }
}

fn texts(texts: &[&str]) -> Vec<Content> {
    texts.iter().map(Content::text).collect()
}

fn announced(size: u64, name: &[u8]) -> Content {
    let body = [&[7; 32], &size.to_be_bytes()[..], name].concat();
    Content::Unknown { kind: 1, body }
}

/// What alice says in each of the frames that are good but for one thing, and of what type that is.
fn contents() -> Vec<(&'static str, Vec<Content>)> {
    let (sha256, name) = ([7; 32], "Übung – 1.pdf".parse().unwrap());
    let attachment = Content::Attachment(Attachment { sha256, size: 12_345, name });
    let (long, too_long) = ("x".repeat(255), "x".repeat(256));
    vec![
        ("an attachment", vec![attachment.clone()]),
        ("an attachment, a text, and what may come", {
            vec![attachment, Content::text("look"), Content::Unknown { kind: 7, body: vec![0, 255] }]
        }),
        ("a type that is not known yet, with nothing in it", vec![Content::Unknown { kind: 255, body: vec![] }]),
        ("an attachment whose name begins with a mark of its byte order", vec![announced(1, "\u{feff}x".as_bytes())]),
        ("an attachment with the longest name", vec![announced((1 << 53) - 1, long.as_bytes())]),
        ("an attachment with a name that is too long", vec![announced(1, too_long.as_bytes())]),
        ("an attachment without a name", vec![announced(1, b"")]),
        ("an attachment with a path", vec![announced(1, b"../x")]),
        ("an attachment with a control character", vec![announced(1, "x\u{9b}y".as_bytes())]),
        ("an attachment with a name that is shown backwards", vec![announced(1, "x\u{202e}gpj.exe".as_bytes())]),
        ("an attachment whose name is not UTF-8", vec![announced(1, b"x\xed\xa0\x80")]),
        ("an attachment that is larger than anything", vec![announced(1 << 53, b"x")]),
    ]
}

/// A frame as an example, and what it comes to.
fn vector(what: &str, id: &str, subject: &str, policy: Policy, bytes: &[u8]) -> Value {
    let mut vector =
        json!({ "what": what, "room": id, "subject": subject, "policy": policy, "frame": BASE64.encode(bytes) });
    let read = read(&room(id), subject, policy, bytes);
    let version = Frame::parse(bytes).map(|frame| frame.header.version);
    if let (Ok(_), Ok(FrameVersion::V2 { roster })) = (&read, version) {
        vector["roster"] = json!(roster);
    }
    with(vector, "messages", read.map_err(|refusal| refusal.code()))
}

pub(super) fn frames() -> Vec<Value> {
    let [alice, bob, mallory] = people();
    let (first, second) = (key_of(&room("kitchen"), epoch(1)).unwrap(), key_of(&room("kitchen"), epoch(2)).unwrap());
    let (both, hello, corner) = (Policy::CONVERSATION, texts(&["hello"]), "room.kitchen.corner");
    let of = |who, signed, key| Maker { who, signed, key, roster: ROSTER };
    let usual = of("alice", Some(&alice), Some((1, &first)));
    let good = usual.make(KITCHEN, &hello);
    let sealed = of("alice", None, Some((1, &first))).make(KITCHEN, &hello);
    let clear = of("alice", None, None).make(KITCHEN, &hello);
    let clear_signed = of("bob", Some(&bob), None).make(KITCHEN, &hello);
    let below = of("bob", Some(&bob), Some((2, &second))).make(corner, &hello);
    let roster = Maker { roster: RosterHead::from_bytes([0xab; 32]), ..of("alice", Some(&alice), Some((1, &first))) };
    let roster = roster.make(KITCHEN, &hello);
    let as_first = |frame: &[u8]| [&[1], &frame[1..ROSTER_AT], &frame[LENGTH_AT..]].concat();
    let short = |frame: &[u8]| frame[..PAYLOAD_AT + 15].to_vec();
    let several = usual.make(KITCHEN, &texts(&["one", "", "drei – ü"]));
    let said: Vec<_> = contents().into_iter().map(|(what, contents)| (what, usual.make(KITCHEN, &contents))).collect();
    let by = |who, signed, key| of(who, Some(signed), key).make(KITCHEN, &hello);
    let cases = [
        ("sealed and signed", "kitchen", KITCHEN, both, good.clone()),
        ("several messages", "kitchen", KITCHEN, both, several),
        ("no message at all", "kitchen", KITCHEN, both, usual.make(KITCHEN, &[])),
        ("of the second epoch, below the room's subject", "kitchen", corner, both, below),
        ("with the head of a roster", "kitchen", KITCHEN, both, roster.clone()),
        ("only sealed", "kitchen", KITCHEN, UNSIGNED, sealed.clone()),
        ("in clear", "kitchen", KITCHEN, Policy::TELEMETRY, clear.clone()),
        (
            "signed, in clear, which is more than the policy asks for",
            "kitchen",
            KITCHEN,
            Policy::TELEMETRY,
            clear_signed,
        ),
        ("in another room", "cellar", KITCHEN, both, good.clone()),
        ("on another subject", "kitchen", CELLAR, both, good.clone()),
        ("with another roster", "kitchen", KITCHEN, both, changed(&roster, ROSTER_AT, 0)),
        ("written as version 1", "kitchen", KITCHEN, both, as_first(&good)),
        ("only sealed, in another room", "cellar", KITCHEN, UNSIGNED, sealed.clone()),
        ("only sealed, on another subject", "kitchen", CELLAR, UNSIGNED, sealed.clone()),
        ("only sealed, of another epoch", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, 21, 2)),
        ("only sealed, with another id", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, 17, 0)),
        ("only sealed, with another roster", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, LENGTH_AT - 1, 1)),
        ("only sealed, written as version 1", "kitchen", KITCHEN, UNSIGNED, as_first(&sealed)),
        ("only sealed, with a byte changed", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, PAYLOAD_AT, 0)),
        ("only sealed, cut off", "kitchen", KITCHEN, UNSIGNED, sealed[..sealed.len() - 1].to_vec()),
        ("cut off", "kitchen", KITCHEN, both, good[..good.len() - 1].to_vec()),
        ("mallory's, in alice's name", "kitchen", KITCHEN, both, by("alice", &mallory, Some((1, &first)))),
        ("sealed with no key of the room", "kitchen", KITCHEN, both, by("alice", &alice, Some((1, &second)))),
        ("of a sender who is no user", "kitchen", KITCHEN, both, by("carol", &mallory, Some((1, &first)))),
        ("of an epoch that is not for the reader", "kitchen", KITCHEN, both, by("alice", &alice, Some((3, &second)))),
        ("in clear, where it must be sealed", "kitchen", KITCHEN, both, by("alice", &alice, None)),
        ("unsigned, where it must be signed", "kitchen", KITCHEN, both, sealed.clone()),
        ("of a version that there is not", "kitchen", KITCHEN, both, changed(&good, 0, 3)),
        ("with a flag that only version 1 has", "kitchen", KITCHEN, both, changed(&good, 1, 7)),
        ("with an id of another kind", "kitchen", KITCHEN, both, changed(&good, 8, 0x40)),
        ("sealed, of no epoch", "kitchen", KITCHEN, both, changed(&good, 21, 0)),
        ("in clear, of an epoch", "kitchen", KITCHEN, Policy::TELEMETRY, changed(&clear, 21, 1)),
        ("with no handle", "kitchen", KITCHEN, both, changed(&good, LENGTH_AT + 1, b'A')),
        ("with a sender longer than it is", "kitchen", KITCHEN, UNSIGNED, changed(&sealed, LENGTH_AT, 255)),
        ("too short for a head", "kitchen", KITCHEN, both, good[..LENGTH_AT].to_vec()),
        ("too short for a signature", "kitchen", KITCHEN, both, good[..PAYLOAD_AT + 60].to_vec()),
        ("too short for what is sealed", "kitchen", KITCHEN, UNSIGNED, short(&sealed)),
        ("a message that is cut off", "kitchen", KITCHEN, Policy::TELEMETRY, changed(&clear, PAYLOAD_AT + 4, 6)),
        ("a message without its length", "kitchen", KITCHEN, Policy::TELEMETRY, clear[..PAYLOAD_AT + 1].to_vec()),
    ];
    let cases = cases.iter().map(|(what, id, subject, policy, bytes)| vector(what, id, subject, *policy, bytes));
    let said = said.iter().map(|(what, bytes)| vector(what, "kitchen", KITCHEN, both, bytes));
    cases.chain(said).collect()
}

/// Frames that come again; an id that two senders have used is that of two frames.
pub(super) fn arrivals() -> Vec<Value> {
    let mut seen = Seen::default();
    let cases = [
        (1, "mallory", NOW, None),
        (1, "mallory", NOW + 10, Some(7)),
        (1, "alice", NOW + 20, Some(8)),
        (1, "alice", NOW + 30, None),
        (1, "alice", NOW + 40, None),
        (1, "mallory", NOW + 50, Some(9)),
        (2, "alice", NOW + 120_003, None),
        (1, "bob", NOW + 120_003, None),
    ];
    let cases = cases.into_iter().map(|(number, sender, at_ms, seq)| {
        let source = seq.map_or(Source::Live, |seq| Source::History { seq });
        let vector = json!({ "id": id(number).to_string(), "sender": sender, "at_ms": at_ms, "seq": seq });
        let admitted = seen.admit(id(number), &sender.parse().unwrap(), at_ms, source).map(|is_new| json!(is_new));
        with(vector, "new", admitted.map_err(|refusal| refusal.code()))
    });
    cases.collect()
}

/// What servers call a frame.
pub(super) fn frame_ids() -> Vec<Value> {
    let first = frame("alice", None, None, KITCHEN, &["hello"]);
    let second = Maker { who: "alice", signed: None, key: None, roster: ROSTER }.make(KITCHEN, &texts(&["hello"]));
    let cases = [
        ("kitchen", KITCHEN, first.clone()),
        ("kitchen", CELLAR, first.clone()),
        ("cellar", KITCHEN, first.clone()),
        ("kitchenr", "oom.kitchen", first),
        ("kitchen", KITCHEN, second),
        ("kitchen", KITCHEN, vec![]),
    ];
    let cases = cases.into_iter().map(|(id, subject, bytes)| {
        let frame_id = FrameId::of(&room(id), subject, &bytes);
        json!({ "room": id, "subject": subject, "frame": BASE64.encode(&bytes), "frame_id": frame_id })
    });
    cases.collect()
}

#[test]
fn the_seeds_of_the_fuzz_target_are_these_examples() {
    let all = frames();
    let named = |what: &str| {
        let vector = all.iter().find(|vector| vector["what"] == what).unwrap();
        BASE64.decode(vector["frame"].as_str().unwrap().as_bytes()).unwrap()
    };
    let clear = named("in clear");
    for (seed, bytes) in [
        ("2-sealed-and-signed", named("with the head of a roster")),
        ("2-several", named("an attachment, a text, and what may come")),
        ("2-clear", clear.clone()),
        ("2-refused-sender", named("mallory's, in alice's name")),
        ("2-list", {
            let attachment = contents().remove(0).1.remove(0);
            let contents = [attachment, Content::text("one"), announced(1, b"/"), texts(&[""]).remove(0)];
            crate::content::list(&contents).unwrap()
        }),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/frames").join(seed);
        if std::env::var_os("UNIBUS_BLESS").is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{seed}");
    }
}
