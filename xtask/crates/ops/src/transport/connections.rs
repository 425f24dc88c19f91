//! The directory in which ssh keeps the sockets of the connections that it shares.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::lock::Lock;
use crate::process::{Failure, bounded};

/// ssh answers from its own memory.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Held by each run that uses connections. The last run to end closes the connections and removes the directory.
#[derive(Debug)]
pub(super) struct Connections {
    dir: String,
    held: Option<Lock>,
}

impl Connections {
    /// Makes the directory unless it is there. Who can write in it can use the operator's connections, so it must belong
    /// to the operator alone.
    pub(super) fn hold() -> Result<Self, Failure> {
        Self::hold_in(directory())
    }

    fn hold_in(dir: String) -> Result<Self, Failure> {
        let at = |what: &str, error: io::Error| {
            Failure::Unreachable(format!("{what} {dir} for the connections of ssh: {error}"))
        };
        loop {
            match DirBuilder::new().mode(0o700).create(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at("making", error)),
                _ => {}
            }
            let file = match open_private(&dir) {
                // Another run has just ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Failure::Unreachable(format!(
                        "{dir} should be a private directory of yours and is not; find out whose it is"
                    )));
                }
                other => other.map_err(|error| at("opening", error))?,
            };
            let opened = file.metadata().map_err(|error| at("looking at", error))?.ino();
            let held = Lock::share(file).map_err(|error| at("locking", error))?;
            // From here on no run removes it, and another user could not: it is the one that was opened as private.
            if fs::symlink_metadata(&dir).is_ok_and(|now| now.ino() == opened) {
                return Ok(Self { dir, held: Some(held) });
            }
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        drop(self.held.take());
        // What stays behind because something fails here ends by itself, and the next run removes it.
        let Ok(Some(_alone)) = open_private(&self.dir).and_then(Lock::try_take) else { return };
        for socket in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let mut end = Command::new("ssh");
            end.args(["-O", "exit", "-S"]).arg(socket.path()).args(["--", "any"]);
            let _ = bounded(end, b"", ENDS_WITHIN);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Short, because the path of a socket is limited to about a hundred bytes, and the same for every run in one network: in
/// another one, such as a rehearsal's, the same address is another machine.
pub(super) fn directory() -> String {
    let network = fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let number: String = network.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let user = rustix::process::getuid();
    let own = format!("/run/user/{}", user.as_raw());
    let parent = if user.is_root() && Path::new("/run").is_dir() {
        "/run"
    } else if fs::symlink_metadata(&own).is_ok_and(|meta| is_private(&meta)) {
        &own
    } else {
        "/tmp"
    };
    format!("{parent}/unibus-ssh-{}-{number}", user.as_raw())
}

/// The directory, if it belongs to this user alone. What is judged is what was opened, and no link is followed: between two looks at
/// a name in a shared directory another user may put something in its place.
fn open_private(dir: &str) -> io::Result<File> {
    let no_link = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::open(dir, OFlags::RDONLY | no_link, Mode::empty()) {
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(io::ErrorKind::PermissionDenied.into()),
        opened => File::from(opened?),
    };
    if is_private(&file.metadata()?) { Ok(file) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn is_private(meta: &fs::Metadata) -> bool {
    meta.is_dir() && meta.uid() == rustix::process::getuid().as_raw() && meta.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use super::*;

    #[test]
    fn the_last_run_removes_it_and_a_new_one_makes_it_again() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("ssh").display().to_string();
        let hold = || Connections::hold_in(dir.clone()).unwrap();
        let (first, second) = (hold(), hold());
        drop(first);
        assert!(Path::new(&dir).is_dir(), "another run uses it");
        drop(second);
        assert!(!Path::new(&dir).exists());
        // A run that begins while another one ends has a directory that is there.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let held = hold();
                        assert!(Path::new(&dir).is_dir());
                        drop(held);
                    }
                });
            }
        });
        assert!(!Path::new(&dir).exists());
    }

    #[test]
    fn what_is_no_directory_of_the_user_alone_is_not_used() {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| scratch.path().join(name);
        // A link to a directory that is private is refused as well: whoever made it can turn it to another one.
        fs::create_dir(at("own")).unwrap();
        fs::set_permissions(at("own"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(at("own"), at("link")).unwrap();
        fs::write(at("file"), "").unwrap();
        for dir in [scratch.path().to_owned(), at("link"), at("file")] {
            let failure = Connections::hold_in(dir.display().to_string()).unwrap_err();
            assert!(failure.to_string().contains("private directory"), "{}: {failure}", dir.display());
        }
        Connections::hold_in(at("own").display().to_string()).unwrap();
    }
}
