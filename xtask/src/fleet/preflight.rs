//! Whether this host can carry machines; all that is missing is said at once, with the command that puts it right.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cgroup;
use crate::exit::BadInput;

/// Where programs are looked for, here and by everything that a fleet starts.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every fleet needs: a program, and the Debian package it is in.
const PROGRAMS: [(&str, &str); 8] = [
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("rsync", "rsync"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Inotify instances of one machine: systemd has five, and the bus and the logins one each.
const WATCHERS: usize = 7;

/// What making or unpacking the base tree takes.
const FOR_BASE: [(&str, &str); 3] = [("mmdebstrap", "mmdebstrap"), ("zstd", "zstd"), ("tar", "tar")];

/// Fails with everything that stands in the way.
pub(crate) fn check(base_is_there: bool) -> Result<()> {
    let mut obstacles = obstacles(rustix::process::geteuid().is_root(), base_is_there, is_there);
    obstacles.extend(cgroup::mounted().err().map(|error| error.to_string()));
    if obstacles.is_empty() {
        return Ok(());
    }
    Err(BadInput::new(format!("this host cannot carry machines; nothing was changed:\n  {}", obstacles.join("\n  "))))
}

fn obstacles(root: bool, base_is_there: bool, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut obstacles = Vec::new();
    if !root {
        obstacles
            .push("you are not root, and machines need mounts and networks of their own: run it with sudo".to_owned());
    }
    let programs = PROGRAMS.iter().chain(FOR_BASE.iter().filter(|_| !base_is_there));
    let packages: BTreeSet<&str> =
        programs.filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if !packages.is_empty() {
        let packages: Vec<&str> = packages.into_iter().collect();
        obstacles.push(format!("programs are missing: apt-get install {}", packages.join(" ")));
    }
    obstacles
}

fn is_there(program: &str) -> bool {
    env::split_paths(PATH).any(|dir| dir.join(program).is_file())
}

/// Fails where so many machines more would hang while they boot: the kernel has given its last inotify instance away, and
/// systemd does not say that it misses one.
pub(super) fn room_for(machines: usize) -> Result<()> {
    let file = "/proc/sys/fs/inotify/max_user_instances";
    let text = fs::read_to_string(file).with_context(|| format!("reading {file}"))?;
    let most: usize = text.trim().parse().with_context(|| format!("reading {file}"))?;
    let (used, wanted) = (watchers(), machines * WATCHERS);
    if used + wanted <= most {
        return Ok(());
    }
    Err(BadInput::new(format!(
        "{machines} machines need {wanted} inotify instances; root may have {most} on this host, and {used} are in use. Take \
         other machines down, or allow more until the next reboot: sysctl fs.inotify.max_user_instances={}",
        (used + wanted) * 2
    )))
}

/// The inotify instances of root's processes; one that ends while we look is not counted.
fn watchers() -> usize {
    let of_root = |pid: &PathBuf| fs::metadata(pid).is_ok_and(|meta| meta.uid() == 0);
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let processes = entries(Path::new("/proc")).filter(of_root).collect::<Vec<_>>();
    let open = processes.iter().flat_map(|pid| entries(&pid.join("fd")));
    open.filter(|fd| fs::read_link(fd).is_ok_and(|to| to.as_os_str() == "anon_inode:inotify")).count()
}

/// The device that WireGuard in user space needs; some hosts do not have it.
pub(super) fn tun() -> Option<&'static Path> {
    Some(Path::new("/dev/net/tun")).filter(|device| device.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_said_at_once() {
        let bare = obstacles(false, false, |program| matches!(program, "tar" | "unshare" | "nsenter"));
        assert!(bare.iter().any(|line| line.contains("not root")), "{bare:?}");
        let install = "apt-get install iproute2 mmdebstrap nftables openssh-client rsync systemd-container zstd";
        assert!(bare.iter().any(|line| line.ends_with(install)), "{bare:?}");
        // What only the base tree needs is not asked for where it is there.
        assert_eq!(obstacles(true, true, |program| !matches!(program, "mmdebstrap" | "zstd")), Vec::<String>::new());
        assert_eq!(obstacles(true, false, |program| program != "zstd").len(), 1);
    }
}
