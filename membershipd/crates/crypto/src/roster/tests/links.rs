//! Links: who comes in with one, and how often.

use super::*;
use crate::roster::{BadRoomLink, Head, RoomLink};
use RoomRole::{Member, Moderator, Owner, Reader};

/// A log in which bob, a moderator, has made a link, and the link.
fn invited_by_bob() -> (Pen, RoomLink) {
    let bob = who("bob");
    let mut pen = Pen::new();
    pen.join(&bob, Moderator);
    pen.add(&bob, link(7, Member));
    let link = RoomLink {
        room: room("kitchen"),
        inviter: bob.handle,
        inviter_key: bob.keys.sign_pub,
        head: pen.state.head(),
        seed: seed(7),
    };
    (pen, link)
}

#[test]
fn a_link_lets_one_person_in_once() {
    let (carol, dave) = (who("carol"), who("dave"));
    let (mut pen, link) = invited_by_bob();
    let at_head = pen.clone();
    pen.add(&carol, accept_link(7, &carol));
    assert_eq!(pen.standing("carol"), joined(Member));
    assert_eq!(pen.refusal(&dave, accept_link(7, &dave)), "link-used");
    // A server that redeems it first makes a fork of its own, which carol sees: she signed another entry 5.
    let mut stolen = at_head;
    stolen.add(&dave, accept_link(7, &dave));
    assert_eq!(stolen.state.clone().apply(&pen.entries[4]).unwrap_err().code(), "fork");
    assert_eq!(verify(&pen.entries, Trust::Link(&link)).unwrap(), pen.state);
    assert_eq!(pen.refusal(&dave, accept_link(8, &dave)), "no-such-link");
    assert_eq!(
        pen.refusal(&who("alice"), RosterAction::RevokeLink { invite_pub: invite_key(7).public() }),
        "link-used"
    );
    // Who is in, was banned or has other keys does not come in with one.
    pen.add(&who("alice"), super::link(9, Member));
    assert_eq!(pen.refusal(&carol, accept_link(9, &carol)), "present");
    pen.add(&who("alice"), remove("carol"));
    assert_eq!(pen.refusal(&carol, accept_link(9, &person("carol", 60))), "key-changed");
    pen.add(&who("alice"), ban("carol"));
    assert_eq!(pen.refusal(&carol, accept_link(9, &carol)), "banned");
    let twin = Keys { sign_pub: invite_key(9).public(), ..dave.keys };
    let seed = *crate::roster::derive(&[9; 32], "unibus.link.invite-key.1").unwrap();
    let pair = KeyPair::new_from_raw(KeyPairType::User, seed).unwrap();
    let twin = Person { pair, keys: twin, ..who("dave") };
    assert_eq!(pen.refusal(&twin, accept_link(9, &twin)), "key-in-use", "one key does not sign as two");
}

#[test]
fn coming_in_needs_the_link_s_key() {
    let carol = who("carol");
    let (pen, _) = invited_by_bob();
    let good = pen.sign(&carol, accept_link(7, &carol));
    assert!(SignedEntry::sign(good.entry(), &carol.pair, None).is_err());
    assert!(SignedEntry::sign(good.entry(), &carol.pair, Some(&invite_key(8))).is_err());
    let (body, second) = (&good.bytes()[..good.bytes().len() - 64], &mut [0; 64]);
    second.copy_from_slice(&good.bytes()[body.len() - 64..body.len()]);
    for forged in [*second, [1; 64]] {
        let forged = SignedEntry::decode(&[body, &forged].concat()).unwrap();
        assert_eq!(pen.state.clone().apply(&forged).unwrap_err().code(), "invite-signature");
    }
    // Redeemed in carol's name by who has the token and the link, but not carol's key: carol's name with another key.
    let mallory = Person { handle: handle("carol"), ..who("mallory") };
    let mut stolen = pen.clone();
    stolen.add(&mallory, accept_link(7, &mallory));
    assert_ne!(stolen.state.person(&carol.handle).unwrap().keys, carol.keys, "people see which key it is");
}

#[test]
fn a_link_ends_with_its_maker_s_right_to_make_it() {
    let (alice, bob, carol) = (who("alice"), who("bob"), who("carol"));
    let (pen, _) = invited_by_bob();
    for change in [remove("bob"), ban("bob"), role("bob", Member), replace(&who("bob2"))] {
        let mut pen = pen.clone();
        pen.add(&alice, change);
        assert_eq!(pen.refusal(&carol, accept_link(7, &carol)), "link-maker-gone");
        // Not even for bob, who knows the seed.
        let bobs = pen.refusal(&bob, accept_link(7, &bob));
        assert!(["link-maker-gone", "present"].contains(&bobs), "{bobs}");
    }
    // Nor once the maker is a moderator again, with new keys: the thief of the old ones may know the seed.
    let mut replaced = pen.clone();
    replaced.add(&alice, replace(&who("bob2")));
    replaced.add(&who("bob2"), accept(&who("bob2")));
    assert_eq!(replaced.standing("bob"), joined(Moderator));
    assert_eq!(replaced.refusal(&carol, accept_link(7, &carol)), "link-maker-gone");
    let revoke = || RosterAction::RevokeLink { invite_pub: invite_key(7).public() };
    for actor in [&alice, &bob] {
        let mut pen = pen.clone();
        pen.add(actor, revoke());
        assert_eq!(pen.refusal(&carol, accept_link(7, &carol)), "link-revoked");
        assert_eq!(pen.refusal(actor, revoke()), "unchanged");
    }
    let mut pen = pen.clone();
    pen.join(&carol, Member);
    assert_eq!(pen.refusal(&carol, revoke()), "denied");
    assert_eq!(pen.refusal(&carol, link(8, Reader)), "denied");
    assert_eq!(pen.refusal(&bob, link(8, Owner)), "denied");
    assert_eq!(pen.refusal(&bob, link(7, Member)), "key-in-use");
    pen.add(&alice, link(8, Owner));
    assert_eq!(pen.refusal(&bob, RosterAction::RevokeLink { invite_pub: invite_key(8).public() }), "denied");
}

#[test]
fn a_link_tells_the_room_s_log_from_a_forged_one() {
    let (alice, bob, mallory) = (who("alice"), who("bob"), who("mallory"));
    let (pen, link) = invited_by_bob();
    assert_eq!(verify(&pen.entries[..3], Trust::Link(&link)), Err((4, "step-back")));
    // The server has a log of its own, with people of its own by the same names.
    let mut forged = Pen::begin("kitchen", &Person { handle: handle("alice"), ..who("mallory") }, create(&mallory));
    let fake = Person { handle: handle("alice"), ..who("mallory") };
    forged.add(&fake, invite(&bob, Moderator));
    forged.add(&bob, accept(&bob));
    forged.add(&bob, super::link(7, Member));
    assert_eq!(verify(&forged.entries, Trust::Link(&link)), Err((4, "fork")));
    for other in [
        RoomLink { head: Head { number: 3, hash: pen.entries[2].hash() }, ..link.clone() },
        RoomLink { seed: seed(8), ..link.clone() },
        RoomLink { inviter: alice.handle.clone(), ..link.clone() },
        RoomLink { inviter_key: alice.keys.sign_pub, ..link.clone() },
    ] {
        assert_eq!(verify(&pen.entries, Trust::Link(&other)).unwrap_err().1, "other-link");
    }
}

#[test]
fn a_link_comes_back_through_chat_and_mail() {
    let (_, link) = invited_by_bob();
    let text = link.reveal();
    assert_eq!(text.parse::<RoomLink>(), Ok(link.clone()));
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b)), "{text}");
    let broken: Vec<&str> = text.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
    assert_eq!(format!("  {}\r\n", broken.join("\r\n ")).parse(), Ok(link.clone()));
    for (bad, why) in [
        ("", BadRoomLink::Foreign),
        ("unibus-invite:1:AAAA", BadRoomLink::Foreign),
        ("unibus-room:2:AAAA", BadRoomLink::Version),
        ("unibus-room:1:", BadRoomLink::Broken),
        ("unibus-room:1:4-3xQgAA", BadRoomLink::Broken),
        (&text[..text.len() - 4], BadRoomLink::Broken),
        (&format!("{text}AAAA"), BadRoomLink::Broken),
        (&format!("{text}{}", "A".repeat(1 << 20)), BadRoomLink::Broken),
    ] {
        assert_eq!(bad.parse::<RoomLink>(), Err(why), "{bad}");
    }
    for at in 14..text.len() {
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        assert!(format!("{}{other}{}", &text[..at], &text[at + 1..]).parse::<RoomLink>().is_err(), "changed at {at}");
    }
    let longest = RoomLink { room: room(&"r".repeat(64)), inviter: handle(&"i".repeat(32)), ..link.clone() };
    assert_eq!(longest.reveal().parse(), Ok(longest));
    let shown = format!("{link:?} {:?}", link.seed);
    assert!(!shown.contains("7, 7") && shown.contains("[secret]"), "{shown}");
}

#[test]
fn what_derives_from_a_seed_does_not_tell_one_from_the_other() {
    let (one, other) = (seed(1), seed(2));
    assert_ne!(one.token().unwrap(), other.token().unwrap());
    assert_ne!(one.invite_key().unwrap().public(), other.invite_key().unwrap().public());
    // What a server sees of a link, the token, is not the key.
    let token = crate::roster::derive(&[1; 32], "unibus.link.token.1").unwrap();
    let key = crate::roster::derive(&[1; 32], "unibus.link.invite-key.1").unwrap();
    assert_ne!(*token, *key);
    assert_ne!(LinkSeed::random().unwrap(), LinkSeed::random().unwrap());
}
