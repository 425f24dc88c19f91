//! `stage`: puts everything on the servers that they need, and starts nothing.

use std::path::Path;
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, anyhow};
use time::OffsetDateTime;

use super::apply::{self, ApplyArgs, CommandInfo, Extras, RejectLocal};
use unibus_ops::build;
use unibus_ops::engine::{self, Engine, Pin};
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::level;
use unibus_ops::making::Making;
use unibus_ops::node_files::{self, Cluster, Placement};
use unibus_ops::paths::Paths;
use unibus_ops::pki::{self, Force};
use unibus_ops::random::System;
use unibus_ops::staging::{self, Release};
use unibus_ops::target::Target;
use unibus_ops::topology::Topology;

/// Put release, certificates, secrets, settings and unit on every server; starts nothing
///
/// Without --yes the steps are only printed, and no connection is opened. What is there already is left alone, so a second
/// run changes nothing, and a run that failed is completed by the next.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    apply: ApplyArgs,
    /// Only this node; may be given several times
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    #[command(flatten)]
    reject_local: RejectLocal,
}

/// Prints the plan; carries it out with `--yes`, asks how far the servers are with `--diff`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    args.reject_local.check("stage needs servers; `cargo xtask local` lays its nodes out itself")?;
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    for name in &args.node {
        topology.node(name)?;
    }
    let release = release(&paths, &topology)?;
    let mut steps = Vec::new();
    let chosen = || topology.nodes.iter().filter(|node| args.node.is_empty() || args.node.contains(&node.name));
    for node in chosen() {
        let from = paths.node(&topology.cluster.name, &node.name);
        steps.extend(staging::steps(&release, &topology, &node.name, &from)?);
    }
    let nodes = chosen().map(|node| node.name.as_str());
    let steps = level::after_built_fits(&topology.cluster.install_dir, nodes, release.highest_level, steps);
    let target = Target::servers(topology, Pin::load(&paths.engine_pin())?, global.topology_flag());
    let steps = target.locked(steps, "stage", &args.apply.lock);
    let extras = Extras::default();
    let verb = format!("stage{}", args.node.iter().map(|node| format!(" --node {node}")).collect::<String>());
    let next = [
        ("up", "start servers that do not run yet"),
        ("roll", "take running ones to what was staged"),
        ("seed-admin --sign-pub HEX", "the first admin, if there is none"),
    ];
    let info = CommandInfo { verb: &verb, notes: &[], done: &["nothing was started"], next: &next };
    if !args.apply.yes {
        return apply::preview(&target, &steps, &extras, &args.apply, &info);
    }
    let outcome = apply::carry_out(&target, steps);
    apply::report(&target, &outcome, &extras, &args.apply, &info, None)
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
