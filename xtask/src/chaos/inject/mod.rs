//! The hands: who brings a fault about and takes it back, as deeds that can be shown before they are done.

mod fleet;
#[cfg(target_os = "linux")]
mod supervisor;
mod systemd;

use anyhow::Result;

use super::faults::Fault;
use crate::plan::Step;

pub(crate) use fleet::Fleet;
#[cfg(target_os = "linux")]
pub(crate) use supervisor::Supervisor;
pub(crate) use systemd::Systemd;

/// Which half of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// It is brought about.
    Inject,
    /// It is taken back.
    Heal,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The supervisor of a local cluster is asked.
    #[cfg(target_os = "linux")]
    Ask(crate::supervisor::Request),
    /// A step on a node.
    Step(Step),
    /// A command on this machine.
    Command(Vec<String>),
}

/// One way to break a cluster.
pub(crate) trait Injector: Sync {
    /// What it can do, in the order in which that is done.
    fn offers(&self) -> &'static [Fault];

    /// Whether victims must be known before any node is asked, because the plan is shown without a connection.
    fn fixed(&self) -> bool {
        false
    }

    /// Whether somebody ends a node that stands still for ten seconds.
    fn has_watchdog(&self) -> bool;

    /// What has to be done for one half of a fault, in this order; nothing where a half happens by itself.
    fn deeds(&self, fault: Fault, half: Half, nodes: &[String]) -> Vec<Deed>;

    /// A deed as one could type it.
    fn shown(&self, deed: &Deed) -> String;

    /// Does what is to be done, side by side where that is possible. When it returns the fault is complete, or taken back.
    fn carry_out(&self, deeds: Vec<Deed>) -> Result<()>;
}
