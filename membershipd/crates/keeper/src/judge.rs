//! Whether a frame is kept: what a client would check before it shows it. Pure.

use std::time::Instant;

use super::heard::Heard;
use unibus_api_types::notice::Reason;
use unibus_core::domain::{
    Action, ClaimsKey, FeatureLevel, Handle, Policy, Records, Resource, Room, RoomId, Subject, Verifier, decide,
    holds_its_subject,
};
use unibus_core::view::View;
use unibus_crypto::{Frame, FrameRefusal};

/// What a view says of a subject on which something was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// What is said there is kept: the room, and whose subject it is.
    Kept(RoomId, Handle),
    /// It is not kept.
    Elsewhere,
    /// The room that has the subject is not known yet, or never will be.
    Unknown,
}

/// What `view` says of `subject`.
pub(crate) fn place(subject: &str, view: &View) -> Place {
    let split = subject.rsplit_once('.');
    let parsed =
        split.and_then(|(above, sender)| Some((above.parse::<Subject>().ok()?, sender.parse::<Handle>().ok()?)));
    let Some((above, sender)) = parsed.filter(|_| view.level() >= FeatureLevel::Kept) else { return Place::Elsewhere };
    let claims = view.claims(&ClaimsKey::deciding(&above, view.level()));
    let Some(holder) = claims.and_then(|claims| claims.holder(&above)) else {
        let covered = claims.is_some_and(|claims| claims.covers(&above));
        return if covered { Place::Elsewhere } else { Place::Unknown };
    };
    match view.room(holder) {
        Some(room) if keeps(room, view) && room.subject == above => Place::Kept(room.id.clone(), sender),
        Some(room) if room.subject == above => Place::Elsewhere,
        _ => Place::Unknown,
    }
}

/// Whether what is said in `room` is kept.
fn keeps(room: &Room, view: &View) -> bool {
    room.policy.persist && holds_its_subject(room, view)
}

/// What the frame of an entitled sender is checked with.
#[derive(Debug)]
pub(crate) struct Terms {
    policy: Policy,
    verifier: Verifier,
}

/// Whether the sender may say that there, as far as `view` knows; the view is proven up to `proven`. None: what is missing may
/// have been granted before the frame was heard, and the view does not know yet.
pub(crate) fn entitled(heard: &Heard, view: &View, proven: Option<Instant>) -> Option<Result<Terms, Reason>> {
    let terms = || {
        let room = view.room(&heard.room).filter(|room| keeps(room, view))?;
        let there = heard.subject.strip_suffix(heard.sender.as_str())?.strip_suffix('.')? == room.subject.as_str();
        let user = view.user(&heard.sender)?;
        let speaks = decide(Some(user), Action::Publish, Resource::Subject(&room.id, &room.subject), view).is_allow();
        let verifier = user.sign_pub.verifier().filter(|_| there && speaks)?;
        Some(Terms { policy: room.policy, verifier })
    };
    match terms() {
        Some(terms) => Some(Ok(terms)),
        None if proven.is_some_and(|proven| proven > heard.at) => Some(Err(Reason::NotAllowed)),
        None => None,
    }
}

/// Whether the frame is one that its sender made for this place.
pub(crate) fn authentic(heard: &Heard, terms: &Terms) -> Result<(), Reason> {
    let frame = Frame::parse(&heard.frame).map_err(|_| Reason::Malformed)?;
    if frame.header.sender != heard.sender {
        return Err(Reason::OtherSender);
    }
    match frame.prove(&heard.room, &heard.subject, terms.policy, Some(&terms.verifier)) {
        Ok(_) => Ok(()),
        Err(FrameRefusal::Clear | FrameRefusal::Unsigned) => Err(Reason::Policy),
        Err(FrameRefusal::TooLarge(_)) => Err(Reason::TooLarge),
        Err(FrameRefusal::Untrue(..) | FrameRefusal::NoSender(_)) => Err(Reason::Signature),
        Err(_) => Err(Reason::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use nkeys::KeyPair;

    use super::*;
    use unibus_core::domain::{LevelRecord, MemberState, Record, Role, RoomRole, SignPub, State};
    use unibus_core::view::fixtures::{Entry, member, only_claim, room, user};
    use unibus_crypto::{FrameId, MessageId, Sealer};

    const SIGNED: Policy = Policy { encrypt: false, persist: true, sign: true };

    fn key_of(pair: &KeyPair) -> SignPub {
        let (_, raw) = nkeys::from_public_key(&pair.public_key()).unwrap();
        let hex = data_encoding::HEXLOWER.encode(&raw);
        hex.parse().unwrap()
    }

    fn view(policy: Policy, state: MemberState, pair: &KeyPair) -> View {
        let mut bob = user("bob", Role::User, State::Active);
        bob.sign_pub = key_of(pair);
        let kitchen = room("kitchen", "room.kitchen", policy);
        FeatureLevel::Kept.assume_highest();
        let claims = only_claim(&kitchen).small_documents().into_values();
        let entries = [
            Entry::of(&Record::Level(LevelRecord::new(FeatureLevel::Kept))),
            Entry::of(&Record::User(bob.clone())),
            Entry::claim(&bob),
            Entry::of(&Record::Room(kitchen)),
            Entry::of(&Record::Membership(member("kitchen", "bob", RoomRole::Member, state))),
        ];
        let mut view = View::default();
        let claims = claims.map(|claims| Entry::of(&Record::Claims(claims)));
        for (entry, revision) in entries.into_iter().chain(claims).zip(1..) {
            view.apply(entry.bucket, &entry.key, &entry.value, revision).unwrap();
        }
        view
    }

    fn heard(at: Instant, sender: &str, subject: &str, frame: Vec<u8>) -> Heard {
        let (room, sender): (RoomId, Handle) = ("kitchen".parse().unwrap(), sender.parse().unwrap());
        let id = FrameId::of(&room, subject, &frame);
        Heard { at, room, subject: subject.to_owned(), sender, frame: Bytes::from(frame), id }
    }

    fn said(pair: &KeyPair, sender: &str, subject: &str) -> Vec<u8> {
        let pair = KeyPair::from_seed(&pair.seed().unwrap()).unwrap();
        let sealer = Sealer::new("kitchen".parse().unwrap(), sender.parse().unwrap(), Some(pair), None).unwrap();
        sealer.seal(subject, MessageId::new(1, [7; 10]), &["hello"]).unwrap()
    }

    #[test]
    fn a_subject_has_its_place_by_claim_and_record() {
        let pair = KeyPair::new_user();
        let view = view(SIGNED, MemberState::Joined, &pair);
        let kept = Place::Kept("kitchen".parse().unwrap(), "bob".parse().unwrap());
        assert_eq!(place("room.kitchen.bob", &view), kept);
        assert_eq!(place("room.attic.bob", &view), Place::Unknown, "its room may come");
        for elsewhere in ["room.kitchen.corner.bob", "room.kitchen", "room.kitchen.Bob", "other.kitchen.bob"] {
            assert_eq!(place(elsewhere, &view), Place::Elsewhere, "{elsewhere}");
        }
        let quiet = self::view(Policy { persist: false, ..SIGNED }, MemberState::Joined, &pair);
        assert_eq!(place("room.kitchen.bob", &quiet), Place::Elsewhere);
        // Before the level is raised streams capture what is said, and no daemon keeps it.
        assert_eq!(place("room.kitchen.bob", &View::default()), Place::Elsewhere);
    }

    #[test]
    fn a_subject_that_is_not_the_sender_s_in_the_room_entitles_to_nothing() {
        let (pair, at) = (KeyPair::new_user(), Instant::now());
        let joined = view(SIGNED, MemberState::Joined, &pair);
        let proven = Some(at + Duration::from_millis(1));
        for subject in ["room.attic.bob", "room.kitchen.alice", "room.kitchen", "room.kitchen.more.bob"] {
            let heard = heard(at, "bob", subject, said(&pair, "bob", subject));
            assert_eq!(entitled(&heard, &joined, proven).unwrap().unwrap_err(), Reason::NotAllowed, "{subject}");
        }
        let quiet = view(Policy { persist: false, ..SIGNED }, MemberState::Joined, &pair);
        let heard = heard(at, "bob", "room.kitchen.bob", said(&pair, "bob", "room.kitchen.bob"));
        assert!(matches!(entitled(&heard, &joined, proven), Some(Ok(_))));
        assert_eq!(entitled(&heard, &quiet, proven).unwrap().unwrap_err(), Reason::NotAllowed, "it keeps nothing");
    }

    #[test]
    fn who_may_not_speak_is_refused_once_the_view_proves_it() {
        let (pair, at) = (KeyPair::new_user(), Instant::now());
        let frame = said(&pair, "bob", "room.kitchen.bob");
        let heard = heard(at, "bob", "room.kitchen.bob", frame);
        let joined = view(SIGNED, MemberState::Joined, &pair);
        assert!(matches!(entitled(&heard, &joined, None), Some(Ok(_))));
        for state in [MemberState::Invited, MemberState::Banned, MemberState::Removed] {
            let view = view(SIGNED, state, &pair);
            assert!(entitled(&heard, &view, None).is_none(), "a grant may be on its way");
            assert!(entitled(&heard, &view, Some(at)).is_none());
            let proven = Some(at + Duration::from_millis(1));
            assert_eq!(entitled(&heard, &view, proven).unwrap().unwrap_err(), Reason::NotAllowed);
        }
    }

    #[test]
    fn only_what_its_sender_made_for_this_place_is_authentic() {
        let (pair, mallory, at) = (KeyPair::new_user(), KeyPair::new_user(), Instant::now());
        let judged = |policy: Policy, frame: Vec<u8>| {
            let heard = heard(at, "bob", "room.kitchen.bob", frame);
            let terms = Terms { policy, verifier: key_of(&pair).verifier().unwrap() };
            authentic(&heard, &terms)
        };
        let good = said(&pair, "bob", "room.kitchen.bob");
        assert_eq!(judged(SIGNED, good.clone()), Ok(()));
        assert_eq!(judged(SIGNED, said(&mallory, "bob", "room.kitchen.bob")), Err(Reason::Signature));
        assert_eq!(judged(SIGNED, said(&pair, "bob", "room.attic.bob")), Err(Reason::Signature), "made for elsewhere");
        assert_eq!(judged(SIGNED, said(&pair, "alice", "room.kitchen.bob")), Err(Reason::OtherSender));
        assert_eq!(judged(Policy::CONVERSATION, good.clone()), Err(Reason::Policy), "in clear");
        // A room of an older release may keep what is not signed: the subject on which it was said proves the sender to this node.
        let sealer = Sealer::new("kitchen".parse().unwrap(), "bob".parse().unwrap(), None, None).unwrap();
        let unsigned = sealer.seal("room.kitchen.bob", MessageId::new(1, [7; 10]), &["hello"]).unwrap();
        assert_eq!(judged(SIGNED, unsigned.clone()), Err(Reason::Policy));
        assert_eq!(judged(Policy { sign: false, ..SIGNED }, unsigned), Ok(()));
        assert_eq!(judged(SIGNED, b"hello".to_vec()), Err(Reason::Malformed));
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(judged(SIGNED, changed).is_err(), "byte {at}");
        }
    }
}
