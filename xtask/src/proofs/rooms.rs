//! Very many rooms that persist: how fast they are made, what they cost while nothing is said and with much that was said, how soon a
//! cluster that has all of it is ready, how long a page takes while others write, and whether one removal disturbs others.
//!
//! Nothing else may keep the machine busy. `UNIBUS_PROVE_ROOMS` and `UNIBUS_PROVE_MESSAGES` are for a look with fewer.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::figures::{Usage, child, usage};
use unibus_local::cluster::control;
use unibus_local::supervisor::Request;
use unibus_ops::cargo;
use unibus_ops::install_dir::{CLUSTER_ENV, RUNTIME_DIR};
use unibus_ops::local_state::State;
use unibus_ops::paths::Paths;
use unibus_ops::shell::shell_in;
use unibus_ops::topology::Topology;
use unibus_ops::ui::{Cell, Progress, Style, Table};

/// Beside the cluster that a user of this machine may have, which stays as it is.
const BASE_ADDRESS: &str = "127.0.93.11";
const USERS: usize = 100;
const ROOMS: usize = 10_000;
const MESSAGES: usize = 400_000;
/// Time for what was done to come to rest, before idleness is measured, and for measuring it.
const REST: Duration = Duration::from_secs(90);
const IDLE: Duration = Duration::from_secs(60);
const READ_S: u64 = 30;
/// Time within which a node has to be ready at all, for the figure to be told.
const READY_S: &str = "120";

/// A figure, and what it should be.
struct Figure {
    what: String,
    is: f64,
    unit: &'static str,
    target: Target,
}

#[derive(Clone, Copy)]
enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// It is told, and has no target.
    None,
}

/// Brings a cluster up, measures, and takes it down, also after a failure.
pub(super) fn run(paths: &Paths, progress: &Progress) -> Result<()> {
    let dir = paths.build().join("prove-rooms");
    let daemon = release(paths, progress)?;
    let daemon = daemon.to_str().context("the path of the program is no text")?;
    let xtask = |words: &[&str]| super::xtask(paths, &dir, words);
    let measured = (|| {
        xtask(&["local", "--detach", "--fresh", "--base-address", BASE_ADDRESS, "--membershipd", daemon])?;
        xtask(&["roll", "--local", "--finish", "--yes"])?;
        measure(&Site::open(State::new(paths, Some(&dir))?)?)
    })();
    let down = xtask(&["local", "--down"]);
    let figures = measured?;
    down?;
    out!("{}", table(&figures));
    let missed = figures.iter().filter(|figure| !figure.reached()).count();
    ensure!(missed == 0, "{missed} of {} figures miss their target", figures.len());
    Ok(())
}

fn number(variable: &str, usual: usize) -> Result<usize> {
    match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text} is no number")),
        Err(_) => Ok(usual),
    }
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

fn measure(site: &Site) -> Result<Vec<Figure>> {
    let (rooms, messages) = (number("UNIBUS_PROVE_ROOMS", ROOMS)?, number("UNIBUS_PROVE_MESSAGES", MESSAGES)?);
    let mut crowd = Crowd::start(site)?;
    let mut figures = Vec::new();
    errln!("making {rooms} rooms by {USERS} users");
    let made = crowd.ask(&json!({ "do": "make", "users": USERS, "rooms": rooms }))?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = rooms as f64 / float(&made, "seconds")?;
    figures.push(Figure::new("rooms made", rate, "a second", Target::AtLeast(100.0)));
    figures.push(Figure::new("tries again while making them", float(&made, "again")?, "", Target::None));
    site.idle("without messages", 150.0, &mut figures)?;
    errln!("saying {messages} messages");
    let said = crowd.ask(&json!({ "do": "say", "messages": messages }))?;
    let rate = float(&said, "messages")? / float(&said, "seconds")?;
    figures.push(Figure::new("messages said and acknowledged", rate, "a second", Target::None));
    let text = format!("with {messages} messages");
    site.idle(&text, 300.0, &mut figures)?;
    errln!("reading while others write");
    let read = crowd.ask(&json!({ "do": "read", "seconds": READ_S }))?;
    figures.push(Figure::new("a page while others write, p50", float(&read, "p50_ms")?, "ms", Target::None));
    figures.push(Figure::new("a page while others write, p99", float(&read, "p99_ms")?, "ms", Target::AtMost(60.0)));
    errln!("removing a room");
    let removed = crowd.ask(&json!({ "do": "remove" }))?;
    figures.push(Figure::new("removing a room", float(&removed, "seconds")?, "s", Target::None));
    figures.push(Figure::new("connections of others that were cut", float(&removed, "cut")?, "", Target::AtMost(0.0)));
    figures.push(Figure::new("other histories that changed", float(&removed, "changed")?, "", Target::AtMost(0.0)));
    crowd.end()?;
    let one = site.restart(site.nodes.get(..1).context("a cluster without nodes")?)?;
    figures.push(Figure::new("a node is ready after its start", one.as_secs_f64(), "s", Target::AtMost(12.0)));
    let all = site.restart(&site.nodes)?;
    figures.push(Figure::new("all nodes are ready after their start", all.as_secs_f64(), "s", Target::AtMost(12.0)));
    site.idle("after that start", 300.0, &mut figures)?;
    Ok(figures)
}

fn float(answer: &Value, name: &str) -> Result<f64> {
    answer.get(name).and_then(Value::as_f64).with_context(|| format!("{answer} has no {name}"))
}

/// The cluster.
struct Site {
    state: State,
    nodes: Vec<String>,
}

impl Site {
    fn open(state: State) -> Result<Self> {
        let topology = Topology::load(&state.topology())?;
        let nodes = topology.nodes.iter().map(|node| node.name.clone()).collect();
        Ok(Self { state, nodes })
    }

    /// A verb of the daemon's program, beside the daemon of a node.
    fn program(&self, node: &str, words: &[&str]) -> Command {
        let dir = self.state.node(node);
        let mut command = Command::new(dir.join(unibus_ops::build::FILE));
        command.args(words).current_dir(dir);
        command
    }

    /// What the processes of each node use: daemon and engine.
    fn usage(&self) -> Result<Vec<[Usage; 2]>> {
        let status = control(&self.state)?.ask(&Request::Status)?;
        let of = |name: &String| {
            let daemon = status.nodes.iter().find(|node| node.name == *name).and_then(|node| node.pid);
            let daemon = daemon.with_context(|| format!("{name} is down"))?;
            Ok([usage(daemon)?, usage(child(daemon)?)?])
        };
        self.nodes.iter().map(of).collect()
    }

    /// What all nodes cost at rest: the worst of them.
    fn idle(&self, when: &str, memory_mb: f64, figures: &mut Vec<Figure>) -> Result<()> {
        errln!("measuring at rest {when}: {} s", (REST + IDLE).as_secs());
        thread::sleep(REST);
        let before = self.usage()?;
        let began = Instant::now();
        thread::sleep(IDLE);
        let (after, elapsed) = (self.usage()?, began.elapsed().as_secs_f64());
        for (which, name, most) in [(1, "engine", memory_mb), (0, "daemon", f64::INFINITY)] {
            let cores = before.iter().zip(&after).filter_map(|(before, after)| {
                let used = after.get(which)?.processor.saturating_sub(before.get(which)?.processor);
                Some(used.as_secs_f64() / elapsed)
            });
            let cores: Vec<f64> = cores.collect();
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
            let memory = after.iter().filter_map(|node| node.get(which)).map(|usage| usage.memory as f64 / 1e6);
            let (memory, targets) = (
                memory.fold(0.0, f64::max),
                if name == "engine" {
                    (Target::AtMost(0.05), Target::AtMost(most))
                } else {
                    (Target::None, Target::None)
                },
            );
            let worst = cores.iter().copied().fold(0.0, f64::max);
            figures.push(Figure::new(&format!("{name} at rest {when}, the busiest"), worst, "cores", targets.0));
            let sum: f64 = cores.iter().sum();
            figures.push(Figure::new(&format!("the three together, {name}"), sum, "cores", Target::None));
            figures.push(Figure::new(&format!("{name} {when}, the largest"), memory, "MB", targets.1));
        }
        Ok(())
    }

    /// Stops these nodes, starts them together, and says how long it takes until all of them decide again.
    fn restart(&self, nodes: &[String]) -> Result<Duration> {
        errln!("restarting {}", nodes.join(", "));
        for node in nodes {
            control(&self.state)?.carry_out(&Request::Stop { node: node.clone() })?;
        }
        let began = Instant::now();
        thread::scope(|scope| {
            let start = |node: &String| -> Result<()> {
                control(&self.state)?.carry_out(&Request::Start { node: node.clone() })?;
                let words = ["wait", "--for", "healthy", "--within", READY_S, "--runtime-dir", RUNTIME_DIR];
                let status = self.program(node, &words).status().context("starting membershipd")?;
                ensure!(status.success(), "{node} is not healthy {READY_S} s after its start");
                Ok(())
            };
            let started: Vec<_> = nodes.iter().map(|node| scope.spawn(move || start(node))).collect();
            started.into_iter().try_for_each(|one| match one.join() {
                Ok(result) => result,
                Err(_) => bail!("starting a node panicked"),
            })
        })?;
        Ok(began.elapsed())
    }
}

/// The program that uses the cluster.
struct Crowd {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crowd {
    fn start(site: &Site) -> Result<Self> {
        let seed = site.nodes.first().context("a cluster without nodes")?;
        let mut command = site.program(seed, &["bench", "--orders", "--env-file", CLUSTER_ENV]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting membershipd")?;
        let orders = child.stdin.take().context("a program without input")?;
        let answers = BufReader::new(child.stdout.take().context("a program without output")?);
        Ok(Self { child, orders, answers })
    }

    fn ask(&mut self, order: &Value) -> Result<Value> {
        writeln!(self.orders, "{order}").context("giving an order")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("reading an answer")?;
        ensure!(!answer.is_empty(), "the program ended with {}: {order} was not carried out", self.child.wait()?);
        errln!("{}", answer.trim());
        serde_json::from_str(&answer).context("an answer that is no JSON")
    }

    fn end(self) -> Result<()> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        let status = child.wait()?;
        ensure!(status.success(), "the program ended with {status}");
        Ok(())
    }
}

impl Figure {
    fn new(what: &str, is: f64, unit: &'static str, target: Target) -> Self {
        Self { what: what.to_owned(), is, unit, target }
    }

    fn reached(&self) -> bool {
        match self.target {
            Target::AtLeast(least) => self.is >= least,
            Target::AtMost(most) => self.is <= most,
            Target::None => true,
        }
    }
}

fn table(figures: &[Figure]) -> String {
    let mut table = Table::new(&["figure", "is", "", "should be"]);
    for figure in figures {
        let target = match figure.target {
            Target::AtLeast(least) => format!("at least {least}"),
            Target::AtMost(most) => format!("at most {most}"),
            Target::None => "-".to_owned(),
        };
        let digits = if figure.is < 10.0 { 3 } else { 1 };
        let is = Cell::judged(figure.reached(), format!("{:.digits$}", figure.is));
        table.row(vec![figure.what.as_str().into(), is, figure.unit.into(), target.into()]);
    }
    table.render(Style::stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_whether_it_is_what_it_should_be() {
        let reached = |is, target| Figure::new("x", is, "", target).reached();
        assert!(reached(100.0, Target::AtLeast(100.0)) && !reached(99.9, Target::AtLeast(100.0)));
        assert!(reached(0.0, Target::AtMost(0.0)) && !reached(1.0, Target::AtMost(0.0)) && reached(1.0, Target::None));
        let shown = table(&[Figure::new("rooms made", 123.45, "a second", Target::AtLeast(100.0))]);
        assert!(shown.contains("123.5") && shown.contains("at least 100"), "{shown}");
    }
}
