//! The quorum lease: the proof that this node's view of who may do what is current.

use std::time::{Duration, Instant};

use crate::bus::{self, Bucket};
use crate::faults::Fault;

/// Why nothing may be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The view may be out of date.
    #[error("no proof that the view of users is current")]
    NoLease,
    /// Too soon after the start of the daemon.
    #[error("just started")]
    Mute,
}

/// Which of a process's own heartbeats its own watch has delivered. What another process of the same node wrote proves nothing,
/// however late it arrives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delivered {
    boot: String,
    rounds: [u64; Bucket::DECIDING.len()],
}

impl Delivered {
    /// None yet, of the process `boot`.
    pub fn new(boot: String) -> Self {
        Self { boot, rounds: [0; _] }
    }

    /// Notes that the watch of `bucket` delivered the heartbeat of `round` of this node's process `boot`.
    pub fn note(&mut self, bucket: Bucket, boot: &str, round: u64) {
        let rounds = Bucket::DECIDING.iter().zip(&mut self.rounds);
        for (_, seen) in rounds.filter(|(of, _)| boot == self.boot && **of == bucket) {
            *seen = round.max(*seen);
        }
    }

    /// Whether the watches have come as far as the heartbeats of this round, in every bucket.
    pub fn whole(&self, round: u64) -> bool {
        self.rounds.iter().all(|seen| *seen >= round)
    }
}

/// Proof of freshness, counted from the moment a complete heartbeat round was SENT: everything that was committed before
/// that moment is in the view. Monotonic clock only; the time is a parameter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
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

    /// Whether a process that is mute until `mute_until` may decide at `now`.
    pub fn open(&self, mute_until: Instant, now: Instant) -> Result<(), Closed> {
        match (now >= mute_until, self.valid(now)) {
            (true, true) => Ok(()),
            (true, false) => Err(Closed::NoLease),
            (false, _) => Err(Closed::Mute),
        }
    }

    /// When the last round was sent that proves it.
    pub fn proven(&self) -> Option<Instant> {
        self.proven
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
    fn a_round_counts_when_its_own_heartbeats_were_delivered_everywhere() {
        let mut delivered = Delivered::new("new".to_owned());
        let [first, rest @ ..] = Bucket::DECIDING;
        for bucket in rest {
            delivered.note(bucket, "new", 3);
        }
        delivered.note(first, "old", 500);
        delivered.note(Bucket::Nonces, "new", 3);
        assert!(!delivered.whole(1), "what a former process wrote proves nothing");
        delivered.note(first, "new", 2);
        assert!(delivered.whole(2) && !delivered.whole(3));
    }

    #[test]
    fn a_process_that_has_just_started_is_mute_even_with_a_lease() {
        let start = Instant::now();
        let mute_until = start + bus::AUTHORIZATION_TIMEOUT;
        let mut lease = Lease::default();
        assert_eq!(lease.open(mute_until, mute_until), Err(Closed::NoLease));
        lease.renew(start);
        assert_eq!(lease.open(mute_until, start), Err(Closed::Mute));
        assert_eq!(lease.open(mute_until, mute_until), Ok(()));
        assert_eq!(lease.open(mute_until, start + bus::LEASE), Err(Closed::NoLease));
    }

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
