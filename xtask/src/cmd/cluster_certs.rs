//! `cluster-certs`: the route CA and every node's certificates; and a new route CA in a cluster that goes on running.

use anyhow::Result;
use clap::ArgAction;
use time::OffsetDateTime;

use crate::program::this_program;
use unibus_ops::engine::Pin;
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::install_dir::RUNTIME_DIR;
use unibus_ops::local_state::State;
use unibus_ops::making::Making;
use unibus_ops::node_files::{self, Cluster, Placement};
use unibus_ops::paths::Paths;
use unibus_ops::pki::rotation::Phase;
use unibus_ops::pki::{self, Force};
use unibus_ops::plan::LockFlags;
use unibus_ops::random::System;
use unibus_ops::rotate::{self, Commands, Reached, RemoteWork, Site};
use unibus_ops::target::{Target, Which};
use unibus_ops::topology::{Node, Topology};
use unibus_ops::ui::next;

/// Certificates that are valid and still fit are kept; one that expires within 30 days, or whose node has other
/// addresses now, is renewed. What was done to each file is printed, and why.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Make a new route CA although there is one; twice if nodes already have certificates of the old one
    #[arg(long, action = ArgAction::Count, conflicts_with = "rotate")]
    force: u8,
    /// Replace the route CA of a running cluster, without an outage: nodes trust both, get certificates of the new one, then
    /// trust that alone. Without --yes it is only said how far it is
    #[arg(long)]
    rotate: bool,
    /// Do it: each phase is made here, staged, rolled and proved on every node before the next; a run that was ended is
    /// continued by the next
    #[arg(long, requires = "rotate")]
    yes: bool,
    /// With --yes: only make the files of the next phase here, once every node has proved the one before
    #[arg(long, requires = "yes")]
    step: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    lock: LockFlags,
}

/// Makes or renews what is missing or worn out; or goes on with a rotation.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let local = args.which.state(&paths)?;
    if args.rotate {
        return match local {
            Some(state) => rotate_local(global, args, &state),
            None => rotate_servers(global, args),
        };
    }
    if local.is_some() {
        return Err(BadInput::new(
            "`cargo xtask local` makes its certificates itself; --local goes with --rotate here",
        ));
    }
    if !args.lock.typed().is_empty() {
        return Err(BadInput::new("without --rotate no node is changed, so there is no lock to wait for or to break"));
    }
    let topology = global.topology(&paths)?;
    let pin = Pin::load(&paths.engine_pin())?;
    let force = match args.force {
        0 => Force::No,
        1 => Force::Once,
        _ => Force::Twice,
    };
    let random = System::new();
    let mut making = Making::begin(&paths, OffsetDateTime::now_utc(), &random)?;
    pki::cluster(&mut making, &topology, force)?;
    let cluster = Cluster { topology: &topology, placement: &Placement::server, engine_sha256: &pin.sha256 };
    node_files::assemble(&mut making, &cluster)?;
    making.finish()?.print();
    if let Some(rotation) = pki::rotation::read(&paths, &topology.cluster.name)? {
        outln!("note: a rotation of the route CA is in phase {}: {}", rotation.phase, rotation.phase.about());
        out!("{}", next(&[("cargo xtask cluster-certs --rotate", "how far it is, and how it goes on")]));
    }
    Ok(())
}

fn rotate_servers(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    let pin = Pin::load(&paths.engine_pin())?;
    let engine_sha256 = pin.sha256.clone();
    let cluster = Cluster { topology: &topology, placement: &Placement::server, engine_sha256: &engine_sha256 };
    let target = Target::servers(topology.clone(), pin, global.topology_flag());
    let (before, lock) = (global.words(&paths), args.lock.typed());
    let work = Commands { target: &target, program: this_program()?, before, after: Vec::new(), lock, ship_here: None };
    rotate(&Site { paths: &paths, cluster }, &work, &target, args)
}

#[cfg(target_os = "linux")]
fn rotate_local(global: &Global, args: &Args, state: &State) -> Result<()> {
    let target = args.which.open(global)?;
    let paths = global.paths()?;
    let base = paths.with_base(state.dir())?;
    let record = state.read_record()?;
    let placement =
        |topology: &Topology, node: &Node| Placement::local(topology, node, std::path::Path::new(RUNTIME_DIR));
    let cluster = Cluster { topology: &target.topology, placement: &placement, engine_sha256: &record.engine_sha256 };
    let ship = || unibus_local::cluster::ship(&paths, state, &target.topology);
    let after = ["--local", "--state", &state.dir().display().to_string()].map(str::to_owned).to_vec();
    let (before, lock) = (global.words(&paths), args.lock.typed());
    let work = Commands { target: &target, program: this_program()?, before, after, lock, ship_here: Some(&ship) };
    rotate(&Site { paths: &base, cluster }, &work, &target, args)
}

#[cfg(not(target_os = "linux"))]
fn rotate_local(_global: &Global, _args: &Args, state: &State) -> Result<()> {
    let _ = RUNTIME_DIR;
    Err(state.absent())
}

fn rotate(site: &Site<'_>, work: &Commands<'_>, target: &Target, args: &Args) -> Result<()> {
    if !args.yes {
        return dry_run(site, work, target, args);
    }
    if !args.step {
        site.carry_out(work, &|line| outln!("{line}"))?;
        out!("{}", next(&[(&target.verb("verify"), "prove it again")]));
        return Ok(());
    }
    let reached = site.step(work)?;
    outln!("{}", rotate::in_words(&reached));
    match reached {
        Reached::Complete => out!("{}", next(&[(&target.verb("verify"), "")])),
        Reached::Phase(_) => {
            if work.ship_here.is_some() {
                work.ship()?;
            }
            let again = (target.verb("cluster-certs --rotate --step --yes"), "the next phase, once this one is proved");
            let ship =
                work.commands().into_iter().zip(["to every node", "one node after the other"].into_iter().cycle());
            let commands: Vec<(String, &str)> = ship.chain([again]).collect();
            let commands: Vec<(&str, &str)> = commands.iter().map(|(command, why)| (command.as_str(), *why)).collect();
            out!("{}", next(&commands));
        }
    }
    Ok(())
}

/// How far it is, and what each phase to come does.
fn dry_run(site: &Site<'_>, work: &dyn RemoteWork, target: &Target, args: &Args) -> Result<()> {
    let at = site.rotation()?.map(|rotation| rotation.phase);
    match at {
        None => outln!("no rotation of the route CA is under way; with --yes one begins:"),
        Some(phase) => outln!("a rotation of the route CA is in phase {phase}; with --yes it goes on:"),
    }
    let mut phase = Some(at.unwrap_or(Phase::Introduce));
    while let Some(present) = phase {
        outln!("\n{present}: {}", present.about());
        if at != Some(present) {
            outln!("  here   its files: {}", files(site.paths, &site.cluster.topology.cluster.name, present));
        }
        for command in work.commands() {
            outln!("  nodes  {command}");
        }
        outln!("  proof  each node runs with these certificates, and takes those of the others in fresh handshakes");
        phase = present.next();
    }
    outln!("\ndry run: nothing was changed, no connection was opened");
    let lock = args.lock.typed();
    let all = (target.verb(&format!("cluster-certs --rotate --yes{lock}")), "all of it, phase by phase");
    let one = (target.verb(&format!("cluster-certs --rotate --step --yes{lock}")), "one phase, here only");
    out!("{}", next(&[(&all.0, all.1), (&one.0, one.1)]));
    Ok(())
}

fn files(paths: &Paths, cluster: &str, phase: Phase) -> String {
    let shown = |path: std::path::PathBuf| Paths::shown(&path);
    let out = shown(paths.out(cluster));
    match phase {
        Phase::Introduce => {
            format!("a new key {}; both CAs in {out}/NODE/{}", shown(paths.next_ca_key(cluster)), node_files::ROUTE_CA)
        }
        Phase::Switch => format!("new certificates and keys {out}/NODE/tls/route.*"),
        Phase::Retire => format!(
            "the new CA alone in {out}/NODE/{}; its key takes the place of the old one, {}, which is destroyed",
            node_files::ROUTE_CA,
            shown(paths.cluster_ca_key(cluster))
        ),
    }
}
