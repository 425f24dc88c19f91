//! Faults of servers that other people depend on: nothing but a stop and a start of the unit, as steps of a plan.

use anyhow::{Result, bail};

use super::{Deed, Fault, Half, Injector};
use unibus_ops::plan::{self, Effect, Goal, Step, Unless, words};
use unibus_ops::staging::UNIT;
use unibus_ops::transport::Transport;
use unibus_ops::ui::Progress;

/// The hands of systemd.
pub(crate) struct Systemd<'a> {
    transport: &'a dyn Transport,
}

impl<'a> Systemd<'a> {
    /// Those of the nodes that `transport` reaches.
    pub(crate) fn new(transport: &'a dyn Transport) -> Self {
        Self { transport }
    }
}

impl Injector for Systemd<'_> {
    fn offers(&self) -> &'static [Fault] {
        &[Fault::Stop, Fault::Quorum]
    }

    fn fixed(&self) -> bool {
        true
    }

    fn has_watchdog(&self) -> bool {
        true
    }

    fn deeds(&self, fault: Fault, half: Half, nodes: &[String]) -> Vec<Deed> {
        match (fault, half) {
            (Fault::Stop | Fault::Quorum, Half::Inject) => {
                nodes.iter().map(|node| Deed::Step(Box::new(stop(node)))).collect()
            }
            (Fault::Stop | Fault::Quorum, Half::Heal) => {
                nodes.iter().map(|node| Deed::Step(Box::new(start(node)))).collect()
            }
            _ => Vec::new(),
        }
    }

    fn carry_out(&self, deeds: Vec<Deed>) -> Result<()> {
        let steps = deeds.into_iter().map(|deed| match deed {
            Deed::Step(step) => Ok(*step),
            other => bail!("systemd cannot do {other:?}"),
        });
        run(self.transport, steps.collect::<Result<_>>()?)
    }
}

/// Carries steps out, the nodes side by side.
pub(super) fn run(transport: &dyn Transport, steps: Vec<Step>) -> Result<()> {
    let outcome = plan::execute(steps, transport, Goal::Do, &Progress::silent());
    let failures = outcome.failures();
    if failures.is_empty() { Ok(()) } else { bail!(failures.join("; ")) }
}

fn unit_step(id: &'static str, node: &str, argv: &[&str], until: &str) -> Step {
    let asks = words(&["systemctl", "show", "--property", "ActiveState", "--value", "--", UNIT]);
    let unless = Unless { argv: asks, prints: Some(until.to_owned()) };
    Step::new(id, node, Effect::Run { argv: words(argv), unless })
}

/// Ends the daemon in good order.
pub(super) fn stop(node: &str) -> Step {
    unit_step("stop", node, &["systemctl", "stop", "--", UNIT], "inactive")
}

/// Starts it, and waits until it says that it is ready.
pub(super) fn start(node: &str) -> Step {
    unit_step("start", node, &["systemctl", "start", "--", UNIT], "active")
}

/// Ends the daemon and its engine with SIGKILL; systemd starts them again.
pub(super) fn kill(node: &str) -> Step {
    unit_step("kill", node, &["systemctl", "kill", "--kill-whom=all", "--signal=KILL", "--", UNIT], "inactive")
}
