//! `scale`: more copies of every bucket, in place, and the topology that says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use time::OffsetDateTime;

use super::apply::{self, ApplyArgs, CommandInfo, Extras};
use crate::program::this_program;
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::install_dir::{CLUSTER_ENV, RUNTIME_DIR};
use unibus_ops::making::Making;
use unibus_ops::node_files::{self, Cluster, Placement};
use unibus_ops::paths::Paths;
use unibus_ops::plan::Step;
use unibus_ops::random::{Random, System};
use unibus_ops::rolling::Site;
use unibus_ops::staging;
use unibus_ops::target::{Target, Which};
use unibus_ops::topology::{self, Node, Topology};

/// Raise every bucket to N copies while the cluster works
///
/// All nodes must be well first. The buckets are raised in place and nothing is restarted; when all copies are current, the new
/// number goes into the nodes' settings and into the topology, where only that number changes. It never lowers. Without --yes
/// the steps are only printed, and no connection is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Copies that every bucket shall have: odd, and at most one a node
    #[arg(value_name = "N")]
    copies: u32,
    #[command(flatten)]
    apply: ApplyArgs,
}

/// Prints the plan, and carries it out with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    refuse(args.copies, &target.topology)?;
    let paths = global.paths()?;
    let (paths, file) = match args.which.state(&paths)? {
        Some(state) => (paths.with_base(state.dir())?, state.topology()),
        None => (paths.clone(), global.topology_flag().cloned().unwrap_or_else(|| paths.topology())),
    };
    let random = System::new();
    let (making, settings) = settings(&paths, &target, args.copies, &random)?;
    let (making, here) = edit(making, &file, args.copies)?;

    let service = args.which.service(global, this_program()?)?;
    let site = Site { topology: &target.topology, service, runtime_dir: &target.runtime_dir };
    let steps = target.locked(site.scale(args.copies, settings), "scale", &args.apply.lock);
    let extras = Extras { here, ..Extras::default() };
    let verb = format!("scale {}", args.copies);
    let next = [("verify", "prove that the cluster is what it should be")];
    let info = CommandInfo { verb: &verb, notes: &[], done: &[], next: &next };
    if !args.apply.yes {
        return apply::preview(&target, &steps, &extras, &args.apply, &info);
    }
    let outcome = apply::carry_out(&target, steps);
    if outcome.failures().is_empty() {
        making.finish().context("the copies are raised; what is to be written here was not")?;
        if !args.apply.json {
            extras.here.iter().for_each(|line| outln!("{line}"));
        }
    }
    let remedy = "nothing was written here; no bucket has fewer copies than before";
    apply::report(&target, &outcome, &extras, &args.apply, &info, Some(remedy))
}

/// What the topology alone can say against it.
fn refuse(copies: u32, topology: &Topology) -> Result<()> {
    let (now, nodes) = (topology.cluster.kv_replicas, topology.nodes.len());
    let why = if copies.is_multiple_of(2) {
        "an even number tolerates no more failures than one less".to_owned()
    } else if usize::try_from(copies).is_ok_and(|copies| copies > nodes) {
        format!("there are only {nodes} nodes to hold them")
    } else if copies < now {
        format!("there are {now}, and scale never lowers: that would be less safe, and an engine may lose data by it")
    } else {
        return Ok(());
    };
    Err(BadInput::new(format!("scale {copies}: {why}; nothing was changed")))
}

/// The nodes' settings with that many copies: what is to be written here, and the steps that put it on the nodes.
fn settings<'a>(
    paths: &'a Paths,
    target: &Target,
    copies: u32,
    random: &'a dyn Random,
) -> Result<(Making<'a>, Vec<Step>)> {
    let server: &dyn Fn(&Topology, &Node) -> Placement = &Placement::server;
    let local = |topology: &Topology, node: &Node| Placement::local(topology, node, Path::new(RUNTIME_DIR));
    let placement = if target.install_dir().is_some() { server } else { &local };
    let engine_sha256 = target.expected.engine.as_ref().map_or("", |engine| engine.sha256.as_str());
    let mut making = Making::begin(paths, OffsetDateTime::now_utc(), random)?;
    node_files::assemble(&mut making, &Cluster { topology: &target.topology, placement, engine_sha256 })?;
    // Anything else that changed would travel with it, unannounced.
    if making.report.changed() || !making.report.notes.is_empty() {
        let next = match target.install_dir() {
            Some(_) => format!("{} && {}", target.verb("cluster-certs"), target.verb("secrets")),
            None => "take the cluster down and start it again: that makes it anew".to_owned(),
        };
        return Err(BadInput::new(format!("what the nodes get does not fit the topology as it is now; next: {next}")));
    }
    let mut after = target.topology.clone();
    after.cluster.kv_replicas = copies;
    node_files::assemble(&mut making, &Cluster { topology: &after, placement, engine_sha256 })?;
    let mut steps = Vec::new();
    for node in &after.nodes {
        let file = paths.node(&after.cluster.name, &node.name).join(CLUSTER_ENV);
        let text = making.batch.read(&file)?.with_context(|| format!("there is no {}", Paths::shown(&file)))?;
        let text = String::from_utf8(text).with_context(|| format!("{} is not text", Paths::shown(&file)))?;
        steps.push(staging::put_settings(target.install_dir(), &node.name, text));
    }
    Ok((making, steps))
}

/// Adds the topology's own file, and says in words what will be written here.
fn edit<'a>(mut making: Making<'a>, file: &Path, copies: u32) -> Result<(Making<'a>, Vec<String>)> {
    let shown = Paths::shown(file);
    let text = fs::read_to_string(file).with_context(|| format!("reading {shown}"))?;
    let (edited, line) = topology::with_replicas(&text, &shown, copies)?;
    let mut here = Vec::new();
    if edited != text {
        here.push(format!("{shown}:{line}: kv_replicas becomes {copies}"));
        // The file itself, should this be a link to it, with the mode that it has.
        let place: PathBuf = fs::canonicalize(file).with_context(|| format!("finding {shown}"))?;
        let mode = fs::metadata(&place).with_context(|| format!("looking at {shown}"))?.permissions().mode() & 0o777;
        making.batch.put(&place, mode, edited);
    }
    here.extend(making.report.changed_files().map(|file| format!("{}: the same", Paths::shown(file))));
    Ok((making, here))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn only_more_copies_that_nodes_can_hold() {
        let of = |now| Topology::local(Ipv4Addr::new(127, 0, 0, 11), now).unwrap();
        let said = |copies, now| refuse(copies, &of(now)).map_err(|error| error.to_string());
        assert_eq!(said(3, 1), Ok(()));
        assert_eq!(said(3, 3), Ok(()), "again, to see it through");
        assert_eq!(said(1, 1), Ok(()));
        assert!(said(2, 1).unwrap_err().contains("even number"));
        assert!(said(0, 1).unwrap_err().contains("even number"));
        assert!(said(5, 3).unwrap_err().contains("only 3 nodes"));
        assert!(said(1, 3).unwrap_err().contains("there are 3, and scale never lowers"));
    }
}
