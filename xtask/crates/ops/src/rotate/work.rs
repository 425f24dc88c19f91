//! The remote part of a rotation, done by the very verbs that an operator would type.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::RemoteWork;
use super::proof::{Route, Shown, parse_routes};
use crate::plan::PART_OF;
use crate::posture::complaint;
use crate::process::Output;
use crate::target::Target;
use crate::transport::Transport;

/// Two handshakes of a few seconds at most, and ssh.
const WITHIN: Duration = Duration::from_secs(40);

/// Verbs of this program, for one cluster.
pub struct Commands<'a> {
    /// The cluster that is rotated.
    pub target: &'a Target,
    /// The program that has the verbs.
    pub program: PathBuf,
    /// What this program was told about clone, topology and cluster: words before a verb and words after it.
    pub before: Vec<String>,
    /// Words after the verb: which cluster it is about.
    pub after: Vec<String>,
    /// As typed, for each of the verbs.
    pub lock: String,
    /// How files get to the nodes of a cluster on this machine; on servers a verb does it.
    pub ship_here: Option<&'a dyn Fn() -> Result<()>>,
}

const SHIP: &str = "stage --yes";
const RESTART: &str = "roll --yes";

impl Commands<'_> {
    fn run(&self, verb: &str) -> Result<()> {
        let (typed, verb) = (self.typed(verb), format!("{verb}{}", self.lock));
        outln!("running: {typed}");
        let mut command = Command::new(&self.program);
        command.args(&self.before).args(verb.split_whitespace()).args(&self.after).stdin(Stdio::null());
        command.env(PART_OF, "cluster-certs --rotate");
        let status = command.status().with_context(|| format!("starting {typed}"))?;
        if !status.success() {
            bail!("{typed} ended with {status}; what it said is above");
        }
        Ok(())
    }

    fn typed(&self, verb: &str) -> String {
        self.target.verb(&format!("{verb}{}", self.lock))
    }
}

impl RemoteWork for Commands<'_> {
    fn ship(&self) -> Result<()> {
        match self.ship_here {
            Some(ship) => ship(),
            None => self.run(SHIP),
        }
    }

    fn restart(&self) -> Result<()> {
        self.run(RESTART)
    }

    fn look(&self) -> Result<Vec<Shown>> {
        let answers = self.target.ask();
        let transport = self.target.transport.as_ref();
        let routes: Vec<Result<Vec<Route>, String>> = thread::scope(|scope| {
            let dir = self.target.runtime_dir.as_str();
            let tried: Vec<_> =
                self.target.nodes().iter().map(|node| scope.spawn(move || probe(transport, node, dir))).collect();
            let lost = || Err("trying them failed inside xtask".to_owned());
            tried.into_iter().map(|one| one.join().unwrap_or_else(|_| lost())).collect()
        });
        let shown = answers.into_iter().zip(routes);
        let shown = shown.map(|(answer, routes)| {
            let posture = answer.posture.map_err(|why| why.to_string());
            Shown { node: answer.node, posture, routes }
        });
        Ok(shown.collect())
    }

    fn commands(&self) -> Vec<String> {
        let ship = self.ship_here.is_none().then_some(SHIP);
        ship.into_iter().chain([RESTART]).map(|verb| self.typed(verb)).collect()
    }
}

/// Has a node call the others. It fails where any handshake does, and says which: that is an answer too.
fn probe(transport: &dyn Transport, node: &str, runtime_dir: &str) -> Result<Vec<Route>, String> {
    let argv = ["./membershipd", "probe-routes", "--json", "--runtime-dir", runtime_dir];
    let output: Output = transport.run(node, &argv, b"", WITHIN).map_err(|failure| failure.to_string())?;
    match parse_routes(&output.stdout) {
        Ok(routes) => Ok(routes),
        Err(why) if output.ok() => Err(why),
        Err(_) if output.stderr.contains("unrecognized subcommand") => {
            Err("its membershipd is older than this xtask and has no probe-routes".to_owned())
        }
        Err(_) => Err(complaint(&output.stdout, &output.stderr)),
    }
}
