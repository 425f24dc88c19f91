//! A clone to rehearse in: the operator's own keys, secrets and files are neither read nor written.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::fleet::Layout;
use unibus_ops::build;
use unibus_ops::engine::{self, Pin};
use unibus_ops::paths::Paths;
use unibus_ops::staging::UNIT;

/// What makes a node of the cluster a node on its own.
const STANDALONE: &str = "standalone.conf";

/// Makes the clone in the fleet's scratch directory, with which it goes. What takes long to make is copied into it.
pub(super) fn make(from: &Paths, layout: &Layout, membershipd: Option<&Path>) -> Result<Paths> {
    let root = layout.clone_dir();
    let deploy = root.join("deploy");
    fs::create_dir_all(&deploy).with_context(|| format!("making {}", deploy.display()))?;
    copy(&from.engine_pin(), &deploy.join("engine.toml"))?;
    copy(&layout.topology(), &deploy.join("nodes.toml"))?;
    for file in [UNIT, STANDALONE] {
        copy(&from.root().join("deploy").join(file), &deploy.join(file))?;
    }
    let to = Paths::find(Some(&root))?;
    let pin = Pin::load(&from.engine_pin())?;
    engine::copy(from, &to, &pin)?;
    match membershipd {
        Some(program) => build::adopt(&to, program)?,
        None => build::copy(from, &to)?,
    };
    Ok(to)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("copying {} to {}", Paths::shown(from), to.display()))
}
