//! How often a client may do something, in memory that does not grow.
//!
//! A leaky bucket as a meter: one number for each client, the time at which its bucket will have drained (the generic cell
//! rate algorithm, ITU-T I.371). The crates for this keep a map that grows with every client and is swept now and then, and
//! whoever has many addresses decides how large it gets. Here clients fall into a fixed number of slots by a keyed hash, so
//! nobody can aim at the slot of another.

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Rates of many clients.
#[derive(Debug)]
pub(crate) struct Rate<S> {
    /// Time that a request uses up.
    cost: Duration,
    /// Requests that may be made at once.
    burst: u32,
    began: Instant,
    /// When each slot will have drained, counted from `began`.
    drained: Mutex<Box<[Duration]>>,
    hasher: S,
}

impl<S: BuildHasher> Rate<S> {
    /// At most `a_second` requests a second, `burst_s` seconds' worth of them at once. `hasher` is to be a random one.
    pub(crate) fn new(a_second: u32, burst_s: u32, slots: usize, began: Instant, hasher: S) -> Self {
        let burst = a_second.max(1).saturating_mul(burst_s.max(1));
        Self::of(a_second, Duration::from_secs(1), burst, slots, began, hasher)
    }

    /// At most `count` in `period`, and `burst` of them at once.
    pub(crate) fn of(count: u32, period: Duration, burst: u32, slots: usize, began: Instant, hasher: S) -> Self {
        let cost = period / count.max(1);
        let burst = burst.max(1);
        Self { cost, burst, began, drained: Mutex::new(vec![Duration::ZERO; slots.max(1)].into()), hasher }
    }

    /// Counts a request of `client` at `now`, or says how long to wait.
    pub(crate) fn take(&self, client: &impl Hash, now: Instant) -> Result<(), Duration> {
        self.take_many(client, 1, now)
    }

    /// Counts as many requests as `count` says, or none and says how long to wait. More than may be made at once count as that many.
    pub(crate) fn take_many(&self, client: &impl Hash, count: u32, now: Instant) -> Result<(), Duration> {
        let mut drained = self.drained();
        let now = now.saturating_duration_since(self.began);
        // The remainder is less than the length: there is such a slot.
        let Some(drained) = self.slot(client, &mut drained) else { return Err(self.cost) };
        let from = (*drained).max(now);
        let count = count.min(self.burst);
        let ahead = self.cost.saturating_mul(self.burst - count);
        match (from - now).checked_sub(ahead) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *drained = from + self.cost.saturating_mul(count);
                Ok(())
            }
        }
    }

    /// Takes back what was counted for something that was not done after all.
    pub(crate) fn give_back(&self, client: &impl Hash, count: u32) {
        if let Some(drained) = self.slot(client, &mut self.drained()) {
            *drained = drained.saturating_sub(self.cost.saturating_mul(count.min(self.burst)));
        }
    }

    fn slot<'a>(&self, client: &impl Hash, drained: &'a mut [Duration]) -> Option<&'a mut Duration> {
        let slots = u64::try_from(drained.len()).unwrap_or(1);
        let slot = usize::try_from(self.hasher.hash_one(client) % slots).unwrap_or(0);
        drained.get_mut(slot)
    }

    fn drained(&self) -> MutexGuard<'_, Box<[Duration]>> {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one client can choose from freely: an IPv6 host has at least 64 bits to itself (RFC 6177), an IPv4 one its address.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_others_are_not_concerned() {
        let began = Instant::now();
        let rate = Rate::new(10, 2, 1 << 12, began, RandomState::new());
        let at = |ms| began + Duration::from_millis(ms);
        for _ in 0..20 {
            assert_eq!(rate.take(&1, at(0)), Ok(()));
        }
        assert_eq!(rate.take(&1, at(0)), Err(Duration::from_millis(100)), "what is refused is told when");
        assert_eq!(rate.take(&1, at(40)), Err(Duration::from_millis(60)), "and refusals cost nothing");
        assert_eq!(rate.take(&2, at(0)), Ok(()), "another client");
        assert_eq!(rate.take(&1, at(100)), Ok(()));
        assert!(rate.take(&1, at(100)).is_err());
        // A second later ten more, an hour later no more than the burst.
        assert_eq!((0..50).filter(|_| rate.take(&1, at(1_100)).is_ok()).count(), 10);
        assert_eq!((0..50).filter(|_| rate.take(&1, at(3_600_000)).is_ok()).count(), 20);
    }

    #[test]
    fn many_count_together_or_not_at_all_and_what_was_not_done_is_given_back() {
        let began = Instant::now();
        let rate = Rate::of(100, Duration::from_secs(3_600), 100, 1 << 12, began, RandomState::new());
        assert_eq!(rate.take_many(&1, 60, began), Ok(()));
        assert_eq!(rate.take_many(&1, 60, began), Err(Duration::from_secs(20 * 36)));
        assert_eq!(rate.take_many(&1, 40, began), Ok(()), "what was refused took nothing");
        rate.give_back(&1, 40);
        assert_eq!(rate.take_many(&1, 40, began), Ok(()));
        let later = began + Duration::from_secs(3_600);
        assert_eq!(rate.take_many(&1, 1_000, later), Ok(()), "more than there ever is takes all");
        assert!(rate.take(&1, later).is_err());
    }

    #[test]
    fn memory_does_not_grow_and_time_does_not_go_back() {
        let began = Instant::now();
        let rate = Rate::new(1, 1, 8, began, RandomState::new());
        let admitted = (0..10_000).filter(|client| rate.take(client, began).is_ok()).count();
        assert!((1..=8).contains(&admitted), "{admitted}");
        assert_eq!(rate.drained.lock().unwrap().len(), 8);
        assert!(rate.take(&1, began.checked_sub(Duration::from_secs(5)).unwrap()).is_err());
    }

    #[test]
    fn a_host_is_one_client_whatever_its_address() {
        let of = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }
}
