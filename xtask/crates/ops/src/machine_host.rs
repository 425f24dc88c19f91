//! Whether this host can boot machines in namespaces of its own, as far as no package helps.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::exit::BadInput;
use crate::process::bounded;

const WITHIN: Duration = Duration::from_secs(10);

/// What no package mends: why this process cannot boot machines here. Empty where it can.
pub fn obstacles() -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return vec![
            "you are not root, and machines need mounts and networks of their own: run it with sudo".to_owned(),
        ];
    }
    let mut obstacles: Vec<String> = cgroup_mount().err().map(|error| error.to_string()).into_iter().collect();
    let mut probe = Command::new("unshare");
    probe.args(["--mount", "--net", "--pid", "--fork", "mount", "--make-rprivate", "/"]);
    match bounded(probe, b"", WITHIN) {
        Ok(output) if output.ok() => {}
        // Absent in no Debian; its package is in the table.
        Err(_) => {}
        Ok(output) => obstacles.push(format!("namespaces cannot be made here ({})", output.reason())),
    }
    obstacles
}

/// Where the hierarchy of version 2 is mounted; several controllers may still be with version 1.
pub fn cgroup_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    of_version_2(&mounts).ok_or_else(|| {
        BadInput::new("no cgroup2 is mounted on this host, and machines are powered off by it: mount -t cgroup2 none /sys/fs/cgroup")
    })
}

fn of_version_2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().map(|line| line.split(' ')).find_map(|mut fields| {
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_also_beside_version_1() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(of_version_2(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(of_version_2("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(of_version_2("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
    }
}
