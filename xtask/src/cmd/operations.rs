//! `operations`: what was done to the nodes, by whom, from where, and what came of it.

use anyhow::{Result, bail};
use serde_json::json;

use unibus_ops::global::Global;
use unibus_ops::operations;
use unibus_ops::target::Which;
use unibus_ops::ui::Style;

const SCHEMA: u32 = 1;

/// Show what was done to the nodes: who began which verb, when, at which commit, and what came of it
///
/// Each verb that changes nodes notes when it begins and when it ends, on every node that grants it the lock. What no node has the end of
/// goes on, or was killed: what came of it is unknown. Nothing is changed by asking.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Only so many, the latest
    #[arg(long, value_name = "N", default_value = "20")]
    last: usize,
    /// Print JSON: {schema, operations: [{token, holder, pid, verb, part_of, clone, commit, since, end, result, nodes}], silent}
    #[arg(long)]
    json: bool,
}

/// Asks every node.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    let (all, silent) = operations::read(&target);
    for (node, why) in &silent {
        errln!("{node} could not be asked: {why}");
    }
    if silent.len() == target.nodes().len() {
        bail!("no node could be asked; see: {}", target.verb("verify"));
    }
    let last = all.get(all.len().saturating_sub(args.last)..).unwrap_or_default();
    if args.json {
        let silent: Vec<&String> = silent.iter().map(|(node, _)| node).collect();
        outln!("{}", json!({ "schema": SCHEMA, "operations": last, "silent": silent }));
    } else if last.is_empty() {
        outln!("nothing was noted yet: each verb that changes the nodes is, from now on");
    } else {
        out!("{}", operations::table(last, Style::stdout()));
    }
    Ok(())
}
