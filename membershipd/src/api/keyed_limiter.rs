//! Shares of what a node has so many of: places, bytes, connections. Each user, address and room has a part of the whole at most.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::problem::{Problem, Refuse as _};
use crate::config::Share;
use crate::rate::client_of;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Handle, RoomId};

/// For whom something is taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Party {
    User(Handle),
    /// As [`client_of`] has it.
    Address(IpAddr),
    Room(RoomId),
}

impl Party {
    /// The client at `address`.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Address(client_of(address))
    }
}

/// Limits what is taken at once. Clones count together. A party that has nothing takes no memory.
#[derive(Debug, Clone)]
pub(super) struct KeyedLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    what: &'static str,
    share: Share,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<Party, usize>,
}

/// Why there is nothing left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Full {
    /// All of it is taken.
    All(&'static str),
    /// The party has all of its share, which is so much.
    Share(&'static str, Party, usize),
}

impl KeyedLimiter {
    /// So much of `what`, which refusals name.
    pub(super) fn new(what: &'static str, share: Share) -> Self {
        Self(Arc::new(Inner { what, share, taken: Mutex::default(), freed: Notify::new() }))
    }

    /// Takes `amount` of it for all `parties`, until the place is dropped; refused where one of them has no more of its share.
    pub(super) fn take(&self, parties: &[Party], amount: usize) -> Result<Place, Full> {
        let Inner { what, share, .. } = &*self.0;
        let mut taken = self.0.taken();
        let exceeds = |had: usize, most: usize| had.saturating_add(amount) > most;
        for party in parties {
            let (had, most) = (taken.by.get(party).copied().unwrap_or_default(), self.0.most(party));
            if exceeds(had, most) {
                return Err(Full::Share(what, party.clone(), most));
            }
        }
        if exceeds(taken.all, share.all) {
            return Err(Full::All(what));
        }
        taken.all += amount;
        for party in parties {
            *taken.by.entry(party.clone()).or_default() += amount;
        }
        Ok(Place { of: self.0.clone(), parties: parties.into(), amount })
    }

    /// The same, and waits for up to `patience` while there is nothing left. What waits has taken nothing.
    pub(super) async fn take_within(
        &self,
        parties: &[Party],
        amount: usize,
        patience: Duration,
    ) -> Result<Place, Full> {
        let wait = async {
            loop {
                let freed = self.0.freed.notified();
                let mut freed = std::pin::pin!(freed);
                // From now on nothing that is given back is missed.
                freed.as_mut().enable();
                if let Ok(place) = self.take(parties, amount) {
                    return place;
                }
                freed.await;
            }
        };
        match timeout(patience, wait).await {
            Ok(place) => Ok(place),
            Err(_) => self.take(parties, amount),
        }
    }

    /// Waits until all of it is given back.
    pub(super) async fn all_free(&self) {
        loop {
            let freed = self.0.freed.notified();
            let mut freed = std::pin::pin!(freed);
            freed.as_mut().enable();
            if self.0.taken().all == 0 {
                return;
            }
            freed.await;
        }
    }

    /// How much `party` has.
    #[cfg(test)]
    pub(super) fn had_by(&self, party: &Party) -> usize {
        self.0.taken().by.get(party).copied().unwrap_or_default()
    }
}

impl Inner {
    fn most(&self, party: &Party) -> usize {
        match party {
            // Most rooms have more readers than one, and are no more important than a user.
            Party::User(_) | Party::Room(_) => self.share.user,
            Party::Address(_) => self.share.address,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Inner>,
    parties: Box<[Party]>,
    amount: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        taken.all -= self.amount;
        for party in &self.parties {
            if let Some(had) = taken.by.get_mut(party) {
                *had -= self.amount;
                if *had == 0 {
                    taken.by.remove(party);
                }
            }
        }
        drop(taken);
        self.of.freed.notify_waiters();
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, whose, most) = match self {
            Full::All(what) => {
                return write!(f, "this node has too many {what} at once; try again, or on another node");
            }
            Full::Share(what, Party::User(_), most) => (what, "a user", most),
            Full::Share(what, Party::Address(_), most) => (what, "an address", most),
            Full::Share(what, Party::Room(_), most) => (what, "a room", most),
        };
        write!(f, "{whose} may have {most} {what} at once; wait for one of them to end")
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        let kind = match &full {
            Full::All(_) => Kind::OVERLOADED,
            Full::Share(..) => Kind::RATE_LIMITED,
        };
        kind.because(full.to_string()).soon()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(handle: &str) -> Party {
        Party::User(handle.parse().unwrap())
    }

    #[test]
    fn no_party_takes_all_and_what_is_given_back_is_free() {
        let limiter = KeyedLimiter::new("things", Share { all: 3, user: 2, address: 3 });
        let held = [limiter.take(&[user("alice")], 1).unwrap(), limiter.take(&[user("alice")], 1).unwrap()];
        assert_eq!(limiter.take(&[user("alice")], 1).unwrap_err(), Full::Share("things", user("alice"), 2));
        let last = limiter.clone().take(&[user("bob")], 1).unwrap();
        assert_eq!(limiter.take(&[user("bob")], 1).unwrap_err(), Full::All("things"));
        drop(held);
        assert!(limiter.take(&[user("bob")], 1).is_ok());
        drop(last);
        assert!(limiter.0.taken().by.is_empty(), "no party is remembered");
        assert_eq!(Problem::from(Full::All("things")).kind, Kind::OVERLOADED);
        let problem = Problem::from(Full::Share("things", user("bob"), 2));
        assert!(problem.kind == Kind::RATE_LIMITED && problem.retry_after.is_some(), "{problem:?}");
    }

    #[test]
    fn each_party_needs_its_share_and_what_one_of_them_lacks_is_taken_of_none() {
        let limiter = KeyedLimiter::new("KiB", Share { all: 100, user: 6, address: 8 });
        let office = Party::at("192.0.2.1".parse().unwrap());
        let held = limiter.take(&[user("alice"), office.clone()], 6).unwrap();
        assert!(limiter.take(&[user("bob"), office.clone()], 3).is_err(), "the address has 2 left");
        assert_eq!(limiter.had_by(&user("bob")), 0);
        let elsewhere = Party::at("192.0.2.2".parse().unwrap());
        assert!(limiter.take(&[user("alice"), elsewhere.clone()], 1).is_err(), "the user has none left anywhere");
        assert!(limiter.take(&[user("bob"), elsewhere], 6).is_ok());
        drop(held);
        assert!(limiter.take(&[user("bob"), office], 6).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_takes_nothing_and_gets_what_is_given_back() {
        let limiter = KeyedLimiter::new("things", Share { all: 2, user: 1, address: 2 });
        let soon = Duration::from_secs(2);
        let first = limiter.take(&[user("alice")], 1).unwrap();
        let mut second = Box::pin(async { limiter.take_within(&[user("alice")], 1, soon).await });
        assert!(futures::poll!(&mut second).is_pending());
        assert!(limiter.take(&[user("bob")], 1).is_ok(), "who waits holds nothing");
        drop(first);
        assert!(second.await.is_ok());
        let _held = limiter.take(&[user("alice")], 1).unwrap();
        let late = limiter.take_within(&[user("alice")], 1, soon).await;
        assert_eq!(late.unwrap_err(), Full::Share("things", user("alice"), 1));
    }
}
