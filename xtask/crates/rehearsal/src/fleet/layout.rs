//! The layout of a fleet's scratch directory: the one place that knows its file names, and whose it is.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use ring::digest;

use super::cgroup;
use unibus_ops::exit::BadInput;
use unibus_ops::lock::{self, Lock};
use unibus_ops::paths::Paths;

/// Says that a directory is a fleet's, and in which cgroup; its keeper holds the lock on it.
const MARKER: &str = "unibus-fleet";
/// Bytes of the hash in a cgroup's name.
const HASHED: usize = 6;

/// How long somebody may hold a directory who took it, in the moment in which it was made, for one that is left over.
const SWEEPER: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);

/// A fleet's scratch directory. Everything in it goes when the fleet goes.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// A directory that is ours as long as this value lives.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) layout: Layout,
    /// A fleet was here and is dead.
    pub(super) left_over: bool,
    _lock: Lock,
}

impl Layout {
    /// The directory `dir`, whether there is a fleet in it or not.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir).with_context(|| format!("finding {}", dir.display()))?;
        // One name however it was typed, and whatever of it is there yet: the cgroup's name is made from it.
        let there = dir.ancestors().skip(1).find_map(|above| Some((fs::canonicalize(above).ok()?, above)));
        let dir = match there.map(|(real, above)| dir.strip_prefix(above).map(|below| real.join(below))) {
            Some(Ok(dir)) => dir,
            _ => dir,
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte);
        if !dir.to_str().is_some_and(|dir| dir.bytes().all(fits)) {
            return Err(BadInput::new(format!(
                "a fleet cannot live in {}: mount and ssh read its path, which must be of letters, digits and / . _ - + @",
                dir.display()
            )));
        }
        Ok(Self { dir })
    }

    /// The directory itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The operator's topology with the addresses of the machines.
    pub(crate) fn topology(&self) -> PathBuf {
        self.dir.join("nodes.toml")
    }

    /// The clone that is rehearsed in.
    pub(crate) fn clone_dir(&self) -> PathBuf {
        self.dir.join("clone")
    }

    /// The program that runs the fleet: cargo may put another one in its place meanwhile.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.join("unibus-rehearsal")
    }

    /// The program with the operator's verbs, for the same reason a copy.
    pub(crate) fn xtask(&self) -> PathBuf {
        self.dir.join("xtask")
    }

    /// Copies the operator's program to its place.
    pub(crate) fn keep_xtask(&self, from: &Path) -> Result<()> {
        fs::copy(from, self.xtask()).map(drop).with_context(|| format!("copying {}", from.display()))
    }

    /// Home of the operator within the fleet, as ssh sees it.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// The key pair that every machine was made with.
    pub(super) fn host_key(&self, name: &str) -> PathBuf {
        self.dir.join("keys").join(name)
    }

    /// One machine's disk and console.
    pub(super) fn machine(&self, name: &str) -> PathBuf {
        self.dir.join("machines").join(name)
    }

    /// What a machine printed on its console.
    pub(super) fn console(&self, name: &str) -> PathBuf {
        self.machine(name).join("console.log")
    }

    /// What the holder has to say about itself.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("holder.log")
    }

    /// The name of the holder's socket, in the directory.
    pub(super) const SOCKET: &'static str = "holder.sock";

    /// The file that takes the place of /etc/passwd within the fleet.
    pub(super) fn passwd(&self) -> PathBuf {
        self.dir.join("passwd")
    }

    /// The fleet's cgroup: from the path alone, so that it can be found when the directory is gone.
    pub(super) fn cgroup_name(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.dir.as_os_str().as_encoded_bytes());
        cgroup::name(&HEXLOWER.encode(hash.as_ref().get(..HASHED).unwrap_or_default()))
    }

    /// Whether somebody, most likely its keeper, holds this directory now.
    pub(super) fn is_held(&self) -> Result<bool> {
        match File::open(self.marker()) {
            Ok(marker) => lock::is_held(marker).with_context(|| format!("locking {}", Paths::shown(&self.marker()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("opening {}", Paths::shown(&self.marker()))),
        }
    }

    /// Whether a fleet is or was in this directory.
    pub(super) fn is_fleet(&self) -> bool {
        self.marker().is_file()
    }

    /// Takes the directory, which is made if it is not there. Refuses one that is not a fleet's, and one in use.
    pub(super) fn claim(self) -> Result<Claim> {
        let shown = Paths::shown(&self.dir);
        let patience = Instant::now() + SWEEPER;
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.dir)
                .with_context(|| format!("making {shown}"))?;
            let empty = fs::read_dir(&self.dir).with_context(|| format!("reading {shown}"))?.next().is_none();
            if !empty && !self.is_fleet() {
                // Whatever lies in a fleet's directory is removed with it.
                return Err(BadInput::new(format!(
                    "{shown} holds other things; name a directory that is not there yet"
                )));
            }
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.marker());
            let marker = match opened {
                // Somebody swept it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.with_context(|| format!("opening {}", Paths::shown(&self.marker())))?,
            };
            let Some(mut lock) = Lock::try_take(marker).with_context(|| format!("locking {shown}"))? else {
                if Instant::now() < patience {
                    thread::sleep(LOOK);
                    continue;
                }
                return Err(BadInput::new(format!(
                    "there is a fleet in {shown} already; take it down: cargo xtask fleet --dir {shown} down"
                )));
            };
            let marker = lock.file();
            let same = |meta: fs::Metadata| marker.metadata().is_ok_and(|ours| ours.ino() == meta.ino());
            if !fs::metadata(self.marker()).is_ok_and(same) {
                continue;
            }
            let mut was = String::new();
            marker.read_to_string(&mut was).with_context(|| format!("reading {}", Paths::shown(&self.marker())))?;
            marker
                .rewind()
                .and_then(|()| marker.set_len(0))
                .and_then(|()| writeln!(marker, "{}", self.cgroup_name()))
                .with_context(|| format!("writing {}", Paths::shown(&self.marker())))?;
            return Ok(Claim { layout: self, left_over: !was.is_empty(), _lock: lock });
        }
    }

    fn marker(&self) -> PathBuf {
        self.dir.join(MARKER)
    }
}

impl Claim {
    /// Removes everything in the directory but the claim to it.
    pub(super) fn empty(&self) -> Result<()> {
        let dir = self.layout.dir();
        let shown = Paths::shown(dir);
        for entry in fs::read_dir(dir).with_context(|| format!("reading {shown}"))? {
            let entry = entry.with_context(|| format!("reading {shown}"))?;
            if entry.file_name() != MARKER {
                let path = entry.path();
                let removed = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                removed.with_context(|| format!("removing {}", Paths::shown(&path)))?;
            }
        }
        Ok(())
    }

    /// Removes the directory itself; whoever waits for the lock finds it gone.
    pub(super) fn remove(self) -> Result<()> {
        self.empty()?;
        let dir = self.layout.dir();
        match fs::remove_file(self.layout.marker()).and_then(|()| fs::remove_dir(dir)) {
            // Whoever waited for the lock does the rest of it too.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", Paths::shown(dir)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_fleets_is_never_taken() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::write(dir.join("thesis"), "precious").unwrap();
        let error = Layout::new(dir).unwrap().claim().unwrap_err();
        assert!(error.to_string().contains("holds other things"), "{error}");
        assert!(dir.join("thesis").exists());
    }

    #[test]
    fn a_fleet_has_one_name_before_and_after_its_directory_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir_all(dir.join("cache")).unwrap();
        std::os::unix::fs::symlink(dir.join("cache"), dir.join("link")).unwrap();
        let fleet = dir.join("link/fleets/one");
        let before = Layout::new(&fleet).unwrap();
        fs::create_dir_all(fleet.parent().unwrap()).unwrap();
        let after = Layout::new(&fleet).unwrap();
        assert_eq!((before.dir(), before.cgroup_name()), (after.dir(), after.cgroup_name()));
        assert_eq!(after.dir(), dir.canonicalize().unwrap().join("cache/fleets/one"));
    }

    #[test]
    fn a_directory_is_claimed_once_and_removed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("fleet");
        let layout = Layout::new(&dir).unwrap();
        let claim = layout.clone().claim().unwrap();
        assert!(!claim.left_over && layout.is_held().unwrap());
        let error = layout.clone().claim().unwrap_err();
        assert!(error.to_string().contains("down"), "{error}");
        drop(claim);
        assert!(!layout.is_held().unwrap());
        let claim = layout.clone().claim().unwrap();
        assert!(claim.left_over);
        fs::create_dir_all(dir.join("machines/magnus")).unwrap();
        claim.remove().unwrap();
        assert!(!dir.exists() && !layout.is_fleet());
    }

    #[test]
    fn paths_that_mount_would_misread_are_refused() {
        for dir in ["/tmp/a:b", "/tmp/a,b", "/tmp/a b", "/tmp/a%b", "/tmp/a\\b"] {
            Layout::new(Path::new(dir)).unwrap_err();
        }
    }
}
