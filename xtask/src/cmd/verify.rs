//! `verify`: proves that the cluster is what it should be.

use anyhow::{Context, Result, bail};

use unibus_ops::global::Global;
use unibus_ops::target::Which;
use unibus_ops::ui::Style;
use unibus_ops::verify::{all_hold, json, summary, table};

/// Asks every node for its posture and judges it; exit code 0 only when every check holds.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print the verdict as JSON: {schema, ok, checks, nodes}
    #[arg(long)]
    json: bool,
}

/// Prints the verdict and fails if anything does not hold.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    let (checks, answers) = target.verify();
    if args.json {
        outln!("{}", json(&checks, &answers).context("writing JSON")?);
    } else {
        out!("{}", table(&checks, Style::stdout()));
    }
    if all_hold(&checks) {
        return Ok(());
    }
    bail!("the cluster is not what it should be: {}", summary(&checks))
}
