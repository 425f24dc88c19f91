//! Where the daemon of this machine is: the one rule, for the daemon itself and for every verb that asks it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::local_files;
use crate::control::socket;

/// The runtime directory of a server, which systemd makes for the daemon's user.
const SERVER: &str = "/run/unibus";
/// Where a user who has no runtime directory runs a node: beside its store, so that a verb in the same directory finds it.
const BESIDE_THE_STORE: &str = local_files!("run");
/// Permission bits of the group and of others.
const OTHERS: u32 = 0o077;

/// Where the daemon is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Daemon {
    /// Directory of the control socket and of the engine's rendered configuration [env: UNIBUS_RUNTIME_DIR] [default: /run/unibus for
    /// root and the daemon's user on a server; else $XDG_RUNTIME_DIR/unibus, or local_files/run where that is not set]
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
}

impl Daemon {
    /// Whether the command line names the directory: then the daemon there is meant, whatever else the environment says.
    pub(super) fn is_named(&self) -> bool {
        self.runtime_dir.is_some()
    }

    /// The directory in which the daemon is asked: the one that was named, or the first usual one in which there is a socket.
    pub(super) fn runtime_dir(&self) -> PathBuf {
        self.named().unwrap_or_else(|| {
            let usual = usual(&Surroundings::here());
            let found = usual.iter().find(|dir| socket(dir).symlink_metadata().is_ok());
            found.or(usual.first()).cloned().unwrap_or_else(|| PathBuf::from(SERVER))
        })
    }

    /// The directory in which a daemon that starts now answers: the one that was named, or the first usual one.
    pub(super) fn own_runtime_dir(&self) -> PathBuf {
        let first = || usual(&Surroundings::here()).into_iter().next().unwrap_or_else(|| PathBuf::from(SERVER));
        self.named().unwrap_or_else(first)
    }

    fn named(&self) -> Option<PathBuf> {
        let told = || std::env::var_os("UNIBUS_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        self.runtime_dir.clone().or_else(told)
    }
}

/// Who runs this process, and which directories are its user's alone.
struct Surroundings {
    is_root: bool,
    /// `$XDG_RUNTIME_DIR`, where it is this user's alone, as it has to be (XDG Base Directory Specification). It may be another
    /// user's after `su`.
    xdg: Option<PathBuf>,
    /// Whether [`SERVER`] is this user's: systemd made it for the daemon.
    owns_server: bool,
}

impl Surroundings {
    fn here() -> Self {
        let own = rustix::process::geteuid();
        let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let xdg = xdg.filter(|dir| dir.is_absolute() && is_of(dir, own.as_raw(), true));
        Self { is_root: own.is_root(), xdg, owns_server: is_of(Path::new(SERVER), own.as_raw(), false) }
    }
}

fn is_of(dir: &Path, user: u32, alone: bool) -> bool {
    dir.metadata().is_ok_and(|found| found.is_dir() && found.uid() == user && !(alone && found.mode() & OTHERS != 0))
}

/// The usual directories, the first one first: a daemon takes the first, and a verb looks for a socket in each.
fn usual(here: &Surroundings) -> Vec<PathBuf> {
    if here.is_root {
        return vec![PathBuf::from(SERVER)];
    }
    let server = here.owns_server.then(|| PathBuf::from(SERVER));
    let xdg = here.xdg.as_ref().map(|xdg| xdg.join("unibus"));
    server.into_iter().chain(xdg).chain([PathBuf::from(BESIDE_THE_STORE)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_servers_user_have_the_servers_directory_and_another_user_one_of_their_own() {
        let first = |is_root, owns_server, xdg: Option<&str>| {
            let here = Surroundings { is_root, owns_server, xdg: xdg.map(PathBuf::from) };
            usual(&here).first().unwrap().display().to_string()
        };
        assert_eq!(first(true, true, Some("/run/user/0")), "/run/unibus");
        assert_eq!(first(true, false, None), "/run/unibus", "root makes it");
        assert_eq!(first(false, true, Some("/run/user/7")), "/run/unibus");
        assert_eq!(first(false, false, Some("/run/user/7")), "/run/user/7/unibus");
        assert_eq!(first(false, false, None), "local_files/run");
    }

    #[test]
    fn a_runtime_directory_of_another_user_or_open_to_others_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("unibus-xdg-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let own = rustix::process::geteuid().as_raw();
        for (mode, alone) in [(0o700, true), (0o755, false), (0o770, false)] {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_of(&dir, own, true), alone, "{mode:o}");
            assert!(!is_of(&dir, own + 1, true));
        }
        std::fs::remove_dir(&dir).unwrap();
        assert!(!is_of(&dir, own, true), "one that is not there");
    }
}
