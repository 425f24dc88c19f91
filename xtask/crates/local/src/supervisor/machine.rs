//! What happens to one daemon when: systemd's rules for our unit, as a pure function of events and time.

use std::time::{Duration, Instant};

use super::proto::Phase;

/// WatchdogSec= of the unit.
pub(super) const WATCHDOG: Duration = Duration::from_secs(10);
/// TimeoutStartSec= of the unit.
const START: Duration = Duration::from_secs(90);
/// TimeoutStopSec= of the unit.
pub(super) const STOP: Duration = Duration::from_secs(60);
/// RestartSec= of the unit; it doubles while a daemon keeps ending.
const BACKOFF: Duration = Duration::from_millis(500);
const MOST_BACKOFF: Duration = Duration::from_secs(5);
/// A daemon that ran so long has recovered from whatever ended it.
const SETTLED: Duration = Duration::from_secs(10);
/// Bad configuration: sysexits' EX_USAGE, and RestartPreventExitStatus= of the unit.
const BAD_CONFIGURATION: i32 = 64;

/// What befalls a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Start,
    /// With the time it is given.
    Stop(Duration),
    Restart,
    Kill {
        stay_down: bool,
    },
    Ready,
    Alive,
    /// The exit code, none after a signal; and that in words.
    Exited(Option<i32>, String),
    /// It could not even be started.
    NotStarted(String),
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Spawn,
    Terminate,
    Kill,
}

/// One daemon.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) phase: Phase,
    pub(super) starts: u32,
    pub(super) last_exit: Option<String>,
    wanted: bool,
    /// When [`Event::Tick`] means something.
    deadline: Option<Instant>,
    backoff: Duration,
    ready_at: Option<Instant>,
    /// Why we killed it, if we did.
    killed_for: Option<String>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            phase: Phase::Stopped,
            starts: 0,
            last_exit: None,
            wanted: false,
            deadline: None,
            backoff: BACKOFF,
            ready_at: None,
            killed_for: None,
        }
    }
}

impl Machine {
    /// Takes note of what happened and says what to do.
    pub(super) fn on(&mut self, event: Event, now: Instant) -> Option<Action> {
        use Phase::{Failed, Ready, Starting, Stopped, Stopping, Waiting};
        match (event, self.phase) {
            (Event::Start | Event::Restart, Stopped | Failed | Waiting) => Some(self.spawn(now)),
            (Event::Start, Stopping) => {
                self.wanted = true;
                None
            }
            (Event::Restart, Starting | Ready) => {
                self.stop(STOP, now);
                self.wanted = true;
                Some(Action::Terminate)
            }
            (Event::Restart, Stopping) => {
                self.wanted = true;
                None
            }
            (Event::Stop(grace), Starting | Ready) => {
                self.stop(grace, now);
                Some(Action::Terminate)
            }
            (Event::Stop(grace), Stopping) => {
                // Asked again, perhaps with less patience.
                self.wanted = false;
                self.deadline = self.deadline.map(|deadline| deadline.min(now + grace));
                None
            }
            (Event::Stop(_), Waiting | Failed) => {
                self.rest(Stopped);
                None
            }
            (Event::Kill { stay_down }, Starting | Ready | Stopping) => {
                self.wanted = !stay_down;
                Some(self.kill("killed on request".to_owned()))
            }
            (Event::Kill { stay_down: true }, Waiting) => {
                self.rest(Stopped);
                None
            }
            (Event::Ready, Starting) => {
                self.phase = Ready;
                self.ready_at = Some(now);
                self.deadline = Some(now + WATCHDOG);
                None
            }
            (Event::Alive, Ready) if self.killed_for.is_none() => {
                self.deadline = Some(now + WATCHDOG);
                None
            }
            (Event::Exited(code, how), Starting | Ready | Stopping) => self.exited(code, how, now),
            (Event::NotStarted(why), Starting) => {
                self.last_exit = Some(why);
                self.rest(Failed);
                None
            }
            (Event::Tick, _) if self.deadline.is_some_and(|deadline| now >= deadline) => match self.phase {
                Starting => Some(self.kill(format!("killed: not ready within {} s", START.as_secs()))),
                Ready => Some(self.kill(format!("killed by the watchdog: silent for {} s", WATCHDOG.as_secs()))),
                Stopping => Some(self.kill("killed: it did not end in time".to_owned())),
                Waiting => Some(self.spawn(now)),
                Stopped | Failed => None,
            },
            _ => None,
        }
    }

    /// When to come back with [`Event::Tick`] at the latest.
    pub(super) const fn wakes(&self) -> Option<Instant> {
        self.deadline
    }

    fn spawn(&mut self, now: Instant) -> Action {
        self.phase = Phase::Starting;
        self.wanted = true;
        self.starts = self.starts.saturating_add(1);
        self.deadline = Some(now + START);
        self.ready_at = None;
        self.killed_for = None;
        Action::Spawn
    }

    fn stop(&mut self, grace: Duration, now: Instant) {
        self.phase = Phase::Stopping;
        self.wanted = false;
        self.deadline = Some(now + grace);
    }

    /// SIGKILL cannot be refused, so there is nothing to wait for but the exit.
    fn kill(&mut self, why: String) -> Action {
        self.deadline = None;
        self.killed_for.get_or_insert(why);
        Action::Kill
    }

    fn rest(&mut self, phase: Phase) {
        self.phase = phase;
        self.wanted = false;
        self.deadline = None;
        self.killed_for = None;
        self.backoff = BACKOFF;
    }

    fn exited(&mut self, code: Option<i32>, how: String, now: Instant) -> Option<Action> {
        let killed = self.killed_for.take();
        let by_us = killed.is_some();
        self.last_exit = Some(killed.unwrap_or(how));
        if !self.wanted {
            self.rest(Phase::Stopped);
            return None;
        }
        if self.phase == Phase::Stopping {
            // A restart was asked for, or a start while it was still ending.
            return Some(self.spawn(now));
        }
        if code == Some(BAD_CONFIGURATION) && !by_us {
            self.rest(Phase::Failed);
            return None;
        }
        if self.ready_at.is_some_and(|ready| now.duration_since(ready) >= SETTLED) {
            self.backoff = BACKOFF;
        }
        self.phase = Phase::Waiting;
        self.deadline = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(MOST_BACKOFF);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> Event {
        Event::Exited(Some(code), format!("exit code {code}"))
    }

    fn signalled() -> Event {
        Event::Exited(None, "signal 9".to_owned())
    }

    /// A daemon that is ready at `now`.
    fn ready(now: Instant) -> Machine {
        let mut machine = Machine::default();
        assert_eq!(machine.on(Event::Start, now), Some(Action::Spawn));
        assert_eq!(machine.on(Event::Ready, now), None);
        assert_eq!(machine.phase, Phase::Ready);
        machine
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn silence_is_killed_and_started_again() {
        let now = Instant::now();
        let mut machine = ready(now);
        assert_eq!(machine.on(Event::Tick, now + ms(9_999)), None);
        assert_eq!(machine.on(Event::Alive, now + ms(9_999)), None);
        assert_eq!(machine.on(Event::Tick, now + ms(19_998)), None);
        assert_eq!(machine.on(Event::Tick, now + ms(19_999)), Some(Action::Kill));
        assert_eq!(machine.on(Event::Tick, now + ms(30_000)), None, "once is enough");
        assert_eq!(machine.on(signalled(), now + ms(30_000)), None);
        assert_eq!(machine.phase, Phase::Waiting);
        assert!(machine.last_exit.as_ref().unwrap().contains("watchdog"));
        assert_eq!(machine.on(Event::Tick, now + ms(30_500)), Some(Action::Spawn));
    }

    #[test]
    fn the_watchdog_waits_for_readiness_and_readiness_is_bounded() {
        let now = Instant::now();
        let mut machine = Machine::default();
        machine.on(Event::Start, now);
        assert_eq!(machine.on(Event::Alive, now), None);
        assert_eq!(machine.on(Event::Tick, now + ms(89_999)), None);
        assert_eq!(machine.on(Event::Tick, now + ms(90_000)), Some(Action::Kill));
    }

    #[test]
    fn every_exit_that_nobody_asked_for_is_followed_by_a_start() {
        let now = Instant::now();
        for event in [exited(0), exited(1), signalled()] {
            let mut machine = ready(now);
            assert_eq!(machine.on(event, now), None);
            assert_eq!(machine.on(Event::Tick, now + ms(499)), None);
            assert_eq!(machine.on(Event::Tick, now + ms(500)), Some(Action::Spawn));
        }
    }

    #[test]
    fn starts_back_off_and_recover() {
        let now = Instant::now();
        let mut machine = Machine::default();
        let mut at = now;
        machine.on(Event::Start, at);
        for wait in [500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            machine.on(exited(1), at);
            assert_eq!(machine.on(Event::Tick, at + ms(wait - 1)), None);
            at += ms(wait);
            assert_eq!(machine.on(Event::Tick, at), Some(Action::Spawn));
        }
        machine.on(Event::Ready, at);
        machine.on(exited(1), at + SETTLED);
        assert_eq!(machine.on(Event::Tick, at + SETTLED + ms(500)), Some(Action::Spawn));
    }

    #[test]
    fn bad_configuration_is_not_tried_again_until_asked() {
        let now = Instant::now();
        let mut machine = Machine::default();
        machine.on(Event::Start, now);
        machine.on(exited(64), now);
        assert_eq!(machine.phase, Phase::Failed);
        assert_eq!(machine.wakes(), None);
        assert_eq!(machine.on(Event::Start, now), Some(Action::Spawn));
    }

    #[test]
    fn a_program_that_cannot_be_started_has_failed() {
        let now = Instant::now();
        let mut machine = Machine::default();
        machine.on(Event::Start, now);
        machine.on(Event::NotStarted("no such file".to_owned()), now);
        assert_eq!(machine.phase, Phase::Failed);
        assert_eq!(machine.last_exit.as_deref(), Some("no such file"));
    }

    #[test]
    fn what_is_stopped_stays_down_and_is_killed_when_it_will_not_end() {
        let now = Instant::now();
        let mut machine = ready(now);
        assert_eq!(machine.on(Event::Stop(STOP), now), Some(Action::Terminate));
        assert_eq!(machine.on(Event::Tick, now + ms(59_999)), None, "the watchdog does not count any more");
        assert_eq!(machine.on(Event::Tick, now + STOP), Some(Action::Kill));
        assert_eq!(machine.on(signalled(), now + STOP), None);
        assert_eq!(machine.phase, Phase::Stopped);
        assert_eq!(machine.wakes(), None);
    }

    #[test]
    fn less_patience_counts() {
        let now = Instant::now();
        let mut machine = ready(now);
        machine.on(Event::Stop(STOP), now);
        machine.on(Event::Stop(ms(100)), now);
        assert_eq!(machine.on(Event::Tick, now + ms(100)), Some(Action::Kill));
    }

    #[test]
    fn a_restart_starts_at_once_after_the_exit() {
        let now = Instant::now();
        let mut machine = ready(now);
        assert_eq!(machine.on(Event::Restart, now), Some(Action::Terminate));
        assert_eq!(machine.on(exited(0), now), Some(Action::Spawn));
        assert_eq!(machine.starts, 2);
        machine.on(exited(64), now);
        assert_eq!(machine.on(Event::Restart, now), Some(Action::Spawn), "also of what has failed");
    }

    #[test]
    fn a_start_while_it_ends_waits_for_the_end() {
        let now = Instant::now();
        let mut machine = ready(now);
        machine.on(Event::Stop(STOP), now);
        assert_eq!(machine.on(Event::Start, now), None);
        assert_eq!(machine.on(exited(0), now), Some(Action::Spawn));
    }

    #[test]
    fn what_is_killed_comes_back_unless_told_otherwise() {
        let now = Instant::now();
        let mut machine = ready(now);
        assert_eq!(machine.on(Event::Kill { stay_down: false }, now), Some(Action::Kill));
        machine.on(signalled(), now);
        assert_eq!(machine.phase, Phase::Waiting);
        let mut machine = ready(now);
        assert_eq!(machine.on(Event::Kill { stay_down: true }, now), Some(Action::Kill));
        machine.on(signalled(), now);
        assert_eq!(machine.phase, Phase::Stopped);
    }

    #[test]
    fn a_stop_calls_off_the_next_start() {
        let now = Instant::now();
        let mut machine = ready(now);
        machine.on(exited(1), now);
        machine.on(Event::Stop(STOP), now);
        assert_eq!((machine.phase, machine.wakes()), (Phase::Stopped, None));
    }
}
