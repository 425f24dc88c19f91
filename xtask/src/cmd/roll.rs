//! `roll`: a rolling upgrade or restart; what does not get well goes back.

use anyhow::{Result, bail};
use serde_json::json;

use super::apply::{self, ApplyArgs, CommandInfo, Extras};
use crate::program::this_program;
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::plan::{self, Outcome, Purpose, State};
use unibus_ops::rolling::{Restart, Site};
use unibus_ops::target::{Target, Which};

/// Take the nodes to the staged release and settings, one at a time and never below quorum
///
/// Each node waits until every copy of every bucket is current, leaves by lame duck, and must be healthy and current again
/// before the next one's turn. A node is restarted only if something of it is newer than its daemon, so a second run changes
/// nothing. One that does not get well with the new release goes back to the one it had, at once, and the others stay as
/// they are. In the end releases that no node needs any more are removed. Without --yes the steps are only printed, and no
/// connection is opened.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only this node, to try a release or to mend one that is ill: then it need not be well first, but all others must
    /// be; may be given several times
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Restart every node, whether anything changed or not
    #[arg(long)]
    restart: bool,
    /// Reboot the machine of every node, as a new kernel needs it, one after the other: its daemon leaves first, and the next one's
    /// turn comes when it is back, healthy and current. Refused where a node is down
    #[arg(long, conflicts_with = "restart")]
    reboot: bool,
    /// End an upgrade: where every node runs the staged release and is well, one node raises the feature level of the cluster.
    /// Older releases stay out from then on, and 'rollback' to them is over
    #[arg(long, conflicts_with_all = ["node", "restart", "reboot"])]
    finish: bool,
    #[command(flatten)]
    apply: ApplyArgs,
}

/// Prints the plan, and carries it out with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    for name in &args.node {
        target.topology.node(name)?;
    }
    if args.reboot && target.install_dir().is_none() {
        return Err(BadInput::new(
            "--reboot is for servers: the nodes of a local cluster are processes of this machine, which stays up; to restart them: \
             cargo xtask roll --local --restart --yes",
        ));
    }
    let service = args.which.service(global, this_program()?)?;
    let site = Site { topology: &target.topology, service, runtime_dir: &target.runtime_dir };
    if args.finish {
        return finish(&target, &site, &args.apply);
    }
    let restart = match (args.restart, args.reboot) {
        (_, true) => Restart::Machine,
        (true, _) => Restart::Always,
        _ => Restart::WhereChanged,
    };
    let name = if args.reboot { "roll --reboot" } else { "roll" };
    let steps = target.locked(site.roll(&args.node, restart), name, &args.apply.lock);
    let mut extras = Extras::default();
    if target.install_dir().is_some() {
        extras.title = "a node that was switched to another release and does not get well goes back at once:";
        let switched = steps.iter().filter(|step| step.purpose == Purpose::SwitchRelease);
        extras.if_a_node_fails = switched.flat_map(|step| site.back(&step.node)).collect();
    }
    let verb = verb(args);
    let notes: &[&str] = match restart {
        Restart::Machine => &["--reboot: every machine reboots; with --node only those that are named"],
        Restart::Always => &["--restart: every node is restarted, whatever has changed"],
        Restart::WhereChanged => &[],
    };
    let next = [("verify", "prove that the cluster is what it should be")];
    let info = CommandInfo { verb: &verb, notes, done: &[], next: &next };
    if !args.apply.yes {
        return apply::preview(&target, &steps, &extras, &args.apply, &info);
    }
    let mut rescued = None;
    let outcome = apply::carry_out_or(&target, steps, &mut |so_far| {
        let Some(node) = ill_with_a_new_release(so_far) else { return };
        let failures = so_far.failures().join("\n");
        errln!("{failures}\n{node} is not well with the new release: taking it back to the previous one");
        let back = apply::carry_out(&target, site.back(&node));
        rescued = Some((node, back));
    });
    match rescued {
        Some((node, back)) => went_wrong(&target, &outcome, &node, &back, args),
        None => {
            let remedy = format!(
                "the nodes that are not named are as they were, or well; a node that was ill before can be mended alone: {}",
                target.verb("roll --node NODE --yes")
            );
            apply::report(&target, &outcome, &extras, &args.apply, &info, Some(&remedy))
        }
    }
}

/// What the operator has to know before and after the level is raised.
const NO_WAY_BACK: &str = "--finish: older releases stay out of the cluster afterwards, and 'rollback' to them is over; a \
                           backup that was made before can be restored into a cluster of theirs";

/// Raises the feature level.
fn finish(target: &Target, site: &Site<'_>, apply: &ApplyArgs) -> Result<()> {
    let steps = target.locked(site.finish(), "roll --finish", &apply.lock);
    let next = [("verify", "prove that the cluster is what it should be")];
    let done = ["the upgrade is finished: older releases stay out of the cluster, and 'rollback' to them is over"];
    let info = CommandInfo { verb: "roll --finish", notes: &[NO_WAY_BACK], done: &done, next: &next };
    if !apply.yes {
        return apply::preview(target, &steps, &Extras::default(), apply, &info);
    }
    let outcome = apply::carry_out(target, steps);
    let remedy =
        "the level is raised only where every node can do it, so the nodes are as they were, or all at the new level";
    apply::report(target, &outcome, &Extras::default(), apply, &info, Some(remedy))
}

fn verb(args: &Args) -> String {
    let nodes: String = args.node.iter().map(|node| format!(" --node {node}")).collect();
    let reboot = if args.reboot { " --reboot" } else { "" };
    format!("roll{nodes}{reboot}{}", if args.restart { " --restart" } else { "" })
}

/// The node that this run has given another release and that failed afterwards. One whose settings alone changed is no
/// such: its release was well before.
fn ill_with_a_new_release(outcome: &Outcome) -> Option<String> {
    let switched = |node: &str| {
        outcome
            .steps
            .iter()
            .any(|step| step.node == node && step.purpose == Purpose::SwitchRelease && step.state == State::Changed)
    };
    apply::failed_nodes(outcome).into_iter().find(|node| switched(node)).map(str::to_owned)
}

/// Tells what happened to the node, and what became of it.
fn went_wrong(target: &Target, outcome: &Outcome, node: &str, back: &Outcome, args: &Args) -> Result<()> {
    let failures = outcome.failures().join("\n");
    let remedies = &target.expected.remedies;
    if !args.apply.json {
        outln!("{}", plan::summary(outcome));
    }
    let is_back = back.failures().is_empty();
    if args.apply.json {
        let mut value = apply::json(&outcome.steps, &Extras::default(), target.transport.as_ref(), false)?;
        let steps = apply::json(&back.steps, &Extras::default(), target.transport.as_ref(), is_back)?;
        if let Some(all) = value.as_object_mut() {
            let went_back = json!({ "node": node, "done": is_back, "steps": apply::steps_of(steps) });
            all.insert("went_back".to_owned(), went_back);
        }
        outln!("{value}");
    }
    let others = "the other nodes were not touched after that";
    let log = remedies.log(node);
    if is_back {
        bail!(
            "{failures}\n{node} went back to its previous release and is well; {others}\n\
             why it was not well: {log}\n\
             next: build and stage what works, then: {}\n      or take back what was rolled before it: {}",
            target.verb(&format!("{} --yes", verb(args))),
            target.verb("rollback --yes"),
        );
    }
    bail!(
        "{failures}\n{node} was to go back to its previous release, which failed too: {}\n{others}; the cluster runs \
         without {node}, so it cannot afford another loss\n\
         its log: {log}\nnext: put that right, then: {}",
        back.failures().join("; "),
        target.verb(&format!("rollback --node {node} --yes")),
    );
}
