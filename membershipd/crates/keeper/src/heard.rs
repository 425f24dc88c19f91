//! What was heard and is not kept yet, and the share of it that each sender may have. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::shard::Shard;
use unibus_api_types::notice::Reason;
use unibus_core::bus;
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::FrameId;

/// How long a frame waits to be kept: until the silence of the node that appends is noticed, and an election after that.
pub(crate) const HOLD: Duration = Duration::from_secs(20);
/// What one sender may have waiting, in all rooms together.
const SENDER_BYTES: usize = 8 << 20;
const SENDER_FRAMES: usize = 4096;
/// What all senders together may have waiting; beyond it, a sender may have no more than an equal part.
const ALL_BYTES: usize = 96 << 20;
/// What a frame takes beside its bytes, about.
const OVERHEAD: usize = 512;

/// A frame, as it was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// When.
    pub(crate) at: Instant,
    pub(crate) room: RoomId,
    /// Where, the sender's handle included.
    pub(crate) subject: String,
    /// Whose subject it is: the engine lets no other user publish there.
    pub(crate) sender: Handle,
    pub(crate) frame: Bytes,
    pub(crate) id: FrameId,
}

impl Heard {
    fn bytes(&self) -> usize {
        OVERHEAD + self.frame.len()
    }
}

#[derive(Debug, Default)]
struct Share {
    bytes: usize,
    frames: usize,
}

/// All that waits, in the order in which it was heard.
#[derive(Debug)]
pub(crate) struct Waiting {
    frames: HashMap<FrameId, (Ticket, Heard)>,
    /// Of each shard, what waits, by when it was heard.
    order: Vec<BTreeMap<Ticket, FrameId>>,
    shares: HashMap<Handle, Share>,
    bytes: usize,
    next: Ticket,
}

/// A place in the order of hearing.
type Ticket = u64;

impl Waiting {
    pub(crate) fn new() -> Self {
        let order = Shard::all().map(|_| BTreeMap::new()).collect();
        Self { frames: HashMap::new(), order, shares: HashMap::new(), bytes: 0, next: 0 }
    }

    /// Takes a frame in; one that waits already is the same frame.
    pub(crate) fn hear(&mut self, heard: Heard) -> Result<(), Reason> {
        if heard.frame.len() > bus::VALUE_BYTES {
            return Err(Reason::TooLarge);
        }
        if self.frames.contains_key(&heard.id) {
            return Ok(());
        }
        let (bytes, senders) = (heard.bytes(), self.shares.len());
        let share = self.shares.entry(heard.sender.clone()).or_default();
        let own = share.bytes + bytes;
        let too_much = own > SENDER_BYTES || share.frames >= SENDER_FRAMES;
        if too_much || self.bytes + bytes > ALL_BYTES && own > ALL_BYTES / (senders + 1) {
            self.tidy(&heard.sender);
            return Err(Reason::TooMuch);
        }
        share.bytes = own;
        share.frames += 1;
        self.bytes += bytes;
        self.next += 1;
        if let Some(order) = self.order.get_mut(Shard::of(&heard.room).index()) {
            order.insert(self.next, heard.id);
        }
        self.frames.insert(heard.id, (self.next, heard));
        Ok(())
    }

    /// What came of a frame is known: it waits no longer.
    pub(crate) fn done(&mut self, id: FrameId) -> Option<Heard> {
        let (ticket, heard) = self.frames.remove(&id)?;
        if let Some(order) = self.order.get_mut(Shard::of(&heard.room).index()) {
            order.remove(&ticket);
        }
        self.bytes -= heard.bytes();
        if let Some(share) = self.shares.get_mut(&heard.sender) {
            share.bytes -= heard.bytes();
            share.frames -= 1;
        }
        self.tidy(&heard.sender);
        Some(heard)
    }

    fn tidy(&mut self, sender: &Handle) {
        if self.shares.get(sender).is_some_and(|share| share.frames == 0) {
            self.shares.remove(sender);
        }
    }

    /// The oldest frames of a shard, so many and about so many bytes at most, but one at least.
    pub(crate) fn oldest(&self, shard: Shard, most: usize, most_bytes: usize) -> Vec<Heard> {
        let mut bytes = 0;
        let fit = self.of(shard).take(most).take_while(|heard| {
            let first = bytes == 0;
            bytes += heard.bytes();
            first || bytes <= most_bytes
        });
        fit.cloned().collect()
    }

    fn of(&self, shard: Shard) -> impl Iterator<Item = &Heard> {
        let order = self.order.get(shard.index()).into_iter().flat_map(BTreeMap::values);
        order.filter_map(|id| self.frames.get(id)).map(|(_, heard)| heard)
    }

    /// Whether anything of a shard waits.
    pub(crate) fn has(&self, shard: Shard) -> bool {
        self.of(shard).next().is_some()
    }

    /// Takes out what has waited for too long.
    pub(crate) fn expired(&mut self, shard: Shard, now: Instant) -> Vec<Heard> {
        let old = |heard: &&Heard| now.saturating_duration_since(heard.at) >= HOLD;
        let old: Vec<FrameId> = self.of(shard).take_while(old).map(|heard| heard.id).collect();
        old.into_iter().filter_map(|id| self.done(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heard(at: Instant, sender: &str, room: &str, frame: &[u8]) -> Heard {
        let (room, sender): (RoomId, Handle) = (room.parse().unwrap(), sender.parse().unwrap());
        let subject = format!("room.{room}.{sender}");
        let id = FrameId::of(&room, &subject, frame);
        Heard { at, room, subject, sender, frame: Bytes::copy_from_slice(frame), id }
    }

    fn numbered(at: Instant, sender: &str, number: u32, bytes: usize) -> Heard {
        let mut frame = vec![0; bytes];
        frame[..4].copy_from_slice(&number.to_be_bytes());
        heard(at, sender, "kitchen", &frame)
    }

    fn shard() -> Shard {
        Shard::of(&"kitchen".parse().unwrap())
    }

    #[test]
    fn frames_come_out_in_their_order_once() {
        let (now, mut waiting) = (Instant::now(), Waiting::new());
        let frames: Vec<Heard> = (0..5).map(|number| numbered(now, "bob", number, 10)).collect();
        for frame in frames.iter().chain(&frames) {
            waiting.hear(frame.clone()).unwrap();
        }
        assert_eq!(waiting.oldest(shard(), 3, usize::MAX), frames[..3]);
        assert_eq!(waiting.oldest(shard(), 3, 1), frames[..1], "one at least, however large it is");
        assert_eq!(waiting.done(frames[1].id), Some(frames[1].clone()));
        assert_eq!(waiting.done(frames[1].id), None);
        assert_eq!(waiting.oldest(shard(), 2, usize::MAX), [frames[0].clone(), frames[2].clone()]);
        let other = Shard::all().find(|other| *other != shard()).unwrap();
        assert!(waiting.has(shard()) && !waiting.has(other));
    }

    #[test]
    fn a_flood_takes_the_share_of_its_sender_and_no_other() {
        let (now, mut waiting) = (Instant::now(), Waiting::new());
        let mut floods = 0;
        for number in 0.. {
            match waiting.hear(numbered(now, "mallory", number, 100_000)) {
                Ok(()) => floods += 1,
                Err(reason) => {
                    assert_eq!(reason, Reason::TooMuch);
                    break;
                }
            }
        }
        assert_eq!(floods, SENDER_BYTES / (100_000 + OVERHEAD));
        waiting.hear(numbered(now, "bob", 0, 100_000)).unwrap();
        // Small ones are counted, too.
        let small = (0..).take_while(|number| waiting.hear(numbered(now, "eve", *number, 4)).is_ok()).count();
        assert_eq!(small, SENDER_FRAMES);
        // As many as fill the memory of all leave an equal part to one who comes later.
        for flooder in 0..20 {
            let flooder = format!("m{flooder}");
            let took =
                (0..).take_while(|number| waiting.hear(numbered(now, &flooder, *number, 500_000)).is_ok()).count();
            let part = if waiting.bytes > ALL_BYTES { ALL_BYTES / waiting.shares.len() } else { SENDER_BYTES };
            assert!(took * (500_000 + OVERHEAD) <= part, "{flooder} has {took}, and {part} bytes are an equal part");
        }
        assert!(waiting.bytes > ALL_BYTES);
        waiting.hear(numbered(now, "late", 0, 500_000)).unwrap();
        assert_eq!(waiting.hear(numbered(now, "big", 0, bus::VALUE_BYTES + 1)), Err(Reason::TooLarge));
    }

    #[test]
    fn what_waits_too_long_is_taken_out_and_nothing_younger() {
        let (now, mut waiting) = (Instant::now(), Waiting::new());
        let (old, young) = (numbered(now, "bob", 0, 10), numbered(now + HOLD / 2, "bob", 1, 10));
        waiting.hear(old.clone()).unwrap();
        waiting.hear(young.clone()).unwrap();
        assert_eq!(waiting.expired(shard(), now + HOLD - Duration::from_millis(1)), []);
        assert_eq!(waiting.expired(shard(), now + HOLD), [old]);
        assert_eq!(waiting.expired(shard(), now + HOLD), []);
        assert_eq!(waiting.oldest(shard(), 9, usize::MAX), [young]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_accounts_are_those_of_the_frames(steps in prop::collection::vec((any::<bool>(), 0..3u32, 0..8u32), 1..80)) {
            let (now, mut waiting) = (Instant::now(), Waiting::new());
            for (comes, sender, number) in steps {
                let frame = numbered(now, &format!("s{sender}"), number, 100);
                if comes {
                    waiting.hear(frame).unwrap();
                } else {
                    waiting.done(frame.id);
                }
                prop_assert_eq!(waiting.bytes, waiting.frames.values().map(|(_, heard)| heard.bytes()).sum::<usize>());
                let frames: usize = waiting.shares.values().map(|share| share.frames).sum();
                prop_assert_eq!(frames, waiting.frames.len());
                prop_assert!(waiting.shares.values().all(|share| share.frames > 0));
                prop_assert_eq!(waiting.oldest(shard(), usize::MAX, usize::MAX).len(), waiting.frames.len());
            }
        }
    }
}
