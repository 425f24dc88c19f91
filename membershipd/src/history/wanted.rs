//! What the streams of rooms shall be, and what is to be done about those that there are. Pure.

use std::collections::BTreeMap;

use unibus_core::bus;
use unibus_core::domain::{FeatureLevel, Records as _, Room, RoomId, RoomState, Subject};
use unibus_core::view::View;

/// What a room's stream shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// There, and keeping what is said on this subject and below it.
    Captures(Subject),
    /// Where there is one, keeping what it has and nothing more: the room does not persist now, or lost its subject, or daemons keep
    /// what is said.
    Silent,
    /// Gone, as the room is.
    Gone,
}

impl Wanted {
    fn of_room(room: &Room, view: &View) -> Self {
        if room.state == RoomState::Removed {
            return Wanted::Gone;
        }
        let holds = view.holder(&room.subject) == Some(&room.id);
        let captures = room.policy.persist && view.level() == FeatureLevel::Captured;
        if captures && holds { Wanted::Captures(room.subject.clone()) } else { Wanted::Silent }
    }

    /// What the stream of `room` shall be; none: nobody knows of such a room.
    pub fn of(room: &RoomId, view: &View) -> Option<Self> {
        view.room(room).map(|room| Self::of_room(room, view))
    }

    /// What the streams of all rooms shall be.
    pub fn all(view: &View) -> BTreeMap<RoomId, Self> {
        view.rooms().map(|room| (room.id.clone(), Self::of_room(room, view))).collect()
    }

    /// The subject that it shall keep.
    pub fn captures(&self) -> Option<&Subject> {
        if let Wanted::Captures(subject) = self { Some(subject) } else { None }
    }
}

/// What a stream that there is keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// What is said on a subject and below it.
    Captures(Subject),
    /// Nothing that a member may say.
    Silent,
    /// Something else, which no membershipd asked for; these are its subjects.
    Other(Vec<String>),
}

impl Found {
    /// By the subjects of the stream.
    pub fn by(room: &RoomId, subjects: &[String]) -> Self {
        let said = |subject: &&String| **subject != bus::history_restored(room.as_str());
        let subject = subjects.iter().filter(said).find_map(|subject| subject.parse::<Subject>().ok());
        let mut sorted = subjects.to_vec();
        sorted.sort();
        let is = |subject: Option<&Subject>| {
            let mut of = self::subjects(room, subject);
            of.sort();
            of == sorted
        };
        match subject {
            None if is(None) => Found::Silent,
            Some(subject) if is(Some(&subject)) => Found::Captures(subject),
            _ => Found::Other(subjects.to_vec()),
        }
    }

    fn is(&self, wanted: &Wanted) -> bool {
        match (self, wanted) {
            (Found::Captures(found), Wanted::Captures(subject)) => found == subject,
            (Found::Silent, Wanted::Silent) => true,
            _ => false,
        }
    }

    /// Whether it may keep what the engine would have to give to a stream with `subject`.
    fn stands_in_the_way_of(&self, subject: &Subject) -> bool {
        match self {
            Found::Captures(found) => found.overlaps(subject),
            Found::Silent => false,
            Found::Other(_) => true,
        }
    }
}

/// The subjects of the stream of `room` that keeps what is said on `subject`, or nothing.
pub fn subjects(room: &RoomId, subject: Option<&Subject>) -> Vec<String> {
    let restored = bus::history_restored(room.as_str());
    let said = subject.into_iter().flat_map(|subject| [subject.to_string(), format!("{subject}.>")]);
    std::iter::once(restored).chain(said).collect()
}

/// Something to be done about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It goes, and all that it has.
    Delete(RoomId),
    /// It keeps what is said on another subject from now on, or nothing more.
    Set(RoomId, Option<Subject>),
    /// There was none.
    Make(RoomId, Subject),
}

impl Action {
    /// Whose stream.
    pub fn room(&self) -> &RoomId {
        match self {
            Action::Delete(room) | Action::Set(room, _) | Action::Make(room, _) => room,
        }
    }

    /// Whether it is right still where the stream shall be `wanted`.
    pub fn serves(&self, wanted: Option<&Wanted>) -> bool {
        match (self, wanted) {
            (Action::Delete(_), Some(Wanted::Gone)) => true,
            // To let go is always safe, and what is missing then is set again.
            (Action::Set(_, None), Some(_)) => true,
            (Action::Set(_, Some(subject)) | Action::Make(_, subject), Some(Wanted::Captures(wanted))) => {
                subject == wanted
            }
            _ => false,
        }
    }
}

/// What is to be done, in this order. The engine gives no subject to two streams, so whoever gives one up comes before whoever
/// gets it, and what a room said on a subject is never kept by the one that had it before. A stream whose room nobody knows of
/// is left alone: the view may be that of a store which is still being filled.
pub fn plan(wanted: &BTreeMap<RoomId, Wanted>, found: &BTreeMap<RoomId, Found>) -> Vec<Action> {
    let (mut first, mut then) = (Vec::new(), Vec::new());
    for (room, wanted) in wanted {
        match (wanted, found.get(room)) {
            (_, Some(found)) if found.is(wanted) => {}
            (Wanted::Gone, Some(_)) => first.push(Action::Delete(room.clone())),
            (Wanted::Silent, Some(_)) => first.push(Action::Set(room.clone(), None)),
            (Wanted::Captures(subject), Some(own)) => {
                let set = Action::Set(room.clone(), Some(subject.clone()));
                let others = || found.iter().filter(|(other, _)| *other != room);
                let waits = others().any(|(_, other)| other.stands_in_the_way_of(subject));
                if waits {
                    if *own != Found::Silent {
                        first.push(Action::Set(room.clone(), None));
                    }
                    then.push(set);
                } else {
                    // In one step, so that nothing is lost in between.
                    first.push(set);
                }
            }
            (Wanted::Captures(subject), None) => then.push(Action::Make(room.clone(), subject.clone())),
            (Wanted::Gone | Wanted::Silent, None) => {}
        }
    }
    first.extend(then);
    first
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use unibus_core::domain::{Claims, Policy, Record, Space};
    use unibus_core::view::fixtures::{Entry, only_claim, room};

    fn id(text: &str) -> RoomId {
        text.parse().unwrap()
    }

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    fn captures(text: &str) -> Wanted {
        Wanted::Captures(subject(text))
    }

    #[test]
    fn what_the_view_says_is_what_is_wanted() {
        let kitchen = room("kitchen", "room.kitchen", Policy::CONVERSATION);
        let view = |claims: Claims, room: Room| {
            let mut view = View::default();
            for entry in [Entry::of(&Record::Claims(claims)), Entry::of(&Record::Room(room))] {
                view.apply(entry.bucket, &entry.key, &entry.value, 1).unwrap();
            }
            Wanted::all(&view)[&id("kitchen")].clone()
        };
        let claimed = || only_claim(&kitchen);
        assert_eq!(view(claimed(), kitchen.clone()), captures("room.kitchen"));
        let off = Room { policy: Policy::TELEMETRY, ..kitchen.clone() };
        assert_eq!(view(claimed(), off), Wanted::Silent);
        assert_eq!(view(Claims::none(Space::Room), kitchen.clone()), Wanted::Silent, "it lost its claim");
        assert_eq!(view(claimed(), kitchen.removed("root".parse().unwrap())), Wanted::Gone);
        assert_eq!(Wanted::of(&id("kitchen"), &View::default()), None);
    }

    #[test]
    fn a_stream_is_known_by_its_subjects() {
        let kitchen = id("kitchen");
        let own = "$KV.UNIBUS_history.kitchen".to_owned();
        let by = |subjects: &[&str]| {
            let subjects: Vec<String> = subjects.iter().map(|subject| (*subject).to_owned()).collect();
            Found::by(&kitchen, &subjects)
        };
        assert_eq!(by(&["room.a.>", &own, "room.a"]), Found::Captures(subject("room.a")));
        assert_eq!(by(&[&own]), Found::Silent);
        for strange in [&["room.a", "room.a.>"][..], &[&own, "room.a"], &[&own, "room.>"], &[]] {
            assert!(matches!(by(strange), Found::Other(_)), "{strange:?}");
        }
    }

    #[test]
    fn who_gives_a_subject_up_comes_before_who_gets_it() {
        let wanted = [("a", captures("room.y")), ("b", captures("room.x")), ("gone", Wanted::Gone)];
        let wanted: BTreeMap<_, _> = wanted.map(|(room, wanted)| (id(room), wanted)).into();
        let captured = |text: &str| Found::Captures(subject(text));
        let found = [("a", captured("room.x")), ("gone", captured("room.y.z")), ("strange", captured("room.other"))];
        let found: BTreeMap<_, _> = found.map(|(room, found)| (id(room), found)).into();
        let expected = [
            Action::Set(id("a"), None),
            Action::Delete(id("gone")),
            Action::Set(id("a"), Some(subject("room.y"))),
            Action::Make(id("b"), subject("room.x")),
        ];
        assert_eq!(plan(&wanted, &found), expected, "and nothing about a room that nobody knows");
        let moved = BTreeMap::from([(id("a"), captured("room.x"))]);
        let wanted = BTreeMap::from([(id("a"), captures("room.y"))]);
        assert_eq!(plan(&wanted, &moved), [Action::Set(id("a"), Some(subject("room.y")))], "in one step");
    }

    #[test]
    fn an_action_that_is_no_longer_wanted_is_not_carried_out() {
        let set = Action::Set(id("a"), Some(subject("room.x")));
        assert!(set.serves(Some(&captures("room.x"))) && !set.serves(Some(&captures("room.y"))));
        assert!(!set.serves(Some(&Wanted::Silent)) && !set.serves(None));
        assert!(Action::Set(id("a"), None).serves(Some(&captures("room.x"))));
        assert!(!Action::Delete(id("a")).serves(Some(&Wanted::Silent)) && !Action::Delete(id("a")).serves(None));
    }

    const SUBJECTS: [&str; 6] = ["room.a", "room.a.b", "room.a.b.c", "room.b", "room.b.a", "rpc.a"];
    const ROOMS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];

    /// What rooms want, whose subjects never overlap, as their claims do not.
    fn wants() -> impl Strategy<Value = BTreeMap<RoomId, Wanted>> {
        let one = prop_oneof![
            Just(None),
            Just(Some(Wanted::Gone)),
            Just(Some(Wanted::Silent)),
            prop::sample::select(SUBJECTS.to_vec()).prop_map(|text| Some(captures(text))),
        ];
        prop::collection::vec(one, ROOMS.len()).prop_map(|wants| {
            let mut all = BTreeMap::new();
            for (room, wanted) in ROOMS.iter().zip(wants) {
                let Some(wanted) = wanted else { continue };
                let taken =
                    |subject: &Subject| all.values().filter_map(Wanted::captures).any(|of| of.overlaps(subject));
                let wanted = if wanted.captures().is_some_and(taken) { Wanted::Silent } else { wanted };
                all.insert(id(room), wanted);
            }
            all
        })
    }

    /// What the engine does with an action; none: it refuses, as two streams would have a subject.
    fn carry_out(streams: &mut BTreeMap<RoomId, Found>, action: &Action) -> Option<()> {
        let subject = match action {
            Action::Delete(room) => return streams.remove(room).map(drop),
            Action::Set(_, subject) => subject.as_ref(),
            Action::Make(_, subject) => Some(subject),
        };
        assert_eq!(streams.contains_key(action.room()), matches!(action, Action::Set(..)));
        let others = streams.iter().filter(|(room, _)| *room != action.room());
        if subject.is_some_and(|subject| others.map(|(_, of)| of).any(|of| of.stands_in_the_way_of(subject))) {
            return None;
        }
        streams
            .insert(action.room().clone(), subject.map_or(Found::Silent, |subject| Found::Captures(subject.clone())));
        Some(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn from_any_streams_to_what_is_wanted_without_a_refusal(before in wants(), after in wants()) {
            let mut streams = BTreeMap::new();
            for (room, wanted) in before.iter().filter(|(_, wanted)| **wanted != Wanted::Gone) {
                streams.insert(room.clone(), wanted.captures().map_or(Found::Silent, |of| Found::Captures(of.clone())));
            }
            // Of a room that nobody knows any more a stream may stand in the way, and stays.
            streams.retain(|room, _| after.contains_key(room));
            for action in plan(&after, &streams) {
                prop_assert!(action.serves(after.get(action.room())));
                prop_assert!(carry_out(&mut streams, &action).is_some(), "{:?} is refused", action);
            }
            for (room, wanted) in &after {
                let found = streams.get(room);
                match wanted {
                    Wanted::Gone => prop_assert_eq!(found, None),
                    Wanted::Silent => prop_assert!(found.is_none_or(|found| *found == Found::Silent)),
                    Wanted::Captures(of) => prop_assert_eq!(found, Some(&Found::Captures(of.clone()))),
                }
            }
            prop_assert_eq!(plan(&after, &streams), []);
        }
    }
}
