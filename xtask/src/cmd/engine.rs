//! `engine`: fetches the engine ahead of time and proves it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use unibus_ops::engine;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;

/// `local` does this by itself. Alone it serves to fill the cache before the network goes away.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Prove this nats-server instead of the pinned one
    #[arg(long, value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Fetches the engine unless it is here, and says what it is.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let engine = engine::obtain(&global.paths()?, args.engine.as_deref())?;
    if args.json {
        let value = json!({
            "schema": 1, "path": engine.path, "version": engine.version, "sha256": engine.sha256,
            "pinned": engine.pinned,
        });
        outln!("{}", serde_json::to_string(&value).context("writing JSON")?);
    } else {
        let pinned = if engine.pinned { "pinned" } else { "not pinned" };
        outln!("nats-server {} ({pinned})", engine.version);
        outln!("sha256 {}", engine.sha256);
        outln!("{}", Paths::shown(&engine.path));
    }
    Ok(())
}
