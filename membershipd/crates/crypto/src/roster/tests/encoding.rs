//! There is one encoding of each entry, and nothing else is read.

use proptest::prelude::*;

use super::*;
use crate::roster::limits::{ENTRY_BYTES, FIRST_ENTRY_BYTES, MEMBERS};
use crate::roster::{AdoptedMember, Head};
use RoomRole::{Member, Owner};

fn longest(letter: &str, length: usize) -> String {
    letter.repeat(length)
}

/// One entry of each kind, with names as long as they can be.
fn each_kind() -> Vec<SignedEntry> {
    let long = Person { handle: handle(&longest("z", 32)), ..who("alice") };
    let target = Person { handle: handle(&longest("t", 32)), ..who("bob") };
    let subject = || format!("room.{}", longest("s", 95)).parse().unwrap();
    let (policy, hpke_pub) = (Policy::CONVERSATION, long.keys.hpke_pub);
    let own = AdoptedMember { handle: long.handle.clone(), role: Owner, state: MemberState::Joined, keys: long.keys };
    let before = room(&longest("b", 64));
    let head = Head { number: 9, hash: RosterHead::from_bytes([9; 32]) };
    let begins = [
        RosterAction::Create { hpke_pub, subject: subject(), policy },
        RosterAction::Adopt { subject: subject(), policy, members: vec![own] },
        RosterAction::Continue { hpke_pub, subject: subject(), policy, room: before, head },
    ];
    let begins = begins.map(|action| opening(&longest("r", 64), &long, action));
    let named = target.handle.as_str();
    let others = [
        invite(&target, RoomRole::Moderator),
        link(1, RoomRole::Moderator),
        accept(&long),
        accept_link(1, &long),
        RosterAction::Leave,
        remove(named),
        ban(named),
        unban(named),
        RosterAction::RevokeLink { invite_pub: invite_key(1).public() },
        role(named, RoomRole::Moderator),
        RosterAction::SetPolicy { policy },
        RosterAction::SetSubject { subject: subject() },
        replace(&target),
    ];
    let pen = Pen::begin(&longest("r", 64), &long, create(&long));
    let others = others.map(|action| pen.sign(&long, action));
    begins.into_iter().chain(others).collect()
}

#[test]
fn every_kind_reads_as_it_was_written_and_within_its_bound() {
    let mut names = std::collections::BTreeSet::new();
    for entry in each_kind() {
        assert_eq!(SignedEntry::decode(entry.bytes()), Ok(entry.clone()));
        assert_eq!(entry.prove(), Ok(()));
        assert!(entry.bytes().len() <= ENTRY_BYTES, "{} bytes: {:?}", entry.bytes().len(), entry.entry().action);
        names.insert(entry.entry().action.name());
    }
    assert_eq!(names.len(), 16, "one of each kind: {names:?}");
    // A room of 2,000 with long names can be adopted.
    let names = (0..MEMBERS).map(|at| format!("{at:032}"));
    let members = names.map(|name| AdoptedMember {
        handle: handle(&name),
        role: RoomRole::Moderator,
        state: MemberState::Invited,
        keys: who("bob").keys,
    });
    let adopt = RosterAction::Adopt {
        subject: "room.a".parse().unwrap(),
        policy: Policy::TELEMETRY,
        members: members.collect(),
    };
    let large = opening("kitchen", &who("alice"), adopt);
    assert!(large.bytes().len() < FIRST_ENTRY_BYTES, "{}", large.bytes().len());
    let larger = vec![0; FIRST_ENTRY_BYTES + 1];
    assert_eq!(SignedEntry::decode(&larger).unwrap_err().code(), "too-large");
}

#[test]
fn no_byte_can_be_changed_left_out_or_added() {
    for entry in each_kind() {
        let bytes = entry.bytes();
        for at in 0..bytes.len() {
            for bit in [1, 0x20, 0x80] {
                let mut changed = bytes.to_vec();
                changed[at] ^= bit;
                let taken = SignedEntry::decode(&changed).and_then(|read| {
                    assert_ne!(read.hash(), entry.hash());
                    read.prove()
                });
                assert!(taken.is_err(), "bit {bit} of byte {at} of {}", entry.entry().action.name());
            }
        }
        for cut in 0..bytes.len() {
            let cut = SignedEntry::decode(&bytes[..cut]).and_then(|read| read.prove());
            assert!(cut.is_err());
        }
        assert!(SignedEntry::decode(&[bytes, &[0]].concat()).and_then(|read| read.prove()).is_err());
    }
}

#[test]
fn what_could_be_written_in_two_ways_is_refused() {
    let (alice, bob) = (who("alice"), who("bob"));
    let pen = Pen::new();
    let own = |one: &Person| AdoptedMember {
        handle: one.handle.clone(),
        role: Owner,
        state: MemberState::Joined,
        keys: one.keys,
    };
    let adopt = |members| RosterAction::Adopt {
        subject: "room.kitchen".parse().unwrap(),
        policy: Policy::CONVERSATION,
        members,
    };
    let refuse = |entry: &Entry| SignedEntry::sign(entry, &alice.pair, None).unwrap_err();
    let next = |action| pen.next(&alice, action);
    let first = |action| Entry { number: 1, previous: RosterHead::NONE, ..pen.next(&alice, action) };
    for entry in [
        first(adopt(vec![own(&bob), own(&alice)])),
        first(adopt(vec![own(&alice), own(&alice)])),
        first(adopt(vec![AdoptedMember { state: MemberState::Removed, ..own(&alice) }])),
        first(remove("bob")),
        next(create(&alice)),
        Entry { number: 0, ..next(remove("bob")) },
        Entry { number: 1, ..next(remove("bob")) },
        Entry { number: 1, ..next(create(&alice)) },
        Entry { previous: RosterHead::NONE, ..next(create(&alice)) },
    ] {
        assert_eq!(refuse(&entry).code(), "malformed", "{entry:?}");
    }
    assert!(SignedEntry::sign(&first(create(&alice)), &alice.pair, None).is_ok());
    let weak = [1u8].into_iter().chain([0; 31]).collect::<Vec<_>>();
    let body = pen.sign(&alice, link(1, Member)).bytes().to_vec();
    let key = invite_key(1).public().to_bytes();
    let at = body.windows(32).position(|window| window == key).unwrap();
    let swapped = [&body[..at], &weak, &body[at + 32..]].concat();
    assert_eq!(SignedEntry::decode(&swapped).unwrap_err().code(), "malformed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_read_is_written_as_it_was(kind in 0usize..16, at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let entries = each_kind();
        let mut raw = entries[kind % entries.len()].bytes().to_vec();
        let at = at.index(raw.len());
        let end = (at + bytes.len()).min(raw.len());
        raw.splice(at..end, bytes);
        if let Ok(read) = SignedEntry::decode(&raw) {
            prop_assert_eq!(read.bytes(), &raw[..]);
            let body = crate::roster::encoding::body(read.entry());
            prop_assert!(raw.starts_with(body.bytes()));
            let left = raw.len() - body.bytes().len();
            prop_assert!(left == 64 || left == 128);
        }
    }
}
