//! `previous`: the release before this one, for tests of upgrades.

use anyhow::Result;

use crate::previous::Previous;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::ui::Progress;

/// Build the previous release from this clone's history, and say where its programs lie
///
/// deploy/previous.toml names it. It is built once, into deploy/build.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Builds it unless it is here.
pub(crate) fn run(global: &Global, _args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let previous = Previous::load(&paths.previous())?;
    let progress = Progress::new();
    let line = progress.line("previous");
    let programs = previous.obtain(&paths, &line).inspect_err(|_| line.failed(""))?;
    line.done(&previous.version);
    for program in [&programs.membershipd, &programs.xtask, &programs.source] {
        outln!("{}", Paths::shown(program));
    }
    Ok(())
}
