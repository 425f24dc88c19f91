//! After the start of a node: when it is ready, so that the very next command works.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::supervisor::{Control, NodeStatus, Phase, Request, last_lines};
use unibus_ops::target::Target;
use unibus_ops::verify::{Diagnosis, lacks};
use unibus_ops::watch::Watch;

/// How long a node may take until it has caught up; a cluster has as long for all of it.
const BUDGET: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

/// How far a node that was started has come.
#[derive(Debug)]
pub enum Started {
    /// The very next command works.
    Ready(NodeStatus, Diagnosis),
    /// It runs, and so few others do that there is no quorum: it is waited for nothing.
    Alone(NodeStatus, Diagnosis),
    /// Its configuration is refused.
    Failed(NodeStatus),
}

/// Waits until a node whose daemon was started is ready.
pub fn await_ready(target: &Target, control: &Control, name: &str) -> Result<Started> {
    let (watch, begun) = (Watch::start(target), Instant::now());
    let mut missing = "it gives no answer yet".to_owned();
    loop {
        let status = control.ask(&Request::Status)?;
        let stands = |node: &&NodeStatus| !node.frozen && !matches!(node.phase, Phase::Stopped | Phase::Failed);
        let standing = status.nodes.iter().filter(stands).count();
        let Some(node) = status.nodes.iter().find(|node| node.name == name) else {
            bail!("the supervisor has no node '{name}' any more")
        };
        match node.phase {
            Phase::Failed => return Ok(Started::Failed(node.clone())),
            Phase::Stopped | Phase::Stopping => bail!("{name} was stopped before it was ready"),
            Phase::Starting | Phase::Ready | Phase::Waiting => {}
        }
        if let Some(answers) = watch.answers() {
            let (_, diagnosis) = target.diagnose(&answers);
            match lacks(name, &answers, &diagnosis) {
                None => return Ok(Started::Ready(node.clone(), diagnosis)),
                Some(_) if standing * 2 <= status.nodes.len() && node.phase == Phase::Ready => {
                    return Ok(Started::Alone(node.clone(), diagnosis));
                }
                Some(what) => missing = what,
            }
        }
        if begun.elapsed() >= BUDGET {
            let exit = node
                .last_exit
                .as_ref()
                .map_or_else(String::new, |exit| format!("; before, it ended: {exit}{}", last_lines(node)));
            bail!(
                "{name} runs, and is not ready after {} s: {missing}{exit}; next: {}",
                BUDGET.as_secs(),
                target.verb("verify")
            );
        }
        thread::sleep(LOOK);
    }
}
