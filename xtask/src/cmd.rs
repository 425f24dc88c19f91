//! One module a verb, each with its `Args` and a `run`.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub(crate) mod backup;
pub(crate) mod build;
mod changing;
pub(crate) mod chaos;
pub(crate) mod check;
#[cfg(target_os = "linux")]
pub(crate) mod ci;
pub(crate) mod client_ca;
pub(crate) mod cluster_certs;
pub(crate) mod doctor;
pub(crate) mod engine;
#[cfg(target_os = "linux")]
pub(crate) mod fleet;
pub(crate) mod local;
pub(crate) mod previous;
#[cfg(target_os = "linux")]
pub(crate) mod prove;
pub(crate) mod rehearse;
pub(crate) mod replace;
pub(crate) mod restore;
pub(crate) mod roll;
pub(crate) mod rollback;
pub(crate) mod scale;
pub(crate) mod secrets;
pub(crate) mod seed_admin;
pub(crate) mod setup;
pub(crate) mod stage;
pub(crate) mod status;
pub(crate) mod test;
pub(crate) mod up;
pub(crate) mod verify;

/// The program that runs, even where cargo has put another in its place.
#[cfg(target_os = "linux")]
pub(crate) const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// The file of this program, which other processes can start, too.
pub(crate) fn this_program() -> Result<PathBuf> {
    env::current_exe().context("finding this program's own file")
}
