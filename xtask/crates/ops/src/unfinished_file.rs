//! A new private file that is there only when it is whole: until then it has no name, or, where the file system cannot do that, one
//! that goes with the process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::exit::BadInput;
use crate::fsx::PRIVATE;
use crate::paths::Paths;

/// A file that is being written, mode 0600 from the first byte. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub struct UnfinishedFile {
    path: PathBuf,
    file: File,
    /// Its name until it is whole; none: it has none.
    named: Option<PathBuf>,
}

impl UnfinishedFile {
    /// Begins a file that is to be at `path`, where nothing may be yet.
    pub fn create(path: &Path) -> Result<Self> {
        check_free(path)?;
        let path = path.to_path_buf();
        if let Some(file) = unnamed(&path) {
            return Ok(Self { path, file, named: None });
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let named = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let shown = || format!("writing {}", Paths::shown(&named));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE).open(&named);
        let file = file.with_context(shown)?;
        remove_on_signal(named.clone()).with_context(shown)?;
        Ok(Self { path, file, named: Some(named) })
    }

    /// The file, to be written and read.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Syncs it and puts it in its place. What has come there meanwhile stays.
    pub fn finish(self) -> Result<()> {
        let shown = || format!("writing {}", Paths::shown(&self.path));
        self.file.sync_all().with_context(shown)?;
        let put = match &self.named {
            Some(named) => fs::hard_link(named, &self.path),
            None => give_name(&self.file, &self.path),
        };
        match put {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken(&self.path)),
            put => put.with_context(shown),
        }?;
        let directory = File::open(directory_of(&self.path)).with_context(shown)?;
        directory.sync_all().with_context(shown)
    }
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        if let Some(named) = &self.named {
            let _ = fs::remove_file(named);
        }
    }
}

/// Refuses a path at which something is.
pub fn check_free(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() { Err(taken(path)) } else { Ok(()) }
}

fn taken(path: &Path) -> anyhow::Error {
    BadInput::new(format!("{} is there already: name another file", Paths::shown(path)))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file without a name in the directory of `path`, which the kernel removes however this process ends.
#[cfg(target_os = "linux")]
fn unnamed(path: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open(directory_of(path), flags, Mode::RUSR | Mode::WUSR).ok().map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn unnamed(_: &Path) -> Option<File> {
    None
}

#[cfg(target_os = "linux")]
fn give_name(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    use std::os::fd::AsRawFd;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, from, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn give_name(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Removes the file when this process is ended by a signal that can be heard, which then ends it.
fn remove_on_signal(named: PathBuf) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = fs::remove_file(&named);
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn file_is_there_when_it_is_finished_private_and_never_in_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup.db");
        let count = || fs::read_dir(dir.path()).unwrap().count();
        let unfinished = UnfinishedFile::create(&path).unwrap();
        unfinished.file().write_all(b"copy").unwrap();
        assert!(!path.exists());
        drop(unfinished);
        assert_eq!(count(), 0, "what is not finished leaves nothing");
        let (one, two) = (UnfinishedFile::create(&path).unwrap(), UnfinishedFile::create(&path).unwrap());
        one.file().write_all(b"copy").unwrap();
        one.finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert!(two.finish().unwrap_err().to_string().contains("is there already"));
        assert!(UnfinishedFile::create(&path).unwrap_err().to_string().contains("is there already"));
        assert_eq!((fs::read(&path).unwrap(), count()), (b"copy".to_vec(), 1));
        UnfinishedFile::create(&dir.path().join("no/copy")).unwrap_err();
    }
}
