//! Whether this host can carry machines: everything that stands in the way, at once.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use unibus_ops::exit::BadInput;
use unibus_ops::machine_host::obstacles;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::{self, Consent, Missing, Verb};
use unibus_ops::ui::Progress;

/// Where programs are looked for, here and by everything that a fleet starts.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Inotify instances of one machine: systemd has five, and the bus and the logins one each.
const WATCHERS: usize = 7;

/// Fails where machines cannot be booted, with everything that stands in the way; else brings the packages that are missing.
pub(crate) fn check(paths: &Paths, consent: Consent, progress: &Progress) -> Result<()> {
    let obstacles = obstacles();
    if obstacles.is_empty() {
        return prerequisites::ensure(paths, &[Verb::Rehearse], consent, progress);
    }
    let missing = Missing::of(prerequisites::look_for(paths, &[Verb::Rehearse])).by_hand();
    let packages = missing.map(|command| format!("packages are missing: {command}"));
    let lines: Vec<String> = obstacles.into_iter().chain(packages).collect();
    Err(BadInput::new(format!("this host cannot carry machines; nothing was changed:\n  {}", lines.join("\n  "))))
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

/// Memory of one machine, with an engine that is in use, and a bit of what the host needs for itself.
const MEMORY: u64 = 512 << 20;

/// Whether so many machines can run at the same time as far as this host says. Where it says nothing they can.
pub(crate) fn has_room_for(machines: usize) -> bool {
    let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = told.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok());
    let wanted = u64::try_from(machines).map_or(u64::MAX, |machines| machines.saturating_mul(MEMORY));
    room_for(machines).is_ok() && kib.is_none_or(|kib: u64| kib.saturating_mul(1024) >= wanted)
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
