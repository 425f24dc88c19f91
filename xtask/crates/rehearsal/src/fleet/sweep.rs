//! Removes what the kernel does not take away by itself when a fleet dies: its cgroup and its scratch directory.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cgroup::Cgroup;
use super::layout::{Claim, Layout};
use unibus_ops::machine_host::cgroup_mount;
use unibus_ops::paths::Paths;

/// How long killed processes may take to be gone: one may be writing to a slow disk.
const ENDING: Duration = Duration::from_secs(30);

/// The fleet's cgroup, if it has one.
pub(super) fn cgroup(layout: &Layout) -> Result<Option<Cgroup>> {
    Ok(Cgroup::find(cgroup_mount()?.join(layout.cgroup_name())))
}

/// Ends everything that runs in the fleet's cgroup.
pub(super) fn end(layout: &Layout) -> Result<()> {
    match cgroup(layout)? {
        Some(cgroup) => cgroup.kill(ENDING),
        None => Ok(()),
    }
}

/// Ends the fleet's processes, and removes its cgroup.
pub(super) fn clear(layout: &Layout) -> Result<()> {
    end(layout)?;
    match cgroup(layout)? {
        Some(cgroup) => cgroup.remove(),
        None => Ok(()),
    }
}

/// Removes all that is left of a fleet.
pub(super) fn sweep(claim: Claim) -> Result<()> {
    clear(&claim.layout)?;
    claim.remove()
}

/// Where a clone's fleets are, unless the operator names another directory.
pub(crate) fn fleets(paths: &Paths) -> PathBuf {
    paths.build().join("rehearse/fleets")
}

/// Sweeps every fleet of a clone whose keeper is gone. Says how many there were.
pub(crate) fn sweep_dead(paths: &Paths) -> Result<usize> {
    let fleets = &fleets(paths);
    let entries = match fs::read_dir(fleets) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.with_context(|| format!("reading {}", Paths::shown(fleets)))?,
    };
    let mut swept = 0;
    for entry in entries {
        let layout = Layout::new(&entry.with_context(|| format!("reading {}", Paths::shown(fleets)))?.path())?;
        if layout.is_fleet() && !layout.is_held()? {
            // One that was taken since we looked is alive again.
            if let Ok(claim) = layout.claim() {
                sweep(claim)?;
                swept += 1;
            }
        }
    }
    Ok(swept)
}
