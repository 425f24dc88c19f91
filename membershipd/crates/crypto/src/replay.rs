//! Frames that come again. Every member can publish the very bytes of another member's frame a second time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::id::MessageId;
use super::refusal::FrameRefusal;
use unibus_core::domain::Handle;

/// How far the time in an id may be from the time at which the frame came or was stored: two clocks that are each 30 s wrong,
/// and a sender who tries for some time.
const WINDOW: Duration = Duration::from_secs(120);

/// By which way a frame has come. By each of the two it comes once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the bus, now.
    Live,
    /// From the history, which names its place there.
    History {
        /// Its number in the history.
        seq: u64,
    },
}

/// What has come by which way.
#[derive(Debug, Clone, Copy, Default)]
struct Came {
    live: bool,
    history: Option<u64>,
}

/// The frames that have come lately, by id and sender: an id is its sender's choice, and no other member can use it up. An id
/// carries its time, so only those of the last minutes have to be remembered: an older one is refused for its age.
#[derive(Debug, Default)]
pub struct Seen {
    ids: BTreeMap<(MessageId, Handle), Came>,
    newest_ms: u64,
}

/// Whether a frame with this id may come, or be stored, at `at_ms` (milliseconds since 1970).
pub fn timely(id: MessageId, at_ms: u64) -> Result<(), FrameRefusal> {
    let apart = id.unix_ms().abs_diff(at_ms);
    if u128::from(apart) > WINDOW.as_millis() { Err(FrameRefusal::WrongTime(apart / 1000)) } else { Ok(()) }
}

impl Seen {
    /// Notes a frame of `sender` that came, or was stored, at `at_ms` (milliseconds since 1970). True where it is new; false where
    /// it is the one that the other way has brought already. An id that came by the same way before is refused. In a room whose
    /// messages are not signed `sender` is what the frame says.
    pub fn admit(&mut self, id: MessageId, sender: &Handle, at_ms: u64, source: Source) -> Result<bool, FrameRefusal> {
        timely(id, at_ms)?;
        let came = self.ids.entry((id, sender.clone())).or_default();
        let is_new = !came.live && came.history.is_none();
        match source {
            Source::Live if came.live => return Err(FrameRefusal::Replayed),
            Source::Live => came.live = true,
            Source::History { seq } if came.history.is_some_and(|before| before != seq) => {
                return Err(FrameRefusal::Replayed);
            }
            Source::History { seq } => came.history = Some(seq),
        }
        self.forget(at_ms);
        Ok(is_new)
    }

    /// Frames that are remembered.
    pub fn remembered(&self) -> usize {
        self.ids.len()
    }

    // What comes from now on is not older than the newest less the window, and its id not than that less another.
    fn forget(&mut self, at_ms: u64) {
        self.newest_ms = self.newest_ms.max(at_ms);
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        let oldest = MessageId::new(self.newest_ms.saturating_sub(2 * window), [0; 10]);
        while self.ids.first_key_value().is_some_and(|((id, _), _)| *id < oldest) {
            self.ids.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64, last: u8) -> MessageId {
        MessageId::new(ms, [last; 10])
    }

    fn alice() -> Handle {
        "alice".parse().unwrap()
    }

    #[test]
    fn another_member_does_not_use_an_id_up() {
        let (mut seen, now, bob) = (Seen::default(), 1_700_000_000_000, "bob".parse().unwrap());
        for source in [Source::Live, Source::History { seq: 7 }] {
            assert_eq!(seen.admit(id(now, 1), &bob, now, source), Ok(source == Source::Live));
        }
        assert_eq!(seen.admit(id(now, 1), &alice(), now, Source::History { seq: 8 }), Ok(true));
        assert_eq!(seen.admit(id(now, 1), &alice(), now, Source::Live), Ok(false));
        assert_eq!(seen.admit(id(now, 1), &bob, now, Source::Live), Err(FrameRefusal::Replayed));
    }

    #[test]
    fn a_frame_comes_once_by_each_way_and_is_new_once() {
        let mut seen = Seen::default();
        let now = 1_700_000_000_000;
        assert_eq!(seen.admit(id(now, 1), &alice(), now, Source::Live), Ok(true));
        assert_eq!(seen.admit(id(now, 1), &alice(), now + 5, Source::History { seq: 7 }), Ok(false));
        assert_eq!(seen.admit(id(now, 1), &alice(), now + 9, Source::History { seq: 7 }), Ok(false), "read again");
        assert_eq!(seen.admit(id(now, 1), &alice(), now + 9, Source::Live), Err(FrameRefusal::Replayed));
        assert_eq!(seen.admit(id(now, 1), &alice(), now + 9, Source::History { seq: 8 }), Err(FrameRefusal::Replayed));
        assert_eq!(seen.admit(id(now, 2), &alice(), now, Source::History { seq: 9 }), Ok(true));
        assert_eq!(seen.admit(id(now, 2), &alice(), now, Source::Live), Ok(false));
    }

    #[test]
    fn an_old_frame_is_refused_for_its_age_and_memory_is_bounded() {
        let mut seen = Seen::default();
        let start = 1_700_000_000_000;
        assert_eq!(
            seen.admit(id(start, 1), &alice(), start + 121_000, Source::Live),
            Err(FrameRefusal::WrongTime(121))
        );
        assert_eq!(
            seen.admit(id(start + 121_000, 1), &alice(), start, Source::Live),
            Err(FrameRefusal::WrongTime(121))
        );
        for second in 0..3_600 {
            let now = start + second * 1000;
            assert_eq!(seen.admit(id(now, 1), &alice(), now, Source::Live), Ok(true));
            // Whatever is young enough is still known.
            let before = now.saturating_sub(100_000).max(start);
            assert_eq!(seen.admit(id(before, 1), &alice(), now, Source::Live), Err(FrameRefusal::Replayed));
        }
        assert!(seen.remembered() < 300);
    }
}
