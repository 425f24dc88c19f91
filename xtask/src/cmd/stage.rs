//! `stage`: puts everything on the servers that they need, and starts nothing.

use std::path::Path;
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, anyhow, bail};
use time::OffsetDateTime;

use unibus_ops::build;
use unibus_ops::engine::{self, Engine, Pin};
use unibus_ops::exit::{BadInput, WouldChange};
use unibus_ops::global::Global;
use unibus_ops::making::Making;
use unibus_ops::node_files::{self, Cluster, Placement};
use unibus_ops::paths::Paths;
use unibus_ops::pki::{self, Force};
use unibus_ops::plan::{self, Goal, LockFlags, Outcome, State, Step};
use unibus_ops::random::System;
use unibus_ops::staging::{self, Release};
use unibus_ops::target::Target;
use unibus_ops::topology::Topology;
use unibus_ops::ui::{Progress, Style, next};

/// Put release, certificates, secrets, settings and unit on every server; starts nothing
///
/// Without --yes the steps are only printed, and no connection is opened. What is there already is left alone, so a second
/// run changes nothing, and a run that failed is completed by the next.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Do it
    #[arg(long, conflicts_with = "diff")]
    yes: bool,
    /// Ask the servers which steps would change them; exit code 3 if any would
    #[arg(long)]
    diff: bool,
    /// Only this node; may be given several times
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Print the plan as JSON: {schema, done, sessions: [{node, command, stdin}], steps: [{id, node, wave, within_seconds,
    /// effect, probe, command, explain, state, why}]}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lock: LockFlags,
    /// Refused: what `local` runs is no server
    #[arg(long, hide = true)]
    local: bool,
}

/// Prints the plan; carries it out with `--yes`, asks how far the servers are with `--diff`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.local {
        return Err(BadInput::new("stage needs servers; `cargo xtask local` lays its nodes out itself"));
    }
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    for name in &args.node {
        topology.node(name)?;
    }
    let release = release(&paths, &topology)?;
    let mut steps = Vec::new();
    for node in topology.nodes.iter().filter(|node| args.node.is_empty() || args.node.contains(&node.name)) {
        let from = paths.node(&topology.cluster.name, &node.name);
        steps.extend(staging::steps(&release, &topology, &node.name, &from)?);
    }
    let target = Target::servers(topology, Pin::load(&paths.engine_pin())?, global.topology_flag());
    let steps = target.locked(steps, "stage", &args.lock);
    let goal = if args.yes { Some(Goal::Do) } else { args.diff.then_some(Goal::Look) };
    let Some(goal) = goal else { return dry_run(&target, &steps, args) };
    let outcome = plan::execute(steps, target.transport.as_ref(), goal, &Progress::new());
    report(&target, &outcome, goal, args)
}

fn dry_run(target: &Target, steps: &[Step], args: &Args) -> Result<()> {
    if args.json {
        outln!("{}", plan::json(steps, target.transport.as_ref(), false)?);
        return Ok(());
    }
    out!("{}", plan::print(steps, target.transport.as_ref(), Style::stdout()));
    outln!("{} steps, each skipped where it is so already; the whole commands: --json", plan::count(steps));
    outln!("dry run: nothing was changed, no connection was opened");
    let yes = again(target, args, " --yes");
    out!("{}", next(&[(&yes, "do it"), (&again(target, args, " --diff"), "ask the servers what would change")]));
    Ok(())
}

fn report(target: &Target, outcome: &Outcome, goal: Goal, args: &Args) -> Result<()> {
    let failures = outcome.failures();
    if args.json {
        let done = goal == Goal::Do && failures.is_empty();
        outln!("{}", plan::json(&outcome.steps, target.transport.as_ref(), done)?);
    } else if goal == Goal::Look {
        out!("{}", plan::print(&outcome.steps, target.transport.as_ref(), Style::stdout()));
    }
    if !args.json {
        outln!("{}", plan::summary(outcome));
    }
    let again = again(target, args, if goal == Goal::Do { " --yes" } else { " --diff" });
    if !failures.is_empty() {
        bail!("{}\nput that right and run this again, it goes on where it stopped: {again}", failures.join("\n"));
    }
    let would_change = outcome.count(&State::WouldChange) > 0;
    if args.json {
        return if would_change { Err(WouldChange.into()) } else { Ok(()) };
    }
    match goal {
        Goal::Look if would_change => {
            out!("{}", next(&[(&self::again(target, args, " --yes"), "")]));
            Err(WouldChange.into())
        }
        Goal::Look => {
            outln!("nothing would change");
            Ok(())
        }
        Goal::Do => {
            if outcome.count(&State::Changed) == 0 {
                outln!("everything was so already: nothing was changed");
            }
            outln!("nothing was started");
            let (up, roll) = (target.verb("up"), target.verb("roll"));
            let seed = target.verb("seed-admin --sign-pub HEX");
            out!(
                "{}",
                next(&[
                    (&up, "start servers that do not run yet"),
                    (&roll, "take running ones to what was staged"),
                    (&seed, "the first admin, if there is none"),
                ])
            );
            Ok(())
        }
    }
}

/// This run again, with another goal.
fn again(target: &Target, args: &Args, goal: &str) -> String {
    let nodes: String = args.node.iter().map(|node| format!(" --node {node}")).collect();
    target.verb(&format!("stage{nodes}{}{goal}", args.lock.typed()))
}

/// The release, with everything in place that it takes; all that is missing is said at once.
pub(super) fn release(paths: &Paths, topology: &Topology) -> Result<Release> {
    let pin = Pin::load(&paths.engine_pin())?;
    let mut missing = Vec::new();
    let mut need = |what: Result<()>| missing.extend(what.err().map(|error| format!("{error:#}")));
    // Hashing two programs is most of what happens before the first connection, so it is done side by side.
    let (built, engine) = thread::scope(|scope| {
        let built = scope.spawn(|| build::load(paths));
        let engine = scope.spawn(|| staged_engine(paths, &pin));
        need(node_files_are_current(paths, topology, &pin));
        (joined(built), joined(engine))
    });
    let unit = staging::unit(paths);
    match (built, engine, unit) {
        (Ok(built), Ok(engine), Ok(unit)) if missing.is_empty() => {
            Ok(Release::new(paths, &built, &engine, &unit, topology))
        }
        (built, engine, unit) => {
            missing.extend(built.err().map(|error| format!("{error:#}")));
            missing.extend(engine.err().map(|error| format!("{error:#}")));
            missing.extend(unit.err().map(|error| format!("{error:#}")));
            Err(BadInput::new(format!("not everything that is to be staged is here:\n  {}", missing.join("\n  "))))
        }
    }
}

fn joined<T>(worker: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    worker.join().unwrap_or_else(|_| Err(anyhow!("looking at a program ended in a panic")))
}

/// The pinned engine, which must be here: a dry run opens no connection to anywhere.
fn staged_engine(paths: &Paths, pin: &Pin) -> Result<Engine> {
    if !engine::cached(paths, pin) {
        return Err(BadInput::new(format!("nats-server {} is not here yet; next: cargo xtask engine", pin.version)));
    }
    engine::obtain(paths, None)
}

/// Refuses where certificates, secrets or settings are not those that the topology asks for now.
fn node_files_are_current(paths: &Paths, topology: &Topology, pin: &Pin) -> Result<()> {
    let random = System::new();
    let mut making = Making::begin(paths, OffsetDateTime::now_utc(), &random)?;
    pki::cluster(&mut making, topology, Force::No)?;
    let cluster = Cluster { topology, placement: &Placement::server, engine_sha256: &pin.sha256 };
    node_files::assemble(&mut making, &cluster)?;
    // Nothing of this is written: it only shows what the verbs that write would do.
    let stale: Vec<&Path> = making.report.changed_files().collect();
    let Some(first) = stale.first() else {
        return match making.report.notes.iter().find(|note| note.contains("not complete")) {
            Some(note) => Err(BadInput::new(note.clone())),
            None => Ok(()),
        };
    };
    Err(BadInput::new(format!(
        "{} and {} more of what the nodes get do not fit the topology, or expire within 30 days; \
         next: cargo xtask cluster-certs && cargo xtask secrets",
        Paths::shown(first),
        stale.len().saturating_sub(1)
    )))
}
