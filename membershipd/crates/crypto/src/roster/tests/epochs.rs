//! Keys of a room, bound to its log.

use super::*;
use crate::roster::{EpochStatement, Head, ProvenEpoch, RecipientsHash, SignedEpoch, Staleness, Takings};
use crate::{Epoch, KeyId};
use RoomRole::{Member, Moderator, Reader};

fn key(byte: u8) -> KeyId {
    KeyId::from_bytes([byte; 16])
}

fn epoch(number: u32) -> Epoch {
    Epoch::new(number).unwrap()
}

/// What `maker` says about the key of an epoch that they make now, for all who are there but those that the server takes away.
fn statement(state: &State, maker: &Person, number: u32, takings: &Takings) -> (EpochStatement, Vec<Handle>) {
    let recipients = state.recipients(takings);
    let statement = EpochStatement {
        room: state.room().clone(),
        epoch: epoch(number),
        key: key(u8::try_from(number).unwrap()),
        previous: (number > 1).then(|| key(u8::try_from(number - 1).unwrap())),
        head: state.head().hash,
        maker: maker.handle.clone(),
        recipients: RecipientsHash::of(state.room(), &recipients),
    };
    (statement, recipients.into_iter().map(|person| person.handle).collect())
}

fn code(result: Result<ProvenEpoch, crate::roster::EpochRefusal>) -> &'static str {
    result.unwrap_err().code()
}

#[test]
fn an_epoch_is_for_those_who_were_there_and_stale_when_others_are() {
    let (alice, bob, carol) = (who("alice"), who("bob"), who("carol"));
    let mut pen = Pen::new();
    pen.join(&bob, Member);
    pen.add(&alice, invite(&carol, Reader));
    let none = Takings::default();
    let (said, to) = statement(&pen.state, &bob, 1, &none);
    let signed = said.clone().sign(&bob.pair).unwrap();
    let proven = pen.state.check_epoch(&signed, &to, None).unwrap();
    assert_eq!((proven.made_at, proven.recipients.len()), (4, 3), "who is invited gets the key, too");
    assert!(pen.state.staleness(&proven, &none).is_fresh());
    let reversed: Vec<_> = to.iter().rev().cloned().collect();
    assert_eq!(
        pen.state.check_epoch(&signed, &reversed, None),
        Ok(proven.clone()),
        "in whatever order they are listed"
    );

    let taken = Takings::from_iter([(carol.handle.clone(), carol.keys.sign_pub)]);
    assert_eq!(pen.state.staleness(&proven, &taken).gone, std::slice::from_ref(&carol.handle));
    // Accepting changes nothing about the key; who goes, comes or gets new keys does.
    let mut later = pen.clone();
    later.add(&carol, accept(&carol));
    assert!(later.state.staleness(&proven, &none).is_fresh());
    later.add(&alice, remove("bob"));
    assert_eq!(later.state.staleness(&proven, &none), Staleness { gone: vec![bob.handle.clone()], missing: vec![] });
    later.add(&alice, invite(&who("dave"), Member));
    assert_eq!(later.state.staleness(&proven, &none).missing, [handle("dave")]);
    let mut replaced = pen.clone();
    replaced.add(&alice, replace(&who("bob2")));
    let both = Staleness { gone: vec![bob.handle.clone()], missing: vec![bob.handle.clone()] };
    assert_eq!(replaced.state.staleness(&proven, &none), both);
    // What it was made for can still be read.
    assert_eq!(later.state.check_epoch(&signed, &to, None), Ok(proven));

    // A server that said carol was out, and says she is in: she is in the log, so she gets the next one.
    let (less, fewer) = statement(&pen.state, &alice, 2, &taken);
    let less = pen.state.check_epoch(&less.sign(&alice.pair).unwrap(), &fewer, Some(&said)).unwrap();
    assert!(pen.state.staleness(&less, &taken).is_fresh());
    assert_eq!(pen.state.staleness(&less, &none).missing, [carol.handle]);
}

#[test]
fn what_a_server_makes_of_an_epoch_is_refused() {
    let (alice, bob, carol, mallory) = (who("alice"), who("bob"), who("carol"), who("mallory"));
    let mut pen = Pen::new();
    pen.join(&bob, Member);
    pen.join(&carol, Reader);
    let (none, state) = (Takings::default(), &pen.state);
    let (good, to) = statement(state, &bob, 1, &none);
    let check = |said: &EpochStatement, by: &Person, to: &[Handle]| {
        state.check_epoch(&said.clone().sign(&by.pair).unwrap(), to, None)
    };
    assert!(check(&good, &bob, &to).is_ok());
    // F2: an epoch by a user whom the server made up, for that user as well.
    let ghost = EpochStatement { maker: mallory.handle.clone(), ..good.clone() };
    assert_eq!(code(check(&ghost, &mallory, &to)), "maker");
    assert_eq!(code(check(&good, &mallory, &to)), "signature");
    let with = [to.clone(), vec![mallory.handle.clone()]].concat();
    assert_eq!(code(check(&good, &bob, &with)), "stranger");
    // F2b: a recipient is dropped from the list after it was signed, or is listed twice.
    assert_eq!(code(check(&good, &bob, &to[1..])), "recipients");
    assert_eq!(code(check(&good, &bob, &[to.clone(), vec![to[0].clone()]].concat())), "recipients");
    let reader = EpochStatement { maker: carol.handle.clone(), ..good.clone() };
    assert_eq!(code(check(&reader, &carol, &to)), "maker");
    assert_eq!(code(check(&EpochStatement { room: room("cellar"), ..good.clone() }, &bob, &to)), "foreign-room");
    let unknown = EpochStatement { head: RosterHead::from_bytes([1; 32]), ..good.clone() };
    assert_eq!(code(check(&unknown, &bob, &to)), "unknown-head");
    assert_eq!(code(check(&EpochStatement { previous: Some(key(9)), ..good.clone() }, &bob, &to)), "previous");
    assert_eq!(code(check(&EpochStatement { epoch: epoch(2), ..good.clone() }, &bob, &to)), "previous");
    // Everything that is said is signed.
    let signed = good.clone().sign(&bob.pair).unwrap();
    for changed in [
        EpochStatement { epoch: epoch(2), ..good.clone() },
        EpochStatement { key: key(8), ..good.clone() },
        EpochStatement { previous: Some(key(8)), ..good.clone() },
        EpochStatement { head: pen.entries[3].hash(), ..good.clone() },
        EpochStatement { recipients: RecipientsHash::from_bytes([0; 32]), ..good.clone() },
    ] {
        let changed = SignedEpoch { statement: changed, ..signed.clone() };
        assert_eq!(code(state.check_epoch(&changed, &to, None)), "signature");
    }
    let json = serde_json::to_string(&signed).unwrap();
    assert_eq!(serde_json::from_str::<SignedEpoch>(&json).unwrap(), signed);

    // A second key for an epoch, and one that was made by an older list than the one before it.
    let second = statement(state, &alice, 2, &none);
    let follow = |said: EpochStatement, before: &EpochStatement| {
        state.check_epoch(&said.sign(&alice.pair).unwrap(), &second.1, Some(before))
    };
    assert!(follow(second.0.clone(), &good).is_ok());
    assert_eq!(code(follow(EpochStatement { previous: Some(key(7)), ..second.0.clone() }, &good)), "previous");
    assert_eq!(code(follow(second.0.clone(), &EpochStatement { epoch: epoch(3), ..good.clone() })), "previous");
    let old = verify(&pen.entries[..4], Trust::FirstUse).unwrap();
    let (early, early_to) = statement(&old, &alice, 2, &none);
    let went_back = state.check_epoch(&early.sign(&alice.pair).unwrap(), &early_to, Some(&good));
    assert_eq!(code(went_back), "went-back");
}

#[test]
fn who_speaks_was_a_member_at_the_head_that_they_name() {
    let (alice, bob, carol) = (who("alice"), who("bob"), who("carol"));
    let mut pen = Pen::new();
    pen.join(&bob, Moderator);
    pen.join(&carol, Reader);
    let before = pen.state.head();
    pen.add(&alice, replace(&who("bob2")));
    pen.add(&who("bob2"), accept(&who("bob2")));
    let after = pen.state.head();
    let speaks = |name: &str, head: Head| {
        let moment = pen.state.check_sender(&handle(name), head.hash);
        moment.map(|moment| moment.keys).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(speaks("bob", before), Ok(bob.keys), "the key that was in force then");
    assert_eq!(speaks("bob", after), Ok(who("bob2").keys));
    assert!(speaks("carol", after).unwrap_err().contains("could not speak"));
    assert!(speaks("dave", after).is_err());
    let between = Head { number: 6, hash: pen.entries[5].hash() };
    assert!(speaks("bob", between).is_err(), "invited again, and silent until the new key accepts");
    assert!(pen.state.check_sender(&alice.handle, RosterHead::from_bytes([3; 32])).is_err());
}
