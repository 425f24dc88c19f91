//! What was heard on a subject whose room this node does not know yet. Pure.
//!
//! A room may have been made on another node a moment ago. No member can publish where no room is, so little comes here; it waits until
//! the view is proven to have everything that was committed before it was heard.

use std::collections::VecDeque;
use std::time::Instant;

use super::listener::Message;

/// Most messages that wait, and their bytes.
const MESSAGES: usize = 4096;
const BYTES: usize = 16 << 20;

/// Messages without a place, in the order in which they were heard.
#[derive(Debug, Default)]
pub(crate) struct Unplaced {
    waiting: VecDeque<(Instant, Message)>,
    bytes: usize,
}

impl Unplaced {
    /// Takes a message in, if there is room.
    pub(crate) fn hear(&mut self, at: Instant, message: Message) {
        let bytes = message.payload.len();
        if self.waiting.len() < MESSAGES && self.bytes + bytes <= BYTES {
            self.bytes += bytes;
            self.waiting.push_back((at, message));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives all of them to `place`, which says whether the message waits on. What was heard before `proven` does not.
    pub(crate) fn again(&mut self, proven: Option<Instant>, mut place: impl FnMut(Instant, &Message) -> bool) {
        self.waiting.retain(|(at, message)| place(*at, message) && proven.is_none_or(|proven| proven <= *at));
        self.bytes = self.waiting.iter().map(|(_, message)| message.payload.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_message_waits_until_its_room_comes_or_is_proven_not_to() {
        let now = Instant::now();
        let message = |subject: &str| Message { subject: subject.to_owned(), payload: Bytes::from_static(b"x") };
        let mut unplaced = Unplaced::default();
        for (n, subject) in ["a", "b", "c"].into_iter().enumerate() {
            unplaced.hear(now + Duration::from_secs(u64::try_from(n).unwrap()), message(subject));
        }
        let mut asked = Vec::new();
        unplaced.again(None, |_, message| {
            asked.push(message.subject.clone());
            message.subject != "b"
        });
        assert_eq!(asked, ["a", "b", "c"]);
        unplaced.again(Some(now + Duration::from_secs(1)), |_, _| true);
        let mut left = Vec::new();
        unplaced.again(None, |at, message| {
            left.push((at, message.subject.clone()));
            true
        });
        assert_eq!(left, [(now + Duration::from_secs(2), "c".to_owned())], "what was heard after the proof waits on");
    }

    #[test]
    fn what_waits_has_a_bound() {
        let mut unplaced = Unplaced::default();
        for _ in 0..MESSAGES * 2 {
            let payload = Bytes::from(vec![0; 100_000]);
            unplaced.hear(Instant::now(), Message { subject: "room.x.bob".to_owned(), payload });
        }
        assert!(unplaced.bytes <= BYTES && unplaced.waiting.len() <= MESSAGES && !unplaced.is_empty());
    }
}
