//! What the holder sees of this host's files: all of it, but for a few places of its own.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::layout::Layout;

/// Where cgroups are seen within the fleet, its own as the root.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// Makes the places that are private to the fleet. The mounts of the namespace do not propagate: none is seen outside.
pub(super) fn private(layout: &Layout) -> Result<()> {
    // The host's systemd and its machines are none of ours; `ip` keeps its namespaces there, and ssh the connections
    // that are shared: they end with the fleet.
    tmpfs("/run", "mode=0755")?;
    // A cgroup2 straight over a cgroup2 is refused on a host that has nothing else.
    tmpfs(CGROUPS, "mode=0755")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("cgroup2", CGROUPS, "cgroup2", flags, None).with_context(|| format!("mounting cgroup2 on {CGROUPS}"))?;
    mount_bind(layout.passwd(), "/etc/passwd").context("giving root another home in /etc/passwd")
}

/// A disk that begins as `base` and keeps what is written to it in `dir`.
pub(super) fn disk(base: &Path, dir: &Path) -> Result<()> {
    let part = |name: &str| -> Result<String> {
        let path = dir.join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path.display().to_string())
    };
    let (upper, work, root) = (part("disk")?, part("work")?, part("root")?);
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", base.display());
    let options = CString::new(options).context("a path with a zero byte")?;
    mount("overlay", root.as_str(), "overlay", MountFlags::empty(), options.as_c_str()).with_context(|| {
        format!("mounting an overlay on {root} (it needs a directory on a real file system, not on another overlay)")
    })
}

/// Takes the disk in `dir` away with all that was written to it. Nothing runs on it any more.
pub(super) fn no_disk(dir: &Path) -> Result<()> {
    let root = dir.join("root");
    unmount(&root, UnmountFlags::DETACH).with_context(|| format!("unmounting {}", root.display()))?;
    for name in ["disk", "work"] {
        let path = dir.join(name);
        fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

fn tmpfs(place: &str, options: &str) -> Result<()> {
    let options = CString::new(options).map_err(io::Error::from)?;
    mount("tmpfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .with_context(|| format!("mounting a tmpfs on {place}"))
}
