//! The share of the audit that denied changes may take: some have a record each, and what is beyond is counted and summed.
//!
//! A member may try what it may not as often as the API answers. With a record for each attempt one member could turn the log over
//! within hours, and what others did would make way.

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::audit::About;
use crate::config::Hourly;
use crate::rate::{Rate, client_of};
use unibus_core::domain::Author;

/// Time after which what was counted is summed for the first time. While it goes on each sum covers twice the time of the one before.
pub(super) const SUM_FIRST: Duration = Duration::from_secs(60);
/// Longest time that a sum covers.
const SUM_MOST: Duration = Duration::from_secs(60 * 60);
/// Users behind one address whose denied changes may each have their records: an office.
const USERS_PER_ADDRESS: u32 = 5;
/// Slots in which the rates are counted.
const SLOTS: usize = 1 << 12;

/// Who has how many records left, and what was counted instead.
#[derive(Debug)]
pub(super) struct DeniedShare {
    users: Rate<RandomState>,
    addresses: Rate<RandomState>,
    all: Rate<RandomState>,
    counted: Mutex<BTreeMap<Author, Counted>>,
}

/// Denied changes of a user that have no record.
#[derive(Debug)]
struct Counted {
    since: Instant,
    covers: Duration,
    by_action: BTreeMap<String, u64>,
}

/// What is to be said of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) who: Author,
    pub(super) count: u64,
    pub(super) text: String,
    by_action: BTreeMap<String, u64>,
}

impl DeniedShare {
    /// As much as `hourly` says, from `began`.
    pub(super) fn new(hourly: &Hourly, began: Instant) -> Self {
        let rate = |count| Rate::of(count, Duration::from_secs(60 * 60), count, SLOTS, began, RandomState::new());
        Self {
            users: rate(hourly.denied),
            addresses: rate(hourly.denied.saturating_mul(USERS_PER_ADDRESS)),
            all: rate(hourly.denied_all),
            counted: Mutex::default(),
        }
    }

    /// Whether a change that is denied now, to whom `about` says and at this address, has a record of its own. Otherwise it is counted.
    pub(super) fn has_record(&self, about: &About, from: Option<IpAddr>, now: Instant) -> bool {
        // Root on a node is no user, and asks nobody.
        let Author::User(user) = &about.who else { return true };
        let address = || from.is_none_or(|from| self.addresses.take(&client_of(from), now).is_ok());
        if self.users.take(user, now).is_ok() && address() && self.all.take(&(), now).is_ok() {
            return true;
        }
        let mut counted = self.counted();
        let new = || Counted { since: now, covers: SUM_FIRST, by_action: BTreeMap::new() };
        let counted = counted.entry(about.who.clone()).or_insert_with(new);
        *counted.by_action.entry(about.action.clone()).or_default() += 1;
        false
    }

    /// Takes the sums that are due at `now`, or all of them.
    pub(super) fn due(&self, now: Instant, all: bool) -> Vec<Sum> {
        let mut sums = Vec::new();
        self.counted().retain(|who, counted| {
            let passed = now.saturating_duration_since(counted.since);
            if !all && passed < counted.covers {
                return true;
            }
            let by_action = std::mem::take(&mut counted.by_action);
            let count: u64 = by_action.values().sum();
            if count == 0 {
                return false;
            }
            let actions = by_action.iter().map(|(action, count)| format!("{action} {count}")).collect::<Vec<_>>();
            let text = format!("{count} more denied changes in {} s: {}", passed.as_secs().max(1), actions.join(", "));
            sums.push(Sum { who: who.clone(), count, text, by_action });
            counted.since = now;
            counted.covers = (counted.covers * 2).min(SUM_MOST);
            true
        });
        sums
    }

    /// Counts what could not be written.
    pub(super) fn again(&self, sum: Sum, now: Instant) {
        let mut counted = self.counted();
        let new = || Counted { since: now, covers: SUM_FIRST, by_action: BTreeMap::new() };
        let counted = counted.entry(sum.who).or_insert_with(new);
        for (action, count) in sum.by_action {
            *counted.by_action.entry(action).or_default() += count;
        }
    }

    /// Whether nothing is left to be summed.
    pub(super) fn is_empty(&self) -> bool {
        self.counted().is_empty()
    }

    fn counted(&self) -> MutexGuard<'_, BTreeMap<Author, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bounds;

    fn about(who: &str, action: &str) -> About {
        About::new(who.parse().unwrap(), action)
    }

    fn share(denied: u32, denied_all: u32, began: Instant) -> DeniedShare {
        DeniedShare::new(&Hourly { denied, denied_all, ..Bounds::DEFAULT.hourly }, began)
    }

    #[test]
    fn a_user_has_some_records_and_the_rest_is_summed_in_ever_longer_times() {
        let began = Instant::now();
        let share = share(3, 100, began);
        let at = |seconds| began + Duration::from_secs(seconds);
        let tries =
            |who, action, count, now| (0..count).filter(|_| share.has_record(&about(who, action), None, now)).count();
        assert_eq!(tries("bob", "room.remove", 30, at(0)), 3);
        assert_eq!(tries("bob", "member.invite", 10, at(1)), 0);
        assert_eq!(tries("carol", "room.remove", 1, at(1)), 1, "another user has a share of their own");
        assert_eq!(tries("root@homer", "room.remove", 9, at(1)), 9);
        assert_eq!(share.due(at(59), false), []);
        let sums = share.due(at(60), false);
        assert_eq!((sums.len(), sums[0].count), (1, 37));
        assert_eq!(sums[0].text, "37 more denied changes in 60 s: member.invite 10, room.remove 27");
        assert_eq!(tries("bob", "room.remove", 5, at(61)), 0);
        assert_eq!(share.due(at(120), false), [], "the next one covers two minutes");
        assert_eq!(share.due(at(180), false)[0].count, 5);
        assert_eq!(share.due(at(420), false), []);
        assert!(share.is_empty(), "who stops is forgotten");
        assert_eq!(tries("bob", "room.remove", 5, at(2_400)), 2, "as many as that time gave back, and no more");
    }

    #[test]
    fn an_address_and_all_together_have_a_share_as_well_and_what_was_not_written_is_counted_again() {
        let now = Instant::now();
        let share = share(2, 12, now);
        let from = Some(IpAddr::from([192, 0, 2, 7]));
        let users: Vec<String> = (0..20).map(|number| format!("user{number}")).collect();
        let recorded =
            |from| users.iter().filter(|user| share.has_record(&about(user, "room.remove"), from, now)).count();
        assert_eq!(recorded(from), 10);
        assert_eq!(recorded(None), 2, "twelve in all");
        let sums = share.due(now, true);
        assert_eq!(sums.iter().map(|sum| sum.count).sum::<u64>(), 28);
        share.again(sums[0].clone(), now);
        assert_eq!(share.due(now, true)[0].count, sums[0].count);
    }
}
