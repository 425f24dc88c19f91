//! `verify`: proves that the cluster is what it should be.

use anyhow::{Context, Result, bail};

use unibus_ops::global::Global;
use unibus_ops::target::Which;
use unibus_ops::ui::Style;
use unibus_ops::verify::{all_hold, json, table};

/// What is asked of `verify`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print the verdict as JSON: {schema, ok, headline, state, causes: [{cause, nodes, got, next, checks, consequences}], checks, nodes}
    #[arg(long)]
    json: bool,
}

/// Prints the verdict and fails if anything does not hold.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    let answers = target.ask();
    let (checks, diagnosis) = target.diagnose(&answers);
    if args.json {
        outln!("{}", json(&checks, &diagnosis, &answers).context("writing JSON")?);
    } else {
        out!("{}", table(&checks, &diagnosis, Style::stdout()));
    }
    if all_hold(&checks) {
        return Ok(());
    }
    bail!("{}; next: {}", diagnosis.headline, diagnosis.next().unwrap_or_default())
}
