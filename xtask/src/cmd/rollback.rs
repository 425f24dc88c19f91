//! `rollback`: the previous release, node after node.

use anyhow::Result;

use super::apply::{self, ApplyArgs, CommandInfo, Extras, RejectLocal};
use unibus_ops::engine::Pin;
use unibus_ops::global::Global;
use unibus_ops::rolling::{Service, Site};
use unibus_ops::target::Target;

/// Take the nodes back to the release they had before the last `roll`
///
/// One at a time, and each only while all others are healthy; it must be healthy and current again before the next one's
/// turn. Settings and certificates stay as they are, and so does what was staged: `roll` goes forward again. Without --yes
/// the steps are only printed, and no connection is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this node; may be given several times
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// The whole cluster is down: do not wait for the other nodes before, only for all of them in the end
    #[arg(long)]
    outage: bool,
    #[command(flatten)]
    apply: ApplyArgs,
    #[command(flatten)]
    reject_local: RejectLocal,
}

/// Prints the plan, and carries it out with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    args.reject_local.check("rollback needs servers: a local cluster has no releases to go back to")?;
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    for name in &args.node {
        topology.node(name)?;
    }
    let target = Target::servers(topology, Pin::load(&paths.engine_pin())?, global.topology_flag());
    let site = Site { topology: &target.topology, service: Service::Systemd, runtime_dir: &target.runtime_dir };
    let steps = target.locked(site.rollback(&args.node, args.outage), "rollback", &args.apply.lock);
    let extras = Extras::default();
    let nodes: String = args.node.iter().map(|node| format!(" --node {node}")).collect();
    let verb = format!("rollback{nodes}{}", if args.outage { " --outage" } else { "" });
    let notes: &[&str] =
        if args.outage { &["--outage: nodes are restarted whether or not the others are well"] } else { &[] };
    let next =
        [("verify", "prove that the cluster is what it should be"), ("roll", "forward again, to what is staged")];
    let info = CommandInfo { verb: &verb, notes, done: &[], next: &next };
    if !args.apply.yes {
        return apply::preview(&target, &steps, &extras, &args.apply, &info);
    }
    let outcome = apply::carry_out(&target, steps);
    let remedy = format!(
        "a node that was never rolled has no previous release; an ill node goes first: {}; where no node is well: {}",
        target.verb("rollback --node NODE --yes"),
        target.verb("rollback --outage --yes")
    );
    apply::report(&target, &outcome, &extras, &args.apply, &info, Some(&remedy))
}
