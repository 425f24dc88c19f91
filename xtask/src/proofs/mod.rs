//! Proofs that take too long for CI: each is named, runs alone, and can be repeated by anyone.

mod api;
mod backup;
mod bare;
mod builds;
mod chaos;
mod figures;
mod hostile;
mod rooms;
mod sdk;
mod site;
mod stock;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::program::this_program;
use unibus_ops::paths::Paths;
use unibus_ops::ui::Progress;

/// A proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Proof {
    /// A backup of 1 GiB of attachments with at most 200 MB of memory at both ends, restored and compared (ten minutes)
    Backup,
    /// A generator of requests that knows the description of the API alone finds nothing in a daemon on its own (ten minutes)
    Api,
    /// README's two commands on a Debian 12 that has nothing but Rust, git, a C compiler and pip (half an hour, root)
    Bare,
    /// How long this clone takes to build, next to the previous release (twenty minutes, on a quiet machine)
    Builds,
    /// Ten chaos runs on a local cluster, each with another seed (half an hour)
    Chaos,
    /// A hostile member does the worst to a local cluster, and the others work beside it (six minutes)
    Hostile,
    /// 10,000 rooms that persist, by 100 users, on a local cluster: what making them, keeping them and reading them costs (half an hour)
    Rooms,
    /// A program outside the workspace that sends and receives in a room with the SDK (four minutes)
    Sdk,
    /// Stock clients with default options, through half an hour of rest, restarts and losses of the quorum, and 1,000 connections through a
    /// restart (fifty minutes)
    Stock,
}

impl Proof {
    /// As typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Api => "api",
            Self::Bare => "bare",
            Self::Builds => "builds",
            Self::Chaos => "chaos",
            Self::Hostile => "hostile",
            Self::Rooms => "rooms",
            Self::Sdk => "sdk",
            Self::Stock => "stock",
        }
    }

    /// What it shows, and about how long it takes.
    pub(crate) fn shows(self) -> &'static str {
        match self {
            Self::Backup => "a backup of 1 GiB takes at most 200 MB of memory at both ends; ten minutes",
            Self::Api => "the API answers generated requests as its description says; ten minutes",
            Self::Bare => "README's two commands on a bare Debian 12; half an hour, as root",
            Self::Builds => "how long this clone takes to build, next to the previous release; twenty minutes",
            Self::Chaos => "ten chaos runs on a local cluster, each with another seed; half an hour",
            Self::Hostile => {
                "a hostile member does the worst to a local cluster, and the others work beside it; six minutes"
            }
            Self::Rooms => "10,000 rooms by 100 users on a local cluster, and what they cost; half an hour",
            Self::Sdk => "a program outside the workspace sends and receives in a room with the SDK; four minutes",
            Self::Stock => "stock clients live through rest, restarts and losses of the quorum; fifty minutes",
        }
    }

    /// Carries it out.
    pub(crate) fn run(self, paths: &Paths, progress: &Progress) -> Result<()> {
        match self {
            Self::Backup => backup::run(paths),
            Self::Api => api::run(paths, progress),
            Self::Bare => bare::run(paths, progress),
            Self::Builds => builds::run(paths, progress),
            Self::Chaos => chaos::run(paths),
            Self::Hostile => hostile::run(paths, progress),
            Self::Rooms => rooms::run(paths, progress),
            Self::Sdk => sdk::run(paths, progress),
            Self::Stock => stock::run(paths),
        }
    }
}

/// The variables with which a shell uses the local cluster in `state` as its admin.
fn admin_environment(state: &Path) -> Result<Vec<(String, String)>> {
    let environment = state.join("env");
    let shell = fs::read_to_string(&environment).with_context(|| format!("reading {}", Paths::shown(&environment)))?;
    let variables = shell.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    let variables = variables.filter(|(name, _)| name.starts_with("UNIBUS_"));
    Ok(variables.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect())
}

/// A verb of xtask, for the local cluster in `state`, which is the proof's own.
fn xtask(paths: &Paths, state: &Path, words: &[&str]) -> Result<()> {
    let mut command = Command::new(this_program()?);
    command.arg("--root").arg(paths.root()).args(words).arg("--state").arg(state);
    let status = command.status().context("starting xtask")?;
    if status.success() { Ok(()) } else { bail!("cargo xtask {} ended with {status}", words.join(" ")) }
}
