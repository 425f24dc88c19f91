//! This very program, which some verbs start again.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// The program that runs, even where cargo has put another in its place.
#[cfg(target_os = "linux")]
pub(crate) const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// The file of this program, which other processes can start, too.
pub(crate) fn this_program() -> Result<PathBuf> {
    env::current_exe().context("finding this program's own file")
}
