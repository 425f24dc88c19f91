//! The clock of each node beside this machine's, and which of them is off: pure.

use super::{Check, Level};
use crate::verify::{SKEW_MS, skew};

/// Off, but not so far that `verify` fails.
const SKEW_WARN_MS: i64 = SKEW_MS / 2;

/// When a node told its time, by our clock and by its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) sent_ms: i64,
    pub(super) received_ms: i64,
    pub(super) node_ms: i64,
}

impl Clock {
    /// By how much our clock is ahead of the node's, in milliseconds; below zero it is behind.
    fn ours_ahead_ms(self) -> i64 {
        let asked = self.sent_ms.saturating_add(self.received_ms.saturating_sub(self.sent_ms) / 2);
        asked.saturating_sub(self.node_ms)
    }

    fn skew_ms(self) -> (i64, String) {
        skew(self.sent_ms, self.received_ms, self.node_ms)
    }
}

/// Whether it is this machine whose clock is off: it differs from that of several nodes, and these agree.
pub(super) fn is_ours_off<'a>(clocks: impl Iterator<Item = &'a Result<Clock, String>>) -> bool {
    let clocks: Vec<Clock> = clocks.filter_map(|clock| clock.as_ref().ok().copied()).collect();
    let ahead = || clocks.iter().map(|clock| clock.ours_ahead_ms());
    let apart = ahead().max().unwrap_or_default().saturating_sub(ahead().min().unwrap_or_default());
    clocks.len() > 1 && apart <= SKEW_WARN_MS && clocks.iter().all(|clock| clock.skew_ms().0 > SKEW_WARN_MS)
}

/// The check of a node; `ours` is whether it is this machine's clock that is off.
pub(super) fn check(node: &str, clock: &Result<Clock, String>, ours: bool) -> Check {
    let want = format!("within {SKEW_WARN_MS} ms");
    let clock = match clock {
        Err(why) => return Check::new("clock", node, Level::Fail, want, why).remedy("date must answer there"),
        Ok(clock) => *clock,
    };
    let (off, got) = clock.skew_ms();
    let level = match off {
        off if off > SKEW_MS => Level::Fail,
        off if off > SKEW_WARN_MS => Level::Warn,
        _ => Level::Ok,
    };
    if !ours {
        return Check::new("clock", node, level, want, got)
            .remedy("set the clock of that node, or of this machine: both should follow NTP (timedatectl)");
    }
    let ahead = clock.ours_ahead_ms();
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let seconds = ahead.unsigned_abs().saturating_add(500) / 1000;
    Check::new("clock", node, level, want, format!("this machine's clock is {seconds} s {direction} {node}'s")).remedy(
        "set the clock of this machine, on which the nodes agree: it should follow NTP (timedatectl set-ntp true)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(node_ms: i64) -> Result<Clock, String> {
        Ok(Clock { sent_ms: 10_000, received_ms: 10_040, node_ms })
    }

    #[test]
    fn clock_is_judged_as_verify_does_and_warned_about_before() {
        let level = |node_ms| check("a", &at(node_ms), false).level;
        assert_eq!(level(10_020), Level::Ok);
        assert_eq!(level(10_040 + SKEW_WARN_MS), Level::Ok);
        assert_eq!(level(10_041 + SKEW_WARN_MS), Level::Warn);
        assert_eq!(level(10_041 + SKEW_MS), Level::Fail);
        assert_eq!(level(9_999 - SKEW_MS), Level::Fail);
        let minutes = check("a", &Ok(Clock { sent_ms: 0, received_ms: 40, node_ms: 300_000 }), false);
        assert!(minutes.got.contains("299960 ms ahead") && minutes.remedy.contains("NTP"), "{minutes:?}");
        assert_eq!(check("a", &Err("x".to_owned()), false).level, Level::Fail);
    }

    #[test]
    fn this_machine_is_named_where_all_nodes_agree_that_it_is_off() {
        let (behind, ahead) = ([at(45_000), at(45_300), Err("x".to_owned())], [at(-25_000), at(-25_100)]);
        for (clocks, says) in [(behind.as_slice(), "35 s behind homer's"), (ahead.as_slice(), "35 s ahead of homer's")]
        {
            assert!(is_ours_off(clocks.iter()));
            let check = check("homer", &clocks[0], true);
            assert_eq!(
                (check.level, check.got.as_str()),
                (Level::Fail, format!("this machine's clock is {says}").as_str())
            );
            assert!(check.remedy.contains("this machine"), "{check:?}");
        }
        for well in [[at(10_020), at(45_000)], [at(45_000), at(80_000)], [at(10_020), at(10_030)]] {
            assert!(!is_ours_off(well.iter()), "{well:?}");
        }
        assert!(!is_ours_off([at(45_000)].iter()), "one node and this machine: either of them may be off");
    }
}
