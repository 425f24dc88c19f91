//! The quorum lease: the proof that this node's view of who may do what is current.

use std::time::{Duration, Instant};

use crate::bus;
use crate::faults::Fault;

/// Proof of freshness, counted from the moment a complete heartbeat round was SENT: everything that was committed before
/// that moment is in the view. Monotonic clock only; the time is a parameter.
#[derive(Debug, Default)]
pub struct Lease {
    proven: Option<Instant>,
}

impl Lease {
    /// Notes a round, sent at `sent`, of which every heartbeat was acknowledged by a quorum and seen again in the view.
    pub fn renew(&mut self, sent: Instant) {
        if self.proven.is_none_or(|proven| sent > proven) {
            self.proven = Some(sent);
        }
    }

    /// Whether access may be decided at `now`.
    pub fn valid(&self, now: Instant) -> bool {
        Fault::NoLease.active() || self.expires().is_some_and(|end| now < end)
    }

    /// When it ends, unless it is renewed.
    pub fn expires(&self) -> Option<Instant> {
        self.proven.map(|proven| proven + bus::LEASE)
    }

    /// Age of the proof at `now`.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        self.proven.map(|proven| now.saturating_duration_since(proven))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_the_send_time_and_never_goes_back() {
        let start = Instant::now();
        let mut lease = Lease::default();
        assert!(!lease.valid(start), "no proof, no access");
        lease.renew(start);
        assert!(lease.valid(start + bus::LEASE - Duration::from_millis(1)));
        assert!(!lease.valid(start + bus::LEASE));
        lease.renew(start + Duration::from_secs(3));
        lease.renew(start + Duration::from_secs(1));
        assert_eq!(lease.expires(), Some(start + Duration::from_secs(3) + bus::LEASE));
    }
}
