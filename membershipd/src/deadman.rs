//! The dead man's switch: the kernel ends this process, and its engine with it, before what it admitted could outlive the lease.
//!
//! Who has lost the lease cuts everybody; but a process that is frozen cuts nobody, and the service manager's watchdog would
//! give it another ten seconds, however old its last proof was when it froze. A timer of the kernel needs nobody to run: its
//! SIGKILL ends stopped processes, too (timer_create(2), signal(7)).

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use tokio::sync::oneshot;

#[derive(Debug)]
enum Order {
    Arm(Instant, oneshot::Sender<()>),
    Disarm(Instant),
}

/// The switch. A thread of its own holds the timer, which only one thread may.
#[derive(Debug, Clone)]
pub struct DeadMan(mpsc::Sender<Order>);

impl DeadMan {
    /// A switch that nothing sets off yet.
    pub fn new() -> Result<Self> {
        let (sender, orders) = mpsc::channel();
        let hold = move || {
            let mut armed: Option<(Instant, Timer)> = None;
            for order in orders {
                match order {
                    Order::Arm(at, done) => match arm(&mut armed, at) {
                        Ok(()) => drop(done.send(())),
                        Err(error) => tracing::error!("the dead man's switch cannot be put off: {error}"),
                    },
                    // It was armed anew meanwhile, otherwise.
                    Order::Disarm(at) => armed = armed.filter(|(armed_for, _)| *armed_for != at),
                }
            }
        };
        let thread = std::thread::Builder::new().name("deadman".to_owned());
        thread.spawn(hold).context("cannot start the thread of the dead man's switch")?;
        Ok(Self(sender))
    }

    /// From now on this process ends at `at`, unless that is put off or called off. Says whether it is so: without it no proof
    /// may count.
    pub async fn arm(&self, at: Instant) -> bool {
        let (done, armed) = oneshot::channel();
        self.0.send(Order::Arm(at, done)).is_ok() && armed.await.is_ok()
    }

    /// Calls the end at `at` off: nobody is connected any more. One that was put off since stands.
    pub fn disarm(&self, at: Instant) {
        let _ = self.0.send(Order::Disarm(at));
    }
}

/// Never brings the end forward. Where it fails the earlier one stands.
fn arm(armed: &mut Option<(Instant, Timer)>, at: Instant) -> nix::Result<()> {
    if armed.as_ref().is_some_and(|(later, _)| *later >= at) {
        return Ok(());
    }
    // The time is relative, and none at all would mean never.
    let left = at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let end = Expiration::OneShot(TimeSpec::from_duration(left));
    match armed {
        Some((armed_for, timer)) => {
            timer.set(end, TimerSetTimeFlags::empty())?;
            *armed_for = at;
        }
        None => {
            let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
            // The clock that `Instant` reads.
            let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(kill))?;
            timer.set(end, TimerSetTimeFlags::empty())?;
            *armed = Some((at, timer));
        }
    }
    Ok(())
}
