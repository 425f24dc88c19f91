//! `membershipd load`: a steady use of the bus, as `cargo xtask chaos` needs it. Needs no daemon here.

use super::{DONE, Output, Problem};
use unibus_loadtest::load::{self, Shown};

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    load::run(if args.output.json { Shown::Json } else { Shown::Text })?;
    Ok(DONE)
}
