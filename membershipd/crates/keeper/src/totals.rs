//! How much of each room and sender a shard keeps, and what makes way where it is too much. Pure.
//!
//! Where a room has more than it may, the sender with the most in it gives up its own oldest messages: so no sender pushes out what
//! others said. Where all rooms together have too much, the room with the most gives up first.

use std::collections::{BTreeMap, HashMap};

use unibus_core::domain::{Handle, RoomId};

/// What a message takes in the store beside its frame, about: record, subject and headers (nats-server `server/filestore.go`).
const OVERHEAD: u32 = 256;

/// A minute, counted from 1970.
pub(crate) type Minute = u32;

#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: u32,
    at: Minute,
}

#[derive(Debug, Default)]
struct Said {
    bytes: u64,
    /// Of each message its size and age, by its sequence.
    messages: BTreeMap<u64, Held>,
}

#[derive(Debug, Default)]
struct OfRoom {
    bytes: u64,
    /// What an older stream captured may have none.
    senders: HashMap<Option<Handle>, Said>,
}

/// All that is kept in a shard.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    rooms: HashMap<RoomId, OfRoom>,
    bytes: u64,
}

impl Totals {
    /// Bytes of all rooms.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rooms of which something is kept.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.keys()
    }

    /// The room with the most, and its bytes.
    pub(crate) fn largest(&self) -> Option<(&RoomId, u64)> {
        self.rooms.iter().map(|(room, of)| (room, of.bytes)).max_by_key(|(room, bytes)| (*bytes, *room))
    }

    /// Where more than `part` is kept, the room that makes way for it, the largest one, and how many bytes it may have then.
    pub(crate) fn above(&self, part: u64) -> Option<(&RoomId, u64)> {
        let too_much = self.bytes.checked_sub(part).filter(|bytes| *bytes > 0)?;
        self.largest().map(|(room, bytes)| (room, bytes.saturating_sub(too_much)))
    }

    /// How many messages there are of each room.
    pub(crate) fn messages(&self) -> BTreeMap<RoomId, u64> {
        let count = |of: &OfRoom| of.senders.values().map(|said| said.messages.len()).sum::<usize>();
        let counted = self.rooms.iter().map(|(room, of)| (room.clone(), u64::try_from(count(of)).unwrap_or(u64::MAX)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Bytes of a room.
    pub(crate) fn of(&self, room: &RoomId) -> u64 {
        self.rooms.get(room).map_or(0, |of| of.bytes)
    }

    /// Notes a message that is kept; one that is noted already stays as it is.
    pub(crate) fn add(&mut self, room: &RoomId, sender: Option<&Handle>, sequence: u64, frame: usize, at: Minute) {
        let bytes = u32::try_from(frame).ok().and_then(|frame| frame.checked_add(OVERHEAD)).unwrap_or(u32::MAX);
        self.note(room, sender, sequence, Held { bytes, at });
    }

    fn note(&mut self, room: &RoomId, sender: Option<&Handle>, sequence: u64, held: Held) {
        let of = self.rooms.entry(room.clone()).or_default();
        let said = of.senders.entry(sender.cloned()).or_default();
        if said.messages.insert(sequence, held).is_none() {
            let bytes = u64::from(held.bytes);
            said.bytes += bytes;
            of.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// Notes all that another account has.
    pub(crate) fn merge(&mut self, other: Self) {
        for (room, of) in other.rooms {
            for (sender, said) in of.senders {
                for (sequence, held) in said.messages {
                    self.note(&room, sender.as_ref(), sequence, held);
                }
            }
        }
    }

    /// Forgets a room of which nothing is kept any more.
    pub(crate) fn forget(&mut self, room: &RoomId) {
        if let Some(of) = self.rooms.remove(room) {
            self.bytes -= of.bytes;
        }
    }

    /// What makes way until the room has no more than `most` bytes: sequences, in the order in which they go. They are no longer
    /// counted.
    pub(crate) fn make_way(&mut self, room: &RoomId, most: u64) -> Vec<u64> {
        let Some(of) = self.rooms.get_mut(room) else { return Vec::new() };
        let mut gone = Vec::new();
        while of.bytes > most {
            let largest = of.senders.iter_mut().max_by_key(|(sender, said)| (said.bytes, (*sender).clone()));
            let Some((sender, said)) = largest else { break };
            let Some((sequence, held)) = said.messages.pop_first() else { break };
            let bytes = u64::from(held.bytes);
            said.bytes -= bytes;
            of.bytes -= bytes;
            self.bytes -= bytes;
            gone.push(sequence);
            if said.messages.is_empty() {
                let sender = sender.clone();
                of.senders.remove(&sender);
            }
        }
        gone
    }

    /// The sequence before which all that the room keeps is from before `oldest`; none: nothing is. Where senders' messages are not
    /// quite in the order of their times some stay until their neighbours are as old.
    pub(crate) fn outdated(&self, room: &RoomId, oldest: Minute) -> Option<u64> {
        let senders = || self.rooms.get(room).into_iter().flat_map(|of| of.senders.values());
        let first =
            |said: &Said| said.messages.iter().find(|(_, held)| held.at >= oldest).map(|(sequence, _)| *sequence);
        let after_all = || senders().filter_map(|said| said.messages.last_key_value()).map(|(last, _)| last + 1).max();
        let end = senders().filter_map(first).min().or_else(after_all)?;
        let is_any = senders().any(|said| said.messages.first_key_value().is_some_and(|(sequence, _)| *sequence < end));
        is_any.then_some(end)
    }

    /// Forgets what the room kept before a sequence.
    pub(crate) fn forget_before(&mut self, room: &RoomId, end: u64) {
        let Some(of) = self.rooms.get_mut(room) else { return };
        for said in of.senders.values_mut() {
            let left = said.messages.split_off(&end);
            let bytes: u64 = said.messages.values().map(|held| u64::from(held.bytes)).sum();
            said.messages = left;
            said.bytes -= bytes;
            of.bytes -= bytes;
            self.bytes -= bytes;
        }
        of.senders.retain(|_, said| !said.messages.is_empty());
        if of.senders.is_empty() {
            self.rooms.remove(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kitchen() -> RoomId {
        "kitchen".parse().unwrap()
    }

    fn handle(name: &str) -> Handle {
        name.parse().unwrap()
    }

    #[test]
    fn a_flood_pushes_out_what_its_sender_said_and_nothing_else() {
        let mut totals = Totals::default();
        for sequence in 1..=100 {
            totals.add(&kitchen(), Some(&handle("nora")), sequence, 1000, 0);
        }
        for sequence in 101..=1100 {
            totals.add(&kitchen(), Some(&handle("mallory")), sequence, 10_000, 0);
        }
        let most = 1_000_000;
        let gone = totals.make_way(&kitchen(), most);
        assert!(gone.iter().all(|sequence| *sequence > 100), "nora's are all there");
        assert!(gone.windows(2).all(|pair| pair[0] < pair[1]) && gone[0] == 101, "the oldest of mallory's go");
        assert!(totals.of(&kitchen()) <= most && totals.of(&kitchen()) > most - 11_000);
        assert!(totals.make_way(&kitchen(), most).is_empty());
    }

    #[test]
    fn where_all_have_too_much_the_largest_room_makes_way() {
        let mut totals = Totals::default();
        for (sequence, room) in (1..).zip(["attic", "kitchen", "kitchen", "yard", "kitchen"]) {
            totals.add(&room.parse().unwrap(), Some(&handle("bob")), sequence, 744, 0);
        }
        assert_eq!(totals.bytes(), 5000);
        assert_eq!([totals.above(5000), totals.above(u64::MAX)], [None; 2]);
        let most = totals.above(3500);
        assert_eq!(most, Some((&kitchen(), 1500)));
        assert_eq!(totals.make_way(&kitchen(), 1500), [2, 3], "its oldest");
        assert!(totals.above(3500).is_none());
        assert_eq!(totals.above(0), Some((&"yard".parse().unwrap(), 0)), "of equal ones the last by name");
    }

    #[test]
    fn a_message_counts_once_and_a_room_is_forgotten_whole() {
        let mut totals = Totals::default();
        for _ in 0..2 {
            totals.add(&kitchen(), Some(&handle("bob")), 7, 100, 0);
        }
        totals.add(&"attic".parse().unwrap(), Some(&handle("bob")), 8, 1, 0);
        assert_eq!(totals.of(&kitchen()), 100 + u64::from(OVERHEAD));
        assert_eq!(totals.largest(), Some((&kitchen(), 100 + u64::from(OVERHEAD))));
        totals.forget(&kitchen());
        assert_eq!((totals.of(&kitchen()), totals.bytes()), (0, 1 + u64::from(OVERHEAD)));
        assert_eq!(totals.rooms().count(), 1);
    }

    #[test]
    fn what_is_too_old_is_all_before_one_sequence() {
        let mut totals = Totals::default();
        assert_eq!(totals.outdated(&kitchen(), 100), None);
        for (sequence, sender, at) in
            [(1, "bob", 10), (2, "alice", 11), (4, "bob", 30), (5, "alice", 29), (7, "bob", 40)]
        {
            totals.add(&kitchen(), Some(&handle(sender)), sequence, 100, at);
        }
        let outdated = |totals: &Totals, oldest| totals.outdated(&kitchen(), oldest);
        assert_eq!(outdated(&totals, 10), None);
        assert_eq!(outdated(&totals, 11), Some(2));
        assert_eq!(outdated(&totals, 30), Some(4), "what is younger than its successor waits for it");
        assert_eq!(outdated(&totals, 31), Some(7));
        totals.forget_before(&kitchen(), 4);
        assert_eq!((outdated(&totals, 12), totals.of(&kitchen())), (None, 3 * (100 + u64::from(OVERHEAD))));
        assert_eq!(outdated(&totals, 99), Some(8));
        totals.forget_before(&kitchen(), 8);
        assert_eq!((totals.bytes(), totals.rooms().count()), (0, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_smaller_half_of_senders_loses_nothing(
            messages in prop::collection::vec((0..4usize, 1..2000usize), 1..200), most in 1_000u64..200_000,
        ) {
            let mut totals = Totals::default();
            let mut said: HashMap<usize, u64> = HashMap::new();
            for (sequence, (sender, frame)) in (1..).zip(&messages) {
                totals.add(&kitchen(), Some(&handle(&format!("s{sender}"))), sequence, *frame, 0);
                *said.entry(*sender).or_default() += u64::from(OVERHEAD) + u64::try_from(*frame).unwrap();
            }
            let gone = totals.make_way(&kitchen(), most);
            prop_assert!(totals.of(&kitchen()) <= most || totals.of(&kitchen()) == 0);
            // With an equal share or less, a sender loses nothing.
            let share = most / u64::try_from(said.len()).unwrap();
            for (sequence, (sender, _)) in (1u64..).zip(&messages) {
                prop_assert!(!gone.contains(&sequence) || said[sender] > share, "{} of s{}", sequence, sender);
            }
            let left: u64 = (1u64..).zip(&messages).filter(|(at, _)| !gone.contains(at))
                .map(|(_, (_, frame))| u64::from(OVERHEAD) + u64::try_from(*frame).unwrap()).sum();
            prop_assert_eq!(left, totals.bytes());
        }
    }
}
