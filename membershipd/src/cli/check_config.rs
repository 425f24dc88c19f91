//! `membershipd check-config`: understands a configuration as `serve` would, without starting anything.

use serde_json::json;

use super::settings::Settings;
use super::{DONE, Output, Problem};
use crate::engine::Binary;
use crate::posture::SCHEMA;

/// Arguments of `check-config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let (config, _) = args.settings.read(args.output.json)?;
    let binary =
        Binary::find(config.engine.as_deref(), config.engine_sha256.as_deref()).map_err(anyhow::Error::from)?;
    if args.output.json {
        println!("{}", json!({ "schema": SCHEMA, "ok": true, "node": config.node, "engine": binary.version }));
    } else {
        println!("the configuration of node {} is sound; engine: nats-server {}", config.node, binary.version);
    }
    Ok(DONE)
}
