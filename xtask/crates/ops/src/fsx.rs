//! Files written whole or not at all, and private files that only their owner may read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, anyhow};
use rustix::fs::OFlags;
use unibus_names::private::{self, Exposure, Inode, Reader};

use crate::exit::BadInput;
use crate::paths::Paths;

/// Mode of a private key or another secret.
pub const PRIVATE: u32 = 0o600;
/// Mode of what anyone may read.
pub const PUBLIC: u32 = 0o644;

/// Files to be written together. Nothing is in place before all of them are safely on disk, so a full disk
/// or a refused directory changes nothing.
#[derive(Default, Debug)]
pub struct Batch {
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

impl Batch {
    /// Adds a file; a later one of the same path wins.
    pub fn put(&mut self, path: &Path, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.files.insert(path.to_path_buf(), (mode, bytes.into()));
    }

    /// The file as it will be: what this batch writes, else what is on disk, else nothing.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match self.files.get(path) {
            Some((_, bytes)) => Ok(Some(bytes.clone())),
            None => read(path),
        }
    }

    /// Like [`Batch::read`] for a secret: one on disk must be readable by its owner only.
    pub(crate) fn read_private(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        match self.files.get(path) {
            Some((_, bytes)) => Ok(Some(bytes.clone())),
            None => read_private(path),
        }
    }

    /// Writes everything, or nothing.
    pub fn commit(self) -> Result<()> {
        let mut staged = Staged::default();
        for (path, (mode, bytes)) in &self.files {
            staged.add(path, *mode, bytes).with_context(|| format!("writing {}", Paths::shown(path)))?;
        }
        staged.finish()
    }
}

/// Writes one file atomically: nobody ever sees half of it, nor a secret with too wide a mode.
pub fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut batch = Batch::default();
    batch.put(path, mode, bytes);
    batch.commit()
}

/// A file's content, or nothing if there is no such file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", Paths::shown(path))),
    }
}

/// A secret's content, or nothing if there is no such file. Refused if anyone but its owner may read or replace it.
pub fn read_private(path: &Path) -> Result<Option<Vec<u8>>> {
    let shown = Paths::shown(path);
    // A pipe without a writer would be waited for.
    let at_once = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = match OpenOptions::new().read(true).custom_flags(at_once).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {shown}")),
    };
    // Asked of the open file, not of the path, which might meanwhile name another one.
    let meta = file.metadata().with_context(|| format!("reading {shown}"))?;
    let directory = parent(path);
    let around = fs::metadata(directory).with_context(|| format!("looking at {}", Paths::shown(directory)))?;
    let own = rustix::process::geteuid().as_raw();
    let reader = Reader { user: own, group: rustix::process::getegid().as_raw() };
    let refused = match private::judge(inode(&meta), inode(&around), reader) {
        Ok(()) => None,
        Err(Exposure::NoFile) => Some("is not a regular file: put the file itself in its place".to_owned()),
        Err(Exposure::Foreign(owner)) => Some(format!(
            "is secret, but belongs to user {owner}, who can read and replace it; if it is yours, run: chown {own} {shown}"
        )),
        Err(Exposure::Directory(mode)) => {
            let directory = Paths::shown(directory);
            Some(format!(
                "is secret, but the mode {mode:04o} of {directory} lets others put another file in its place; run: \
                 chmod go-w {directory}"
            ))
        }
        Err(Exposure::Open(mode)) => Some(format!(
            "is secret, but its mode {mode:04o} lets others have it; if only you have read it, run: chmod 600 {shown}"
        )),
    };
    if let Some(refused) = refused {
        return Err(BadInput::new(format!("{shown} {refused}")));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).with_context(|| format!("reading {shown}"))?;
    Ok(Some(bytes))
}

fn inode(of: &Metadata) -> Inode {
    Inode { is_file: of.is_file(), owner: of.uid(), group: of.gid(), mode: of.mode() & 0o7777 }
}

/// Written beside their places, not yet in them. Whatever is left when this is dropped is removed again.
#[derive(Default)]
struct Staged {
    files: Vec<(PathBuf, PathBuf)>,
    made_dirs: Vec<PathBuf>,
}

impl Staged {
    fn add(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let dir = parent(path);
        self.make_dirs(dir)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let temporary = dir.join(format!(".{}.{}.tmp", name.to_string_lossy(), process::id()));
        // Of a process that died with our number; the next line must create it, with its mode from the first byte.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        self.files.push((temporary, path.to_path_buf()));
        file.write_all(bytes)?;
        // The umask may have taken bits away that a public file should have.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()
    }

    fn make_dirs(&mut self, dir: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            DirBuilder::new().mode(0o700).create(dir)?;
            self.made_dirs.push(dir.to_path_buf());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let mut dirs: BTreeSet<PathBuf> = self.made_dirs.drain(..).map(|dir| parent(&dir).to_path_buf()).collect();
        let mut files = self.files.drain(..);
        let mut failed = None;
        for (temporary, path) in files.by_ref() {
            if let Err(error) = fs::rename(&temporary, &path) {
                failed = Some((temporary, path, error));
                break;
            }
            dirs.insert(parent(&path).to_path_buf());
        }
        if let Some((temporary, path, error)) = failed {
            let rest: Vec<_> = std::iter::once((temporary, path.clone())).chain(files).collect();
            self.files = rest;
            return Err(anyhow!(error)).with_context(|| format!("writing {}", Paths::shown(&path)));
        }
        drop(files);
        for dir in dirs {
            File::open(&dir)
                .and_then(|dir| dir.sync_all())
                .with_context(|| format!("syncing {}", Paths::shown(&dir)))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Best effort: the error that brought us here is the one to report.
        for (temporary, _) in &self.files {
            let _ = fs::remove_file(temporary);
        }
        for dir in self.made_dirs.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_batch_is_written_with_its_modes_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("x/y/a.key"), dir.path().join("a.crt"));
        let mut batch = Batch::default();
        batch.put(&key, PRIVATE, "k");
        batch.put(&cert, PUBLIC, "old");
        batch.put(&cert, PUBLIC, "c");
        assert_eq!(batch.read(&cert).unwrap().unwrap(), b"c");
        assert!(!key.exists());
        batch.commit().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&key), mode(&cert), mode(&dir.path().join("x"))), (0o600, 0o644, 0o700));
        assert_eq!(names(dir.path()), ["a.crt", "x"]);
        assert_eq!(read_private(&key).unwrap().unwrap(), b"k");
        assert!(read_private(&cert).unwrap_err().to_string().contains("chmod 600"));
        assert_eq!(read_private(&dir.path().join("none")).unwrap(), None);
    }

    #[test]
    fn one_file_that_cannot_be_written_stops_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "in the way").unwrap();
        let mut batch = Batch::default();
        batch.put(&dir.path().join("a"), PRIVATE, "a");
        batch.put(&dir.path().join("b/c/d"), PRIVATE, "d");
        // A directory cannot be made below a file.
        batch.put(&dir.path().join("file/z"), PRIVATE, "z");
        let error = batch.commit().unwrap_err().to_string();
        assert!(error.contains("file/z"), "{error}");
        assert_eq!(names(dir.path()), ["file"]);
    }

    #[test]
    fn a_replaced_file_takes_the_mode_it_should_have() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.key");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        write(&file, PRIVATE, b"new").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(read_private(&file).unwrap().unwrap(), b"new");
    }
}
