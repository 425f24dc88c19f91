//! A rotation of the route CA through a running cluster: files here, to the nodes, a restart one at a time, proof, and only
//! then the next phase.

mod proof;
mod work;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use time::OffsetDateTime;

pub use proof::Shown;
pub(crate) use proof::{Wanted, unproved};
pub use work::Commands;

use crate::making::Making;
use crate::node_files::{self, Cluster};
use crate::paths::Paths;
use crate::pki::rotation::{self, Phase, Rotation};
use crate::pki::{self, Force};
use crate::random::System;
use crate::report::Report;

/// Nodes that were just restarted find each other within seconds; more is a fault.
const SETTLE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);

/// What a rotation does with running nodes.
pub trait RemoteWork {
    /// Gives every node the files that were made here.
    fn ship(&self) -> Result<()>;
    /// Restarts every node that runs with others, one at a time, each gated on its health.
    fn restart(&self) -> Result<()>;
    /// What every node runs with, and what it meets when it calls the others.
    fn look(&self) -> Result<Vec<Shown>>;
    /// The two verbs that ship and restart, as the operator types them.
    fn commands(&self) -> Vec<String>;
}

/// The files of one cluster.
pub struct Site<'a> {
    /// Where its key material lies.
    pub paths: &'a Paths,
    /// Whose files they are.
    pub cluster: Cluster<'a>,
}

/// What one step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reached {
    /// The files of this phase are made here, and have to get to the nodes.
    Phase(Phase),
    /// The last phase was proved: nothing of the old CA is left.
    Complete,
}

impl Site<'_> {
    fn name(&self) -> &str {
        &self.cluster.topology.cluster.name
    }

    /// The rotation that is under way.
    pub fn rotation(&self) -> Result<Option<Rotation>> {
        rotation::read(self.paths, self.name())
    }

    /// Makes the files of the phase that the rotation is in, whatever a run that was killed has left.
    fn make(&self) -> Result<Report> {
        let random = System::new();
        let mut making = Making::begin(self.paths, OffsetDateTime::now_utc(), &random)?;
        pki::cluster(&mut making, self.cluster.topology, Force::No)?;
        node_files::assemble(&mut making, &self.cluster)?;
        let report = making.finish()?;
        if let Some(rotation) = self.rotation()? {
            rotation.settle(self.paths, self.name())?;
        }
        Ok(report)
    }

    /// What the nodes lack to be as the files here say, one line each; none: proved.
    fn lacks(&self, work: &dyn RemoteWork) -> Result<Vec<String>> {
        Ok(unproved(&Wanted::all(self.paths, self.cluster.topology)?, &work.look()?))
    }

    /// Goes one phase on: its files are made here, and nothing else happens. The phase before must have been proved.
    fn advance(&self, from: Option<&Rotation>) -> Result<Reached> {
        let entered = match from.map(|rotation| (rotation, rotation.phase.next())) {
            None => {
                let random = System::new();
                let making = Making::begin(self.paths, OffsetDateTime::now_utc(), &random)?;
                rotation::begin(&making, self.name())?
            }
            Some((rotation, Some(next))) => rotation.enter(next, self.paths, self.name())?,
            Some((rotation, None)) => {
                rotation.finish(self.paths, self.name())?;
                return Ok(Reached::Complete);
            }
        };
        self.make()?;
        Ok(Reached::Phase(entered.phase))
    }

    /// One phase further, if every node has proved the one before. Nothing is sent anywhere.
    pub fn step(&self, work: &dyn RemoteWork) -> Result<Reached> {
        let rotation = self.rotation()?;
        if rotation.is_some() {
            self.make()?;
        }
        let lacks = self.lacks(work)?;
        if !lacks.is_empty() {
            bail!("{}", not_proved(rotation.as_ref(), &lacks, &work.commands()));
        }
        self.advance(rotation.as_ref())
    }

    /// The whole rotation, from wherever it is. `say` is told of each thing before it happens.
    pub fn carry_out(&self, work: &dyn RemoteWork, say: &dyn Fn(&str)) -> Result<()> {
        // A rotation is begun only in a cluster that is well and runs with the files that are here.
        if self.rotation()?.is_none() {
            say("every node must be well before a rotation begins: asking");
            say(&in_words(&self.step(work)?));
        }
        while let Some(rotation) = self.rotation()? {
            let phase = rotation.phase;
            self.make()?;
            say(&format!("phase {phase}: {}", phase.about()));
            if !self.lacks(work)?.is_empty() {
                work.ship().with_context(|| stopped(phase, "sending its files"))?;
                work.restart().with_context(|| stopped(phase, "restarting the nodes"))?;
                self.settle(work, phase)?;
            }
            say(&format!("phase {phase}: proved on every node"));
            let done = self.advance(Some(&rotation))?;
            say(&in_words(&done));
        }
        Ok(())
    }

    /// Waits until every node has proved the phase.
    fn settle(&self, work: &dyn RemoteWork, phase: Phase) -> Result<()> {
        let begun = Instant::now();
        loop {
            let lacks = self.lacks(work)?;
            if lacks.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > SETTLE {
                bail!("{}:\n  {}", stopped(phase, "proving it"), lacks.join("\n  "));
            }
            thread::sleep(LOOK);
        }
    }
}

fn stopped(phase: Phase, at: &str) -> String {
    format!("the rotation stopped in phase {phase}, {at}; put that right and run this again, it goes on from there")
}

fn not_proved(rotation: Option<&Rotation>, lacks: &[String], commands: &[String]) -> String {
    let what = match rotation {
        Some(rotation) => format!("phase {} has not reached every node yet, so nothing was changed", rotation.phase),
        None => "a rotation begins in a cluster that is well and runs with the files made here; nothing was changed"
            .to_owned(),
    };
    let next: Vec<String> = commands.iter().map(|command| format!("\nnext: {command}")).collect();
    format!("{what}:\n  {}{}", lacks.join("\n  "), next.concat())
}

/// What there is to say about a step that was taken.
pub fn in_words(done: &Reached) -> String {
    match done {
        Reached::Phase(Phase::Retire) => {
            "made here: the certificates of phase retire; the key of the old route CA is destroyed. \
                                          A backup still holds it: destroy it there too once this is over"
                .to_owned()
        }
        Reached::Phase(phase) => format!("made here: the certificates of phase {phase}"),
        Reached::Complete => "complete: no node trusts the old route CA any more".to_owned(),
    }
}

#[cfg(test)]
mod tests;
