//! `prove`: long proofs, which CI does not run.

use std::time::Instant;

use anyhow::Result;

use crate::proofs::Proof;
use unibus_ops::global::Global;
use unibus_ops::ui::{Progress, Style, Table, next, took};

/// Carry out a proof that takes too long for CI; without a name, list them
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which
    #[arg(value_enum)]
    proof: Option<Proof>,
}

/// Proves, or lists.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let Some(proof) = args.proof else {
        let mut table = Table::new(&["proof", "shows"]);
        for proof in <Proof as clap::ValueEnum>::value_variants() {
            table.row(vec![proof.name().into(), proof.shows().into()]);
        }
        out!("{}\n{}", table.render(Style::stdout()), next(&[("cargo xtask prove bare", "")]));
        return Ok(());
    };
    let paths = global.paths()?;
    let begun = Instant::now();
    proof.run(&paths, &Progress::new())?;
    outln!("proved in {}", took(begun.elapsed()));
    Ok(())
}
