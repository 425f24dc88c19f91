//! The hands: who brings a fault about and takes it back, as deeds that can be shown before they are done.

mod fleet;
#[cfg(target_os = "linux")]
mod supervisor;
mod systemd;

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::faults::Fault;
use unibus_ops::plan::{Effect, Step};
use unibus_ops::transport::quote;

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
    Ask(unibus_local::supervisor::Request),
    /// A step on a node.
    Step(Box<Step>),
    /// A command on this machine.
    Command(Vec<String>),
}

/// A deed as it is shown before it is done: the very words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shown {
    /// The node on which the command runs; none: this machine.
    pub(crate) node: Option<String>,
    pub(crate) command: Vec<String>,
    /// What is asked first; the command is left out where the answer is that it is so already.
    pub(crate) unless: Option<Vec<String>>,
}

impl Shown {
    /// A command of this machine.
    fn here(command: Vec<String>) -> Self {
        Self { node: None, command, unless: None }
    }

    /// A step of a plan.
    fn step(step: &Step) -> Self {
        let (command, unless) = match &step.effect {
            Effect::Run { argv, unless, .. } => (argv.clone(), Some(unless.argv.clone())),
            _ => (vec![step.subject().to_owned()], None),
        };
        Self { node: Some(step.node.clone()), command, unless }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "on {node}: ")?;
        }
        f.write_str(&self.command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "))
    }
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

    /// A deed as it is shown.
    fn shown(&self, deed: &Deed) -> Shown {
        match deed {
            Deed::Step(step) => Shown::step(step),
            Deed::Command(words) => Shown::here(words.clone()),
            #[cfg(target_os = "linux")]
            Deed::Ask(request) => Shown::here(vec![format!("{request:?}")]),
        }
    }

    /// Does what is to be done, side by side where that is possible. When it returns the fault is complete, or taken back.
    fn carry_out(&self, deeds: Vec<Deed>) -> Result<()>;
}
