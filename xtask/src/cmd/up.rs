//! `up`: starts what was staged, node after node.

use anyhow::Result;

use super::apply::{self, ApplyArgs, CommandInfo, Extras, RejectLocal};
use unibus_ops::engine::Pin;
use unibus_ops::global::Global;
use unibus_ops::rolling::{Service, Site};
use unibus_ops::target::Target;

/// Start the servers one after the other, each gated on what it can be by then
///
/// The seed first, until its engine lives; then as many as make a quorum; then the rest; in the end every node must be
/// healthy and every copy current. What runs already is left alone: a new release or new settings take `roll`. Without
/// --yes the steps are only printed, and no connection is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    apply: ApplyArgs,
    #[command(flatten)]
    reject_local: RejectLocal,
}

/// Prints the plan, and carries it out with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    args.reject_local.check("up needs servers; `cargo xtask local` starts its nodes itself")?;
    let paths = global.paths()?;
    let target = Target::servers(global.topology(&paths)?, Pin::load(&paths.engine_pin())?, global.topology_flag());
    let site = Site { topology: &target.topology, service: Service::Systemd, runtime_dir: &target.runtime_dir };
    let steps = target.locked(site.up(), "up", &args.apply.lock);
    let extras = Extras::default();
    let next = [("verify", "prove that the cluster is what it should be")];
    let info = CommandInfo { verb: "up", notes: &[], done: &[], next: &next };
    if !args.apply.yes {
        return apply::preview(&target, &steps, &extras, &args.apply, &info);
    }
    let outcome = apply::carry_out(&target, steps);
    let remedy = "what was started goes on running; a node that was never staged: cargo xtask stage --yes";
    apply::report(&target, &outcome, &extras, &args.apply, &info, Some(remedy))
}
