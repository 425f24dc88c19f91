//! `membershipd check-config`: understands a configuration as `serve` would, without starting anything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::json;

use super::{DONE, Output, Problem, Serve};
use crate::clock;
use crate::config::Config;
use crate::engine::Binary;
use crate::posture::SCHEMA;

/// Arguments of `check-config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Read the settings from this file (a node's cluster.env) instead of the flags and the environment; may be given
    /// several times, a later file wins
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    #[command(flatten)]
    serve: Serve,
    #[command(flatten)]
    output: Output,
}

#[derive(Parser)]
struct FromFile {
    #[command(flatten)]
    serve: Serve,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let typed = match args.env_file.as_slice() {
        [] => args.serve.typed.clone(),
        files => from_files(files)?.serve.typed,
    };
    let config = Config::from_typed(typed, clock::unix())
        .map_err(|errors| Problem::Configuration { errors, json: args.output.json })?;
    let binary =
        Binary::find(config.engine.as_deref(), config.engine_sha256.as_deref()).map_err(anyhow::Error::from)?;
    if args.output.json {
        println!("{}", json!({ "schema": SCHEMA, "ok": true, "node": config.node, "engine": binary.version }));
    } else {
        println!("the configuration of node {} is sound; engine: nats-server {}", config.node, binary.version);
    }
    Ok(DONE)
}

// A variable of the files stands for the flag of the same name, so the flags' own parser reads it.
fn from_files(files: &[PathBuf]) -> Result<FromFile> {
    let mut settings = BTreeMap::new();
    for file in files {
        read(file, &mut settings)?;
    }
    let flags = settings.into_iter().map(|(flag, value)| OsString::from(format!("--{flag}={value}")));
    FromFile::try_parse_from(std::iter::once(OsString::from("check-config")).chain(flags)).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        anyhow::anyhow!("{}: {first}", files.join(", "))
    })
}

fn read(path: &Path, settings: &mut BTreeMap<String, String>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = || format!("{}:{number}", path.display());
        let Some((name, value)) = line.split_once('=') else { bail!("{}: not NAME=VALUE", place()) };
        let Some(name) = name.strip_prefix("UNIBUS_") else { bail!("{}: {name} is no setting of unibus", place()) };
        settings.insert(name.to_lowercase().replace('_', "-"), value.to_owned());
    }
    Ok(())
}
