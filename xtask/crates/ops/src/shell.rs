//! Commands of this machine, written as one types them; each value in them is one word, whatever it contains.
//!
//! They are only made here: `process` bounds them in time, and `cargo::run` shows their progress.

use std::path::Path;

use anyhow::{Context, Result};
pub use xshell::{Cmd, Shell, cmd};

/// A shell whose commands start in `dir`.
pub fn shell_in(dir: &Path) -> Result<Shell> {
    let shell = Shell::new().context("finding the working directory")?;
    shell.change_dir(dir);
    Ok(shell)
}
