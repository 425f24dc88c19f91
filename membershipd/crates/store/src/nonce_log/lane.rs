//! What a process knows of a lane, and what it may note there. Pure: the log and time are the caller's.
//!
//! Invariant: where `last` is known, every nonce of the messages up to it, and no other, is among those that were seen, as long as a
//! request may carry it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use unibus_core::bus::Bucket;

const ID: usize = 16;
/// Of a message, before its ids: the version of this encoding and the id of the batch.
const VERSION: u8 = 1;
/// A lane in which this process did nothing for this time is read again: the engine may have dropped its last message for its age.
const IDLE: Duration = Duration::from_secs(120);

/// A nonce of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id([u8; ID]);

impl Id {
    /// The first half of a SHA-256.
    pub(super) fn from_digest(digest: &[u8]) -> Self {
        let mut id = [0; ID];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
        Self(id)
    }

    /// Which of so many lanes: every process finds the same.
    pub(super) fn number(self, lanes: usize) -> usize {
        usize::from(self.0.first().copied().unwrap_or_default()) % lanes.max(1)
    }
}

/// One message of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct BatchId([u8; ID]);

impl BatchId {
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut id = [0; ID];
        getrandom::fill(&mut id)?;
        Ok(Self(id))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One request of this process, which may ask twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Token(u64);

impl Token {
    pub(super) fn new(number: u64) -> Self {
        Self(number)
    }
}

/// What this process knows of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lane {
    /// The sequence of the last message that was read or written, and when; none: it is not known what the lane has.
    last: Option<(u64, Instant)>,
    /// Each nonce in it, and whose request of this process it was; none: another process noted it.
    seen: HashMap<Id, Option<Token>>,
    /// The nonces by when they were seen.
    ages: VecDeque<(Instant, Vec<Id>)>,
}

impl Lane {
    /// The sequence that the next message names.
    pub(super) fn last(&self, now: Instant) -> Option<u64> {
        let (last, at) = self.last?;
        (now.saturating_duration_since(at) < IDLE).then_some(last)
    }

    /// Begins with all that the lane has, and returns the last sequence; none: a message in it is not understood.
    pub(super) fn begin(&mut self, read: BTreeMap<u64, Vec<u8>>, now: Instant) -> Option<u64> {
        let last = read.keys().next_back().copied().unwrap_or_default();
        for value in read.into_values() {
            self.learn(decode(&value)?.1, None, now);
        }
        self.last = Some((last, now));
        Some(last)
    }

    /// The tokens of those items that were noted by their own request, and the items that no process has noted so far. Of one nonce that
    /// comes twice at once the first one counts.
    pub(super) fn judge(&self, items: &[(Id, Token)]) -> (HashSet<Token>, Vec<(Id, Token)>) {
        let (mut noted, mut fresh, mut now) = (HashSet::new(), Vec::new(), HashSet::new());
        for (id, token) in items {
            match self.seen.get(id) {
                Some(by) if *by == Some(*token) => {
                    noted.insert(*token);
                }
                Some(_) => {}
                None if now.insert(*id) => fresh.push((*id, *token)),
                None => {}
            }
        }
        (noted, fresh)
    }

    /// The message with these is written.
    pub(super) fn noted(&mut self, sequence: u64, items: &[(Id, Token)], now: Instant) {
        for (id, token) in items {
            self.learn([*id], Some(*token), now);
        }
        self.last = Some((sequence, now));
    }

    /// Others wrote first, `more`; or our own message is among it, and its acknowledgement was lost.
    pub(super) fn overtaken(
        &mut self,
        more: BTreeMap<u64, Vec<u8>>,
        ours: BatchId,
        items: &[(Id, Token)],
        now: Instant,
    ) {
        // Nothing newer is there although something was in the way: this reader knows less than the one that refused.
        if more.is_empty() {
            return self.lose();
        }
        for (sequence, value) in more {
            match decode(&value) {
                Some((batch, _)) if batch == ours => self.noted(sequence, items, now),
                Some((_, ids)) => {
                    self.learn(ids, None, now);
                    self.last = Some((sequence, now));
                }
                None => return self.lose(),
            }
        }
    }

    /// What the lane has is not known any more: it is read before anything else is written. What was seen was seen.
    pub(super) fn lose(&mut self) {
        self.last = None;
    }

    /// Forgets what no request can carry any more.
    pub(super) fn forget(&mut self, now: Instant) {
        let age = Bucket::NonceLog.max_age();
        while self.ages.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= age) {
            for id in self.ages.pop_front().into_iter().flat_map(|(_, ids)| ids) {
                self.seen.remove(&id);
            }
        }
    }

    fn learn(&mut self, ids: impl IntoIterator<Item = Id>, by: Option<Token>, now: Instant) {
        // What was seen before keeps its age: it is as old as that.
        let new: Vec<Id> = ids.into_iter().filter(|id| !self.seen.contains_key(id)).collect();
        self.seen.extend(new.iter().map(|id| (*id, by)));
        if !new.is_empty() {
            self.ages.push_back((now, new));
        }
    }
}

/// A message: version, batch, and the ids.
pub(super) fn encode(batch: BatchId, ids: impl IntoIterator<Item = Id>) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend(batch.0);
    ids.into_iter().for_each(|id| value.extend(id.0));
    value
}

/// The batch and the ids of a message; none: it is not one of this version. Its nonces are not known then, and nothing can be noted
/// beside them.
fn decode(value: &[u8]) -> Option<(BatchId, Vec<Id>)> {
    let ([VERSION], rest) = value.split_first_chunk::<1>()? else { return None };
    let (ids, []) = rest.as_chunks::<ID>() else { return None };
    let (batch, ids) = ids.split_first()?;
    Some((BatchId(*batch), ids.iter().map(|id| Id(*id)).collect()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::nonce_log) fn id(number: u8) -> Id {
        Id([number; ID])
    }

    pub(in crate::nonce_log) fn batch(number: u8) -> BatchId {
        BatchId([number; ID])
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        assert_eq!(decode(&encode(batch(9), [id(1), id(2)])), Some((batch(9), vec![id(1), id(2)])));
        assert_eq!(decode(&encode(batch(9), [])), Some((batch(9), vec![])));
        for foreign in [&[][..], &[1], &[2; 33], &[1, 2, 3], &[1; 34]] {
            assert_eq!(decode(foreign), None, "{foreign:?}");
            let (mut lane, now) = (Lane::default(), Instant::now());
            assert_eq!(lane.begin(BTreeMap::from([(7, foreign.to_vec())]), now), None);
            lane.begin(BTreeMap::new(), now);
            lane.overtaken(BTreeMap::from([(7, foreign.to_vec())]), batch(1), &[], now);
            assert_eq!(lane.last(now), None, "nothing is written beside what is not understood");
        }
    }

    #[test]
    fn each_nonce_is_noted_once_and_for_one_request() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        assert_eq!(lane.last(now), None, "nothing is written before the lane was read");
        assert_eq!(lane.begin(BTreeMap::from([(7, encode(batch(1), [id(1)]))]), now), Some(7));
        let items = [(id(1), Token(1)), (id(2), Token(2)), (id(2), Token(3)), (id(3), Token(4))];
        let (noted, fresh) = lane.judge(&items);
        assert_eq!((noted.len(), fresh.as_slice()), (0, &[(id(2), Token(2)), (id(3), Token(4))][..]));
        lane.noted(8, &fresh, now);
        assert_eq!(lane.last(now), Some(8));
        let (noted, fresh) = lane.judge(&items);
        assert_eq!((noted, fresh), (HashSet::from([Token(2), Token(4)]), vec![]), "asked again, by the same requests");
    }

    #[test]
    fn what_others_write_first_is_learned_and_our_own_message_is_known() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        lane.begin(BTreeMap::new(), now);
        let ours = [(id(2), Token(2)), (id(3), Token(3))];
        lane.overtaken(BTreeMap::from([(4, encode(batch(1), [id(2)]))]), batch(9), &ours, now);
        assert_eq!((lane.last(now), lane.judge(&ours)), (Some(4), (HashSet::new(), vec![ours[1]])));
        let ours = [ours[1]];
        let more = [(5, encode(batch(8), [id(3)])), (6, encode(batch(1), [id(4)]))];
        lane.overtaken(more.into(), batch(8), &ours, now);
        assert_eq!((lane.last(now), lane.judge(&ours)), (Some(6), (HashSet::from([Token(3)]), vec![])));
        lane.overtaken(BTreeMap::new(), batch(8), &ours, now);
        assert_eq!(lane.last(now), None, "who refused knew more than who was asked");
        assert_eq!(lane.judge(&[(id(4), Token(9))]), (HashSet::new(), vec![]), "what was seen was seen");
    }

    #[test]
    fn nonces_are_kept_for_as_long_as_a_request_may_carry_them_and_an_idle_lane_is_read_again() {
        let (mut lane, now) = (Lane::default(), Instant::now());
        lane.begin(BTreeMap::new(), now);
        lane.noted(1, &[(id(1), Token(1))], now);
        let age = Bucket::NonceLog.max_age();
        lane.noted(2, &[(id(1), Token(5)), (id(2), Token(2))], now + age / 2);
        let left = |lane: &mut Lane, at| {
            lane.forget(at);
            lane.judge(&[(id(1), Token(7)), (id(2), Token(7))]).1.len()
        };
        assert_eq!(left(&mut lane, now + age - Duration::from_millis(1)), 0);
        assert_eq!(left(&mut lane, now + age), 1);
        assert_eq!(left(&mut lane, now + age + age / 2), 2);
        assert_eq!(lane.last(now + age / 2 + IDLE - Duration::from_millis(1)), Some(2));
        assert_eq!(lane.last(now + age / 2 + IDLE), None);
        assert!(IDLE < age);
    }
}
