//! Which bounds users met of late, and who is told how often: a user that tries again and again fills neither log nor bus.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use unibus_api_types::bound::Bound;
use unibus_core::domain::Handle;

/// For so long the API says to a user which bound it met: a client asks right after it was refused.
pub const MET: Duration = Duration::from_secs(10);
/// A user is told of a bound once in this time on the bus, and the operator in the log once in the other.
const TELL: Duration = Duration::from_secs(1);
const LOG: Duration = Duration::from_secs(60);

/// Who is to be told of a bound that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telling {
    /// The user, on the bus.
    pub user: bool,
    /// The operator, in the log.
    pub log: bool,
}

#[derive(Debug)]
struct Note {
    met: Instant,
    told: Instant,
    logged: Instant,
}

/// The bounds that were met. Of a user there are as many notes as there are bounds, for a minute.
#[derive(Debug, Default)]
pub(super) struct Met(HashMap<Handle, Vec<(Bound, Note)>>);

impl Met {
    /// Notes that `handle` met `bound` at `now`.
    pub(super) fn note(&mut self, handle: &Handle, bound: Bound, now: Instant) -> Telling {
        let since = |then: Instant| now.saturating_duration_since(then);
        if !self.0.contains_key(handle) {
            self.0.retain(|_, notes| {
                notes.retain(|(_, note)| since(note.met) < LOG);
                !notes.is_empty()
            });
        }
        let notes = self.0.entry(handle.clone()).or_default();
        let Some((_, note)) = notes.iter_mut().find(|(of, _)| *of == bound) else {
            notes.push((bound, Note { met: now, told: now, logged: now }));
            return Telling { user: true, log: true };
        };
        let telling = Telling { user: since(note.told) >= TELL, log: since(note.logged) >= LOG };
        note.met = now;
        note.told = if telling.user { now } else { note.told };
        note.logged = if telling.log { now } else { note.logged };
        telling
    }

    /// The bound that `handle` met last, not long before `now`.
    pub(super) fn last(&self, handle: &Handle, now: Instant) -> Option<Bound> {
        let (bound, note) = self.0.get(handle)?.iter().max_by_key(|(_, note)| note.met)?;
        (now.saturating_duration_since(note.met) < MET).then_some(*bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_once_a_second_the_log_once_a_minute_and_nothing_is_remembered_for_long() {
        let (mut met, start) = (Met::default(), Instant::now());
        let [alice, bob]: [Handle; 2] = ["alice", "bob"].map(|handle| handle.parse().unwrap());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let telling = |user, log| Telling { user, log };
        assert_eq!(met.note(&alice, Bound::Connections, start), telling(true, true));
        assert_eq!(met.note(&alice, Bound::Connections, start), telling(false, false));
        assert_eq!(met.note(&alice, Bound::Logins, start), telling(true, true), "of another bound");
        assert_eq!(met.note(&alice, Bound::Connections, at(1)), telling(true, false));
        assert_eq!(met.last(&alice, at(1)), Some(Bound::Connections));
        assert_eq!(met.last(&alice, at(1) + MET), None);
        assert_eq!(met.last(&bob, at(1)), None);
        assert_eq!(met.note(&alice, Bound::Connections, at(60)), telling(true, true));
        met.note(&bob, Bound::Pending, at(200));
        assert_eq!(met.0.len(), 1, "alice is forgotten");
    }
}
