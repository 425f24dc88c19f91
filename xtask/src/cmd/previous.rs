//! `previous`: the release before this one, for tests of upgrades.

use anyhow::{Context, Result};
use serde_json::json;

use crate::previous::Previous;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::ui::Progress;

const SCHEMA: u32 = 1;

/// Build the previous release from this clone's history, and say where its programs lie
///
/// deploy/previous.toml names it. It is built once, into deploy/build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build the membershipd that servers run of it too, static, and say where it lies last
    #[arg(long = "static")]
    for_servers: bool,
    /// Print JSON: {schema, membershipd, xtask, source, static}
    #[arg(long)]
    json: bool,
}

/// Builds it unless it is here.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let previous = Previous::load(&paths.previous())?;
    let progress = Progress::new();
    let line = progress.line("previous");
    let obtained = previous.obtain(&paths, &line).and_then(|programs| {
        let for_servers = args.for_servers.then(|| previous.obtain_static(&paths, &line)).transpose()?;
        Ok((programs, for_servers))
    });
    let (programs, for_servers) = obtained.inspect_err(|_| line.failed(""))?;
    line.done(&previous.version);
    if args.json {
        let (membershipd, xtask, source) = (&programs.membershipd, &programs.xtask, &programs.source);
        let said = json!({
            "schema": SCHEMA, "membershipd": membershipd, "xtask": xtask, "source": source, "static": for_servers,
        });
        outln!("{}", serde_json::to_string(&said).context("writing JSON")?);
        return Ok(());
    }
    for program in [&programs.membershipd, &programs.xtask, &programs.source].into_iter().chain(&for_servers) {
        outln!("{}", Paths::shown(program));
    }
    Ok(())
}
