//! Which stream keeps what a room says, and which node appends to it.

use sha2::{Digest, Sha256};

use unibus_core::bus;
use unibus_core::domain::RoomId;

/// One of the streams over which the rooms are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..bus::SHARDS).map(Self)
    }

    /// The one that keeps what `room` says, for as long as the room exists.
    pub fn of(room: &RoomId) -> Self {
        Self((weight(&[room.as_str().as_bytes()]) % u64::from(bus::SHARDS)).to_le_bytes()[0])
    }

    /// Its place among all.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Name of its stream.
    pub fn stream(self) -> String {
        bus::shard_stream(self.0)
    }

    /// What its stream takes: one wildcard, whatever is made below it.
    pub fn subjects(self) -> String {
        format!("{}*", bus::shard_prefix(self.0))
    }

    /// Where its stream has what `room` says.
    pub fn subject(self, room: &RoomId) -> String {
        format!("{}{room}", bus::shard_prefix(self.0))
    }

    /// The room whose messages are on `subject`.
    pub fn room(self, subject: &str) -> Option<RoomId> {
        subject.strip_prefix(&bus::shard_prefix(self.0))?.parse().ok()
    }

    /// Of `nodes`, the one that appends: the first by a weight that differs for each shard, so that the shards of a node that is
    /// lost are spread over the others, and all others stay where they are (rendezvous hashing).
    pub fn appender<'a>(self, nodes: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        nodes.into_iter().max_by_key(|node| (weight(&[&[self.0], node.as_bytes()]), *node))
    }
}

fn weight(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().first_chunk().copied().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn room(number: u32) -> RoomId {
        format!("room{number}").parse().unwrap()
    }

    #[test]
    fn rooms_are_spread_evenly_and_each_stays_where_it_is() {
        const EACH: u32 = 1000;
        let mut rooms = BTreeMap::new();
        for number in 0..EACH * u32::from(bus::SHARDS) {
            *rooms.entry(Shard::of(&room(number))).or_insert(0u32) += 1;
        }
        assert_eq!(rooms.len(), usize::from(bus::SHARDS));
        assert!(rooms.values().all(|rooms| (EACH * 4 / 5..EACH * 6 / 5).contains(rooms)), "{rooms:?}");
        // What is stored under these names is found there by every later release.
        let kitchen: RoomId = "kitchen".parse().unwrap();
        let shard = Shard::of(&kitchen);
        assert_eq!(shard.subject(&kitchen), format!("unibus.kept.{:02}.kitchen", shard.index()));
        let weight = weight(&[b"kitchen"]);
        assert_eq!(weight, 0x3171_d89a_d005_30ff);
        assert_eq!(shard.index(), usize::try_from(weight % u64::from(bus::SHARDS)).unwrap());
        assert_eq!(shard.room(&shard.subject(&kitchen)), Some(kitchen));
    }

    #[test]
    fn a_node_that_is_lost_leaves_its_shards_to_the_others_and_nothing_else_moves() {
        let all = ["homer", "magnus", "nelson"];
        let mut shares = BTreeMap::new();
        for shard in Shard::all() {
            let before = shard.appender(all).unwrap();
            *shares.entry(before).or_insert(0) += 1;
            for lost in all {
                let after = shard.appender(all.into_iter().filter(|node| *node != lost)).unwrap();
                assert_eq!(after == before, lost != before, "{shard:?} without {lost}");
            }
        }
        let half_of_an_equal_part = usize::from(bus::SHARDS) / all.len() / 2;
        assert!(
            all.iter().all(|node| shares.get(node).is_some_and(|share| *share >= half_of_an_equal_part)),
            "{shares:?}"
        );
        assert_eq!(Shard(0).appender([]), None);
    }
}
