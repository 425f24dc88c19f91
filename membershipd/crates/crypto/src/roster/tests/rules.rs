//! What each entry does, and what it is refused for.

use super::*;
use crate::roster::limits::{ENTRIES, GRANTS};
use crate::roster::{AdoptedMember, Head, HeadOrder, SuccessionRefusal, Takings};
use RoomRole::{Member, Moderator, Owner, Reader};

#[test]
fn people_come_change_and_go() {
    let (alice, bob, carol) = (who("alice"), who("bob"), who("carol"));
    let mut pen = Pen::new();
    pen.add(&alice, invite(&bob, Moderator));
    assert_eq!(pen.standing("bob"), invited(Moderator));
    pen.add(&bob, accept(&bob));
    pen.add(&bob, invite(&carol, Member));
    pen.add(&carol, accept(&carol));
    pen.add(&bob, role("carol", Reader));
    assert_eq!((pen.standing("bob"), pen.standing("carol")), (joined(Moderator), joined(Reader)));
    let carols = pen.state.person(&carol.handle).unwrap();
    assert_eq!((carols.since, &carols.by), (6, &bob.handle), "who did it, and when");
    assert_eq!(pen.state.person_at(&carol.handle, 5).unwrap().standing(), joined(Member).unwrap());
    assert_eq!(pen.state.person_at(&carol.handle, 3), None);

    pen.add(&bob, remove("carol"));
    pen.add(&bob, invite(&carol, Member));
    pen.add(&carol, RosterAction::Leave);
    pen.add(&alice, ban("carol"));
    assert_eq!(pen.refusal(&bob, invite(&carol, Member)), "banned");
    assert_eq!(pen.refusal(&carol, accept(&carol)), "denied");
    pen.add(&alice, unban("carol"));
    let recipients = pen.state.recipients(&Takings::default());
    assert_eq!(recipients, [alice.keys.of(alice.handle.clone()), bob.keys.of(bob.handle.clone())]);
    let away = [(bob.handle.clone(), bob.keys.sign_pub), (carol.handle.clone(), carol.keys.sign_pub)];
    assert_eq!(pen.state.recipients(&Takings::from_iter(away)), [alice.keys.of(alice.handle.clone())]);

    let policy = Policy::TELEMETRY;
    pen.add(&alice, RosterAction::SetPolicy { policy });
    pen.add(&alice, RosterAction::SetSubject { subject: "room.attic".parse().unwrap() });
    assert_eq!((pen.state.policy(), pen.state.subject().as_str()), (policy, "room.attic"));
    assert_eq!(pen.refusal(&alice, RosterAction::SetPolicy { policy }), "unchanged");
    assert_eq!(pen.refusal(&bob, RosterAction::SetPolicy { policy: Policy::CONVERSATION }), "denied");

    // The same from the beginning, from any head on, and from the disk.
    assert_eq!(verify(&pen.entries, Trust::Creator(alice.keys.sign_pub)).unwrap(), pen.state);
    for end in 1..pen.entries.len() {
        let mut state = verify(&pen.entries[..end], Trust::FirstUse).unwrap();
        let head = state.head();
        assert_eq!(
            state.compare(pen.state.head()),
            Ok(HeadOrder::Newer(u32::try_from(pen.entries.len() - end).unwrap()))
        );
        state = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        assert_eq!(state.extend(&pen.entries[end..]), Ok(pen.entries.len() - end));
        assert_eq!(state, pen.state);
        assert_eq!(verify(&pen.entries, Trust::Pinned(head)).unwrap(), pen.state);
    }
}

#[test]
fn another_log_an_old_one_and_one_with_holes_are_refused() {
    let (alice, bob, mallory) = (who("alice"), who("bob"), who("mallory"));
    let mut pen = Pen::new();
    pen.join(&bob, Member);
    let head = pen.state.head();
    let mut other =
        Pen { entries: pen.entries[..2].to_vec(), state: verify(&pen.entries[..2], Trust::FirstUse).unwrap() };
    other.add(&alice, remove("bob"));

    assert_eq!(verify(&pen.entries[..2], Trust::Pinned(head)), Err((3, "step-back")));
    assert_eq!(verify(&other.entries, Trust::Pinned(head)), Err((3, "fork")));
    assert_eq!(verify(&[pen.entries[0].clone(), pen.entries[2].clone()], Trust::FirstUse), Err((2, "gap")));
    assert_eq!(verify(&pen.entries[1..], Trust::FirstUse), Err((1, "gap")));
    assert_eq!(verify(&[], Trust::FirstUse), Err((1, "gap")));
    assert_eq!(verify(&pen.entries, Trust::Creator(bob.keys.sign_pub)), Err((1, "other-creator")));
    let again = [pen.entries.clone(), vec![pen.entries[2].clone()]].concat();
    assert_eq!(verify(&again, Trust::FirstUse), Err((4, "applied")));
    let spliced = [pen.entries.clone(), vec![other.entries[2].clone()]].concat();
    assert_eq!(verify(&spliced, Trust::FirstUse), Err((4, "fork")));
    let mut longer = pen.clone();
    longer.add(&alice, remove("bob"));
    let onto = [other.entries.clone(), vec![longer.entries[3].clone()]].concat();
    assert_eq!(verify(&onto, Trust::FirstUse), Err((4, "fork")), "what follows another entry 3");

    assert_eq!(pen.state.compare(head), Ok(HeadOrder::Same));
    assert_eq!(pen.state.compare(longer.state.head()), Ok(HeadOrder::Newer(1)));
    let old = Head { number: 2, hash: pen.entries[1].hash() };
    assert_eq!(pen.state.compare(old).unwrap_err().code(), "step-back");
    assert_eq!(pen.state.compare(other.state.head()).unwrap_err().code(), "fork");
    assert_eq!(pen.state.compare(Head { number: 0, ..head }).unwrap_err().code(), "fork");

    let foreign = Pen::begin("cellar", &mallory, create(&mallory));
    assert_eq!(verify(&foreign.entries, Trust::FirstUse), Err((1, "foreign-room")));
    let mixed = Entry { room: room("cellar"), ..pen.next(&alice, remove("bob")) };
    assert_eq!(pen.clone().state.apply(&signed(&mixed, &alice)).unwrap_err().code(), "foreign-room");
}

#[test]
fn only_the_actor_s_key_of_that_place_signs() {
    let (alice, bob, mallory, new) = (who("alice"), who("bob"), who("mallory"), who("bob2"));
    let mut pen = Pen::new();
    pen.join(&bob, Moderator);
    // In bob's name, with mallory's key: named, or hidden behind bob's.
    let act = || invite(&mallory, Member);
    let named = Entry { actor: bob.handle.clone(), ..pen.next(&mallory, act()) };
    assert_eq!(pen.state.clone().apply(&signed(&named, &mallory)).unwrap_err().code(), "other-key");
    let good = pen.sign(&bob, act());
    let forged = [&good.bytes()[..good.bytes().len() - 64], &mallory.pair.sign(good.bytes()).unwrap()].concat();
    let forged = SignedEntry::decode(&forged).unwrap();
    assert_eq!(pen.state.clone().apply(&forged).unwrap_err().code(), "signature");
    assert!(SignedEntry::sign(good.entry(), &mallory.pair, None).is_err());
    assert_eq!(pen.refusal(&mallory, act()), "denied");

    assert_eq!(pen.refusal(&bob, replace(&new)), "denied");
    assert_eq!(pen.refusal(&alice, replace(&Person { keys: bob.keys, ..who("bob2") })), "key-in-use");
    let half = Keys { sign_pub: new.keys.sign_pub, hpke_pub: bob.keys.hpke_pub };
    assert_eq!(pen.refusal(&alice, replace(&Person { keys: half, ..who("bob2") })), "key-in-use");
    assert_eq!(pen.refusal(&alice, replace(&who("alice2"))), "denied");
    pen.add(&alice, replace(&new));
    // The new key accepts by itself; the old one signs nothing any more, and never comes back.
    assert_eq!(pen.standing("bob"), invited(Moderator));
    assert_eq!(pen.refusal(&bob, accept(&bob)), "replaced-key");
    assert_eq!(pen.refusal(&bob, RosterAction::Leave), "replaced-key");
    pen.add(&new, accept(&new));
    assert_eq!(pen.standing("bob"), joined(Moderator));
    assert_eq!(pen.refusal(&bob, act()), "replaced-key");
    assert_eq!(pen.refusal(&alice, replace(&bob)), "key-in-use");
    pen.add(&alice, remove("bob"));
    assert_eq!(pen.refusal(&alice, invite(&bob, Member)), "key-changed");
    pen.add(&alice, invite(&new, Member));
    assert_eq!(pen.state.recipients(&Takings::default())[1], new.keys.of(bob.handle.clone()));
    pen.add(&alice, ban("bob"));
    assert_eq!(pen.refusal(&alice, replace(&person("bob", 77))), "banned");
}

#[test]
fn keys_belong_to_one_person_and_can_be_sealed_to() {
    let (alice, bob, carol) = (who("alice"), who("bob"), who("carol"));
    let mut pen = Pen::new();
    pen.add(&alice, invite(&bob, Member));
    let with = |keys: Keys| invite(&Person { keys, ..who("carol") }, Member);
    assert_eq!(pen.refusal(&alice, with(bob.keys)), "key-in-use");
    assert_eq!(pen.refusal(&alice, with(Keys { hpke_pub: bob.keys.hpke_pub, ..carol.keys })), "key-in-use");
    let weak = crate::HpkePub::from_bytes([0; 32]);
    assert_eq!(pen.refusal(&alice, with(Keys { hpke_pub: weak, ..carol.keys })), "weak-key");
    assert_eq!(pen.refusal(&alice, invite(&bob, Member)), "present");
    // Alice invited bob with an HPKE key of another person.
    let swapped = Keys { hpke_pub: carol.keys.hpke_pub, ..who("dave").keys };
    pen.add(&alice, invite(&Person { keys: swapped, ..who("dave") }, Member));
    assert_eq!(pen.refusal(&who("dave"), accept(&who("dave"))), "other-hpke-key");
    pen.add(&who("dave"), RosterAction::Leave);
    pen.add(&bob, accept(&bob));
    assert_eq!(pen.refusal(&bob, accept(&bob)), "unchanged");
}

#[test]
fn a_room_keeps_an_owner() {
    let (alice, bob) = (who("alice"), who("bob"));
    let mut pen = Pen::new();
    pen.add(&alice, invite(&bob, Owner));
    assert_eq!(pen.refusal(&alice, RosterAction::Leave), "last-owner");
    assert_eq!(pen.refusal(&alice, role("alice", Member)), "last-owner");
    pen.add(&bob, accept(&bob));
    pen.add(&bob, remove("alice"));
    assert_eq!(pen.refusal(&bob, RosterAction::Leave), "last-owner");
    assert_eq!(pen.refusal(&bob, role("bob", Owner)), "unchanged");
    assert_eq!(pen.refusal(&bob, ban("bob")), "denied");
}

#[test]
fn a_full_log_takes_what_ends_something_and_no_more() {
    let (alice, bob, carol) = (who("alice"), who("bob"), who("carol"));
    let mut pen = Pen::new();
    pen.join(&bob, Moderator);
    pen.add(&alice, link(1, Member));
    // As if much had been said in between.
    let fill = |pen: &mut Pen, length: u32| {
        let last = pen.state.head().hash;
        pen.state.hashes.resize(length as usize - 1, RosterHead::from_bytes([9; 32]));
        pen.state.hashes.push(last);
    };
    fill(&mut pen, GRANTS);
    assert!(pen.state.is_full());
    for (actor, action) in [
        (&alice, invite(&carol, Member)),
        (&alice, role("bob", Member)),
        (&alice, link(2, Member)),
        (&carol, accept_link(1, &carol)),
        (&alice, RosterAction::SetPolicy { policy: Policy::TELEMETRY }),
    ] {
        assert_eq!(pen.refusal(actor, action), "full");
    }
    pen.add(&alice, RosterAction::RevokeLink { invite_pub: invite_key(1).public() });
    pen.add(&alice, ban("bob"));
    assert_eq!(pen.refusal(&alice, unban("bob")), "full");
    fill(&mut pen, ENTRIES);
    assert_eq!(pen.refusal(&alice, RosterAction::Leave), "full");
}

#[test]
fn an_owner_adopts_an_older_room() {
    let (alice, bob, carol) = (who("alice"), who("bob"), who("carol"));
    let member = |one: &Person, role, state| AdoptedMember { handle: one.handle.clone(), role, state, keys: one.keys };
    let adopt = |members| RosterAction::Adopt {
        subject: "room.kitchen".parse().unwrap(),
        policy: Policy::CONVERSATION,
        members,
    };
    let own = member(&alice, Owner, MemberState::Joined);
    let all = vec![own.clone(), member(&bob, Member, MemberState::Joined), member(&carol, Reader, MemberState::Banned)];
    let mut pen = Pen::begin("kitchen", &alice, adopt(all));
    assert_eq!(pen.standing("bob"), joined(Member));
    assert_eq!(pen.state.founder().unwrap().0, &alice.handle);
    assert_eq!(pen.refusal(&alice, invite(&carol, Member)), "banned");
    pen.add(&bob, RosterAction::Leave);

    let refused = |members| State::begin(&opening("kitchen", &alice, adopt(members))).unwrap_err().code();
    assert_eq!(refused(vec![member(&alice, Moderator, MemberState::Joined)]), "denied");
    assert_eq!(refused(vec![member(&alice, Owner, MemberState::Invited)]), "denied");
    assert_eq!(refused(vec![member(&bob, Owner, MemberState::Joined)]), "denied");
    let twins = AdoptedMember { keys: alice.keys, ..member(&bob, Member, MemberState::Joined) };
    assert_eq!(refused(vec![own, twins]), "key-in-use");
    // In alice's name, with other keys than she signs with.
    let other = AdoptedMember { keys: who("alice2").keys, ..member(&alice, Owner, MemberState::Joined) };
    assert_eq!(refused(vec![other]), "denied");
}

#[test]
fn a_room_without_an_owner_goes_on_in_another() {
    let (alice, bob, mallory) = (who("alice"), who("bob"), who("mallory"));
    let mut old = Pen::new();
    old.join(&bob, Member);
    let goes_on = |founder: &Person, head| {
        let (hpke_pub, subject) = (founder.keys.hpke_pub, "room.kitchen2".parse().unwrap());
        let action =
            RosterAction::Continue { hpke_pub, subject, policy: Policy::CONVERSATION, room: room("kitchen"), head };
        Pen::begin("kitchen2", founder, action).state
    };
    let gone = Takings::from_iter([(alice.handle.clone(), alice.keys.sign_pub)]);
    let next = goes_on(&bob, old.state.head());
    assert_eq!(next.succeeds(&old.state, &gone), Ok(()));
    assert_eq!(next.predecessor().unwrap().head, old.state.head());
    assert_eq!(next.owners().collect::<Vec<_>>(), [&bob.handle]);
    let has = SuccessionRefusal::HasOwner(alice.handle.clone());
    assert_eq!(next.succeeds(&old.state, &Takings::default()), Err(has.clone()));
    // Alice's key was replaced on the bus: the one that the log has is counted out, and no owner can take the new one in.
    let new = Takings::from_iter([(alice.handle.clone(), who("alice2").keys.sign_pub)]);
    assert_eq!(next.succeeds(&old.state, &new), Err(has));
    assert_eq!(goes_on(&mallory, old.state.head()).succeeds(&old.state, &gone), Err(SuccessionRefusal::Stranger));
    let unknown = Head { number: 3, hash: RosterHead::from_bytes([1; 32]) };
    assert_eq!(goes_on(&bob, unknown).succeeds(&old.state, &gone), Err(SuccessionRefusal::UnknownHead));
    assert_eq!(old.state.succeeds(&old.state, &gone), Err(SuccessionRefusal::OtherRoom));
    assert_eq!(old.standing("bob"), joined(Member), "nothing is granted in the old one");
}
