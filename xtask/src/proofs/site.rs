//! The local cluster of a proof, and programs that use it by orders.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figures::{Usage, child, usage};
use unibus_local::cluster::control;
use unibus_local::supervisor::Request;
use unibus_ops::cargo;
use unibus_ops::install_dir::CLUSTER_ENV;
use unibus_ops::local_state::State;
use unibus_ops::paths::Paths;
use unibus_ops::shell::shell_in;
use unibus_ops::topology::Topology;
use unibus_ops::ui::Progress;

/// Has `measure` work on a fresh cluster of three nodes at the highest level, in `dir` of deploy/build, whose daemons are built for
/// servers, and takes the cluster down, also after a failure.
pub(super) fn on_fresh_cluster<T>(
    paths: &Paths,
    progress: &Progress,
    (dir, base_address): (&str, &str),
    measure: impl FnOnce(&Site) -> Result<T>,
) -> Result<T> {
    let dir = paths.build().join(dir);
    let daemon = release(paths, progress)?;
    let daemon = daemon.to_str().context("the path of the program is no text")?;
    let xtask = |words: &[&str]| super::xtask(paths, &dir, words);
    let measured = (|| {
        xtask(&["local", "--detach", "--fresh", "--base-address", base_address, "--membershipd", daemon])?;
        xtask(&["roll", "--local", "--finish", "--yes"])?;
        measure(&Site::open(State::new(paths, Some(&dir))?)?)
    })();
    let down = xtask(&["local", "--down"]);
    let measured = measured?;
    down?;
    Ok(measured)
}

/// The daemon as servers run it: figures of another build say nothing.
fn release(paths: &Paths, progress: &Progress) -> Result<PathBuf> {
    let line = progress.line("membershipd");
    let shell = shell_in(paths.root())?;
    let build = cargo::cargo(&shell).args(["build", "--locked", "--release", "--package", "membershipd"]);
    let built = cargo::run(build.args(cargo::JSON_MESSAGES), &line)?;
    line.done("built");
    cargo::executable(&built, "membershipd").context("cargo built no membershipd")
}

/// The cluster.
pub(super) struct Site {
    pub(super) state: State,
    pub(super) nodes: Vec<String>,
}

impl Site {
    fn open(state: State) -> Result<Self> {
        let topology = Topology::load(&state.topology())?;
        let nodes = topology.nodes.iter().map(|node| node.name.clone()).collect();
        Ok(Self { state, nodes })
    }

    /// A verb of the daemon's program, beside the daemon of a node.
    pub(super) fn program(&self, node: &str, words: &[&str]) -> Command {
        let dir = self.state.node(node);
        let mut command = Command::new(dir.join(unibus_ops::build::FILE));
        command.args(words).current_dir(dir);
        command
    }

    /// What the processes of each node use: daemon and engine.
    pub(super) fn usage(&self) -> Result<Vec<[Usage; 2]>> {
        let status = control(&self.state)?.ask(&Request::Status)?;
        let of = |name: &String| {
            let daemon = status.nodes.iter().find(|node| node.name == *name).and_then(|node| node.pid);
            let daemon = daemon.with_context(|| format!("{name} is down"))?;
            Ok([usage(daemon)?, usage(child(daemon)?)?])
        };
        self.nodes.iter().map(of).collect()
    }
}

/// The program that uses the cluster.
pub(super) struct Crowd {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crowd {
    /// Starts it beside the first node.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let seed = site.nodes.first().context("a cluster without nodes")?;
        let mut command = site.program(seed, &["bench", "--orders", "--env-file", CLUSTER_ENV]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting membershipd")?;
        let orders = child.stdin.take().context("a program without input")?;
        let answers = BufReader::new(child.stdout.take().context("a program without output")?);
        Ok(Self { child, orders, answers })
    }

    /// Gives an order.
    pub(super) fn order(&mut self, order: &Value) -> Result<()> {
        writeln!(self.orders, "{order}").context("giving an order")
    }

    /// Waits for the answer to the last order.
    pub(super) fn answer(&mut self) -> Result<Value> {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("reading an answer")?;
        ensure!(!answer.is_empty(), "the program ended with {}: an order was not carried out", self.child.wait()?);
        errln!("{}", answer.trim());
        serde_json::from_str(&answer).context("an answer that is no JSON")
    }

    /// Gives an order, and waits until it is carried out.
    pub(super) fn ask(&mut self, order: &Value) -> Result<Value> {
        self.order(order)?;
        self.answer().with_context(|| order.to_string())
    }

    /// The process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<()> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        let status = child.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }
}

/// The number that `answer` has under `name`.
pub(super) fn float(answer: &Value, name: &str) -> Result<f64> {
    answer.get(name).and_then(Value::as_f64).with_context(|| format!("{answer} has no {name}"))
}
