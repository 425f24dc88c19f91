//! `build`: the static membershipd that servers run.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

use unibus_ops::build::{self, Builder};
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::ui::{Progress, next, took};

/// Build the static membershipd that servers run
///
/// It is put into deploy/build, with its sha256 and version beside it, after it was inspected: ELF, static, stripped,
/// x86-64, no test build. Nothing is installed on this machine; where no builder works the message names the packages. A
/// program that was built elsewhere, on a larger machine or by CI, is inspected in the same way and taken with --from.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to build; without it the first that works here
    #[arg(long, value_enum)]
    builder: Option<Builder>,
    /// Build nothing: take this program, if it is fit to be staged
    #[arg(long, value_name = "FILE", conflicts_with = "builder")]
    from: Option<PathBuf>,
    /// Print what was built as JSON: {schema, version, sha256, bytes, level, builder, compiler, commit}
    #[arg(long)]
    json: bool,
}

/// Builds, and says what there is now.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let progress = Progress::new();
    let line = progress.line("build");
    let begun = Instant::now();
    let made = match &args.from {
        Some(program) => build::adopt(&paths, program),
        None => build::build(&paths, args.builder, &line),
    };
    let built = match made {
        Ok(built) => built,
        Err(error) => {
            line.failed("nothing was put in place");
            return Err(error);
        }
    };
    line.done(&took(begun.elapsed()));
    if args.json {
        outln!("{}", serde_json::to_string(&built).context("writing JSON")?);
        return Ok(());
    }
    outln!("membershipd {}, static, stripped, x86-64, {} bytes", built.version, built.bytes);
    outln!("built with {} ({})", built.builder, built.compiler);
    outln!("sha256 {}", built.sha256);
    outln!("{}", Paths::shown(&build::place(&paths)));
    out!("{}", next(&[("cargo xtask stage", "")]));
    Ok(())
}
