//! The `xtask` that started this program: the verbs that an operator types are carried out by it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use unibus_ops::exit::BadInput;

/// Where that `xtask` is.
#[derive(clap::Args)]
pub(crate) struct Caller {
    /// The program with the verbs of `cargo xtask`
    #[arg(long, value_name = "FILE", env = "UNIBUS_XTASK", global = true, hide = true)]
    xtask: Option<PathBuf>,
}

impl Caller {
    /// The program; refused where it was not named.
    pub(crate) fn xtask(&self) -> Result<&Path> {
        let missing = || BadInput::new("no xtask was named: start this verb as cargo xtask VERB, or pass --xtask FILE");
        self.xtask.as_deref().ok_or_else(missing)
    }
}
