//! Faults of a local cluster, by its supervisor.

use std::thread;

use anyhow::{Result, anyhow, bail};

use super::{Deed, Fault, Half, Injector, Shown};
use unibus_local::supervisor::{Control, Phase, Request};

/// The hands of `local`.
pub(crate) struct Supervisor {
    control: Control,
    /// How the operator types the verb for this cluster: with a space before it, or nothing.
    flags: String,
}

impl Supervisor {
    /// Those of a running cluster.
    pub(crate) fn new(control: Control, flags: String) -> Self {
        Self { control, flags }
    }
}

impl Injector for Supervisor {
    fn offers(&self) -> &'static [Fault] {
        &[Fault::Stop, Fault::Kill, Fault::PowerCut, Fault::Freeze, Fault::Quorum]
    }

    fn has_watchdog(&self) -> bool {
        true
    }

    fn deeds(&self, fault: Fault, half: Half, nodes: &[String]) -> Vec<Deed> {
        let request = |node: &String| {
            let node = node.clone();
            Some(match (fault, half) {
                (Fault::Stop, Half::Inject) => Request::Stop { node },
                (Fault::Kill, Half::Inject) => Request::Kill { node, stay_down: false },
                (Fault::PowerCut | Fault::Quorum, Half::Inject) => Request::Kill { node, stay_down: true },
                (Fault::Freeze, Half::Inject) => Request::Freeze { node },
                (Fault::Freeze, Half::Heal) => Request::Thaw { node },
                (Fault::Stop | Fault::PowerCut | Fault::Quorum, Half::Heal) => Request::Start { node },
                (Fault::Kill, Half::Heal) | (Fault::CutOff | Fault::Deaf, _) => return None,
            })
        };
        nodes.iter().filter_map(request).map(Deed::Ask).collect()
    }

    fn shown(&self, deed: &Deed) -> Shown {
        let Deed::Ask(request) = deed else { return Shown::here(Vec::new()) };
        let words: Vec<&str> = match request {
            Request::Stop { node } => vec!["stop", node],
            Request::Start { node } => vec!["start", node],
            Request::Restart { node } => vec!["restart", node],
            Request::Kill { node, stay_down: true } => vec!["kill", "--stay-down", node],
            Request::Kill { node, stay_down: false } => vec!["kill", node],
            Request::Freeze { node } => vec!["freeze", node],
            Request::Thaw { node } => vec!["thaw", node],
            Request::Status | Request::Down => Vec::new(),
        };
        let fixed = ["cargo", "xtask", "local"].into_iter().chain(self.flags.split_whitespace());
        Shown::here(fixed.chain(words).map(str::to_owned).collect())
    }

    fn carry_out(&self, deeds: Vec<Deed>) -> Result<()> {
        let done: Vec<Result<()>> = thread::scope(|scope| {
            let under_way: Vec<_> = deeds.iter().map(|deed| scope.spawn(move || self.one(deed))).collect();
            let broken = || Err(anyhow!("asking the supervisor failed inside xtask"));
            under_way.into_iter().map(|deed| deed.join().unwrap_or_else(|_| broken())).collect()
        });
        done.into_iter().collect()
    }
}

impl Supervisor {
    fn one(&self, deed: &Deed) -> Result<()> {
        let Deed::Ask(request) = deed else { bail!("a supervisor cannot do {deed:?}") };
        if let Request::Thaw { node: name } = request {
            // The watchdog may have ended it meanwhile; then there is nothing to thaw.
            let status = self.control.ask(&Request::Status)?;
            if !status.nodes.iter().any(|node| node.name == *name && node.frozen) {
                return Ok(());
            }
        }
        let node = self.control.carry_out(request)?;
        if node.phase == Phase::Failed {
            bail!("{} refuses to start: {}", node.name, node.last_exit.as_deref().unwrap_or("it ended"));
        }
        Ok(())
    }
}
