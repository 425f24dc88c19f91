//! Faults of rehearsal machines, which belong to nobody: what systemd can do, and what can happen to a whole machine.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Deed, Fault, Half, Injector, systemd};
use unibus_ops::plan::Step;
use unibus_ops::process::bounded;
use unibus_ops::transport::Transport;

/// A machine boots within seconds; its end in good order may wait for its services.
const WITHIN: Duration = Duration::from_secs(180);

/// The hands of a fleet.
pub(crate) struct Fleet<'a> {
    transport: &'a dyn Transport,
    /// This very program, which has the verb `fleet`.
    program: PathBuf,
    dir: PathBuf,
    nodes: Vec<String>,
}

impl<'a> Fleet<'a> {
    /// Those of the machines in `dir`, whose nodes `transport` reaches.
    pub(crate) fn new(transport: &'a dyn Transport, dir: PathBuf, nodes: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        Ok(Self { transport, program, dir, nodes: nodes.to_vec() })
    }

    fn machine(&self, words: &[&str]) -> Deed {
        let (program, dir) = (self.program.display().to_string(), self.dir.display().to_string());
        let fixed = [program.as_str(), "fleet", "--dir", dir.as_str()];
        Deed::Command(fixed.iter().chain(words).map(|&word| word.to_owned()).collect())
    }

    fn of_one(&self, fault: Fault, half: Half, node: &str) -> Vec<Deed> {
        let steps = |step: Step| vec![Deed::Step(Box::new(step))];
        match (fault, half) {
            (Fault::Stop | Fault::Quorum, Half::Inject) => steps(systemd::stop(node)),
            (Fault::Stop | Fault::Quorum, Half::Heal) => steps(systemd::start(node)),
            (Fault::Kill, Half::Inject) => steps(systemd::kill(node)),
            (Fault::Kill, Half::Heal) => Vec::new(),
            (Fault::PowerCut, Half::Inject) => vec![self.machine(&["kill", node])],
            // A machine that boots starts what is enabled on it; what is not is started here.
            (Fault::PowerCut, Half::Heal) => {
                vec![self.machine(&["boot", node]), Deed::Step(Box::new(systemd::start(node)))]
            }
            (Fault::Freeze, Half::Inject) => vec![self.machine(&["freeze", node])],
            (Fault::Freeze, Half::Heal) => vec![self.machine(&["thaw", node])],
            (Fault::CutOff, Half::Inject) => vec![self.machine(&["cut", node])],
            (Fault::Deaf, Half::Inject) => {
                let others = self.nodes.iter().filter(|other| *other != node);
                others.map(|other| self.machine(&["deaf", node, other])).collect()
            }
            (Fault::CutOff | Fault::Deaf, Half::Heal) => vec![self.machine(&["heal"])],
        }
    }
}

impl Injector for Fleet<'_> {
    fn offers(&self) -> &'static [Fault] {
        &[Fault::Stop, Fault::Kill, Fault::PowerCut, Fault::Freeze, Fault::CutOff, Fault::Deaf, Fault::Quorum]
    }

    // A machine that stands still takes its service manager with it.
    fn has_watchdog(&self) -> bool {
        false
    }

    fn deeds(&self, fault: Fault, half: Half, nodes: &[String]) -> Vec<Deed> {
        nodes.iter().flat_map(|node| self.of_one(fault, half, node)).collect()
    }

    fn carry_out(&self, deeds: Vec<Deed>) -> Result<()> {
        // Steps that follow each other are worked side by side; a machine's own command waits for what came before it.
        let mut steps = Vec::new();
        for deed in deeds {
            match deed {
                Deed::Step(step) => steps.push(*step),
                Deed::Command(words) => {
                    systemd::run(self.transport, std::mem::take(&mut steps))?;
                    command(&words)?;
                }
                #[cfg(target_os = "linux")]
                other @ Deed::Ask(_) => bail!("a fleet cannot do {other:?}"),
            }
        }
        systemd::run(self.transport, steps)
    }
}

fn command(words: &[String]) -> Result<()> {
    let [program, arguments @ ..] = words else { bail!("there is no command") };
    let mut command = Command::new(program);
    command.args(arguments);
    let output = bounded(command, b"", WITHIN)?;
    if !output.ok() {
        bail!("{}: {}", arguments.join(" "), output.reason());
    }
    Ok(())
}
