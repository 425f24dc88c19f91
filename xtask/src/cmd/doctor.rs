//! `doctor`: what a deployment needs, on this machine and on every node, all at once.

use anyhow::{Context, Result, bail};

use unibus_ops::doctor::{self, Check};
use unibus_ops::engine::Pin;
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::target::Target;
use unibus_ops::topology::Topology;
use unibus_ops::ui::{Progress, Style, next};

/// Look at this machine, and with --nodes at every server, for whatever could stand in the way
///
/// Every finding is shown, each with its remedy; nothing is installed or changed, on any machine. Exit code 0 when nothing
/// is missing that a deployment needs: what only optional verbs need is a warning.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask every node of the topology too, over ssh: system, room, clock, ports, and whether the nodes reach each other
    #[arg(long)]
    nodes: bool,
    /// Print JSON: {schema, ok, checks: [{id, node, ok, level, want, got, remedy}]}
    #[arg(long)]
    json: bool,
    /// Refused: what `local` runs is no server
    #[arg(long, hide = true)]
    local: bool,
}

/// Looks, prints, and fails if something is missing.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.local {
        return Err(BadInput::new(
            "doctor looks at this machine, or at servers with --nodes; for the local cluster: cargo xtask verify --local",
        ));
    }
    let paths = global.paths()?;
    let file = global.topology_flag().cloned().unwrap_or_else(|| paths.topology());
    // Before anything is shown: without addresses there are no nodes to ask.
    let topology = if args.nodes { Some(Topology::load(&file)?) } else { None };
    let mut checks = doctor::this_machine(&paths, &file)?;
    if !args.json {
        out!("{}", doctor::of_this_machine(&checks, Style::stdout()));
    }
    if let Some(topology) = topology {
        let pin = Pin::load(&paths.engine_pin())?;
        let target = Target::servers(topology, pin, global.topology_flag());
        let progress = if args.json { Progress::silent() } else { Progress::new() };
        let answers = doctor::ask_all(&target.topology, target.transport.as_ref(), &progress);
        checks.extend(doctor::all_nodes(&target.topology, answers));
        if !args.json {
            outln!();
            out!("{}", doctor::of_nodes(&checks, target.nodes(), Style::stdout()));
        }
    }
    report(&checks, args, &file, &paths)
}

fn report(checks: &[Check], args: &Args, topology: &std::path::Path, paths: &Paths) -> Result<()> {
    let flag =
        if topology == paths.topology() { String::new() } else { format!(" --topology {}", Paths::shown(topology)) };
    if args.json {
        outln!("{}", doctor::json(checks).context("writing JSON")?);
    }
    if !doctor::fit(checks) {
        bail!("something is missing that a deployment needs: {}", doctor::summary(checks));
    }
    if !args.json {
        outln!("\nnothing is missing that a deployment needs");
        let nodes = (format!("cargo xtask doctor --nodes{flag}"), "look at the servers too");
        let stage = (format!("cargo xtask stage{flag}"), "what would be put on the servers");
        let (command, why) = if args.nodes { stage } else { nodes };
        out!("{}", next(&[(&command, why)]));
    }
    Ok(())
}
