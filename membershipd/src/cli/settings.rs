//! The configuration of a node for a verb that works beside its daemon: from flags and environment, or from its cluster.env.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;

use super::{Problem, Serve};
use crate::config::Config;
use unibus_core::clock;

/// Where the settings are.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// Read the settings from this file (a node's cluster.env) instead of the flags and the environment; may be given
    /// several times, a later file wins
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Parser)]
struct FromFile {
    #[command(flatten)]
    serve: Serve,
}

impl Settings {
    /// The configuration that they amount to, and the runtime directory.
    pub(super) fn read(&self, json: bool) -> Result<(Config, PathBuf), Problem> {
        let (typed, runtime_dir) = match self.env_file.as_slice() {
            [] => (self.serve.typed.clone(), self.serve.daemon.runtime_dir()),
            files => {
                let serve = from_files(files)?.serve;
                (serve.typed, serve.daemon.runtime_dir())
            }
        };
        let config =
            Config::from_typed(typed, clock::unix()).map_err(|errors| Problem::Configuration { errors, json })?;
        Ok((config, runtime_dir))
    }
}

// A variable of the files stands for the flag of the same name, so the flags' own parser reads it.
fn from_files(files: &[PathBuf]) -> Result<FromFile> {
    let mut settings = BTreeMap::new();
    for file in files {
        read(file, &mut settings)?;
    }
    let flags = settings.into_iter().map(|(flag, value)| OsString::from(format!("--{flag}={value}")));
    FromFile::try_parse_from(std::iter::once(OsString::from("membershipd")).chain(flags)).map_err(|error| {
        let first = error.to_string().lines().next().unwrap_or_default().to_owned();
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        anyhow::anyhow!("{}: {first}", files.join(", "))
    })
}

fn read(path: &Path, settings: &mut BTreeMap<String, String>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
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
