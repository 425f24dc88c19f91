//! `rehearse`: the whole runbook, against machines that are booted here.

use std::path::PathBuf;

use anyhow::Result;

use crate::caller::Caller;

#[cfg(not(target_os = "linux"))]
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::prerequisites::InstallArgs;

/// Carry out the whole runbook against Debian machines booted here, and leave nothing
///
/// The machines have the names of your nodes.toml, and addresses that are nobody's; its placeholders may still be there. Your own
/// keys and secrets are neither read nor changed. Needs root and a few packages, which it names where they are missing.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave the machines running, also after a failure, and say how to log in and how to take them down
    #[arg(long)]
    keep: bool,
    /// Write a report: one HTML page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Rehearse with this membershipd instead of the one in deploy/build, which is built if it is not there
    #[arg(long, value_name = "FILE")]
    membershipd: Option<PathBuf>,
    /// The network over which the nodes dial each other, instead of the one in nodes.toml
    #[arg(long, value_enum, value_name = "NETWORK")]
    routes: Option<Routes>,
    /// Only this chapter, after those that bring the cluster up; may be given several times
    #[arg(long, value_name = "CHAPTER")]
    only: Vec<String>,
    /// Also roll from the previous release to this one; it is built first (some minutes, once)
    #[arg(long)]
    upgrade: bool,
    #[command(flatten)]
    install: InstallArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Routes {
    Wg,
    Public,
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_global: &Global, _caller: &Caller, _args: &Args) -> Result<()> {
    Err(BadInput::new("`rehearse` needs Linux: its machines live in namespaces of the host"))
}

/// Rehearses.
#[cfg(target_os = "linux")]
pub(crate) fn run(global: &Global, caller: &Caller, args: &Args) -> Result<()> {
    use crate::rehearsal::{Options, rehearse};
    use unibus_ops::topology::RouteNetwork;

    let paths = global.paths()?;
    let options = Options {
        xtask: caller.xtask()?.to_path_buf(),
        topology: global.topology_flag().cloned().unwrap_or_else(|| paths.topology()),
        routes: args.routes.map(|routes| match routes {
            Routes::Wg => RouteNetwork::Wg,
            Routes::Public => RouteNetwork::Public,
        }),
        membershipd: args.membershipd.clone(),
        keep: args.keep,
        report: args.report.clone(),
        only: args.only.clone(),
        upgrade: args.upgrade,
        consent: args.install.consent(),
    };
    rehearse(&paths, options)
}
