//! `replace`: a machine in the place of one that is gone, or the same one with a new address.

use anyhow::Result;

use super::apply::{self, ApplyArgs, CommandInfo, Extras, RejectLocal};
use super::stage;
use unibus_ops::engine::Pin;
use unibus_ops::global::Global;
use unibus_ops::level;
use unibus_ops::rolling::{Service, Site};
use unibus_ops::staging;
use unibus_ops::target::Target;

/// Put a machine in the place of a server that is gone for good, or give one a new address
///
/// The topology says the new address (and `ssh` reaches the new machine by it). The new one gets everything that a server
/// gets, is started, and fetches its copies from the other nodes; these get the new address in their settings, and restart one
/// at a time. It keeps its name, so for the engines it is the same node with an empty store. All other nodes must be healthy,
/// and the old machine must never be started again: two of one name fight. Without --yes the steps are only printed, and no
/// connection is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The node, by the name it has and keeps
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    apply: ApplyArgs,
    #[command(flatten)]
    reject_local: RejectLocal,
}

/// Prints the plan, and carries it out with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    args.reject_local.check("replace needs servers: a local cluster has none that could be lost")?;
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    let node = topology.node(&args.node)?;
    let release = stage::release(&paths, &topology)?;
    let from = |name: &str| paths.node(&topology.cluster.name, name);
    let put = staging::steps(&release, &topology, &node.name, &from(&node.name))?;
    let mut refreshed = Vec::new();
    for other in topology.others(node) {
        refreshed.extend(staging::refreshed(&topology, &other.name, &from(&other.name))?);
    }
    let name = node.name.clone();
    let target = Target::servers(topology.clone(), Pin::load(&paths.engine_pin())?, global.topology_flag());
    let site = Site { topology: &target.topology, service: Service::Systemd, runtime_dir: &target.runtime_dir };
    let (dir, nodes) = (&topology.cluster.install_dir, topology.nodes.iter().map(|node| node.name.as_str()));
    let steps = level::after_built_fits(dir, nodes, release.highest_level, site.replace(&name, put, refreshed));
    let steps = target.locked(steps, "replace", &args.apply.lock);
    let extras = Extras::default();
    let verb = format!("replace {name}");
    let old = format!("the machine that was {name} must never be started again: two nodes of one name fight");
    let next = [("verify", "prove that the cluster is what it should be")];
    let info = CommandInfo { verb: &verb, notes: &[&old], done: &[], next: &next };
    if !args.apply.yes {
        return apply::preview(&target, &steps, &extras, &args.apply, &info);
    }
    let outcome = apply::carry_out(&target, steps);
    let remedy = format!(
        "the nodes that are not named are as they were, or well; while one node is lost the cluster cannot afford another: {}",
        target.verb("verify")
    );
    apply::report(&target, &outcome, &extras, &args.apply, &info, Some(&remedy))
}
