//! Files that only their owner may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a private file was refused or could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others than the owner may read or change it.
    #[error("{path} has mode {mode:04o}: others can read or change it; run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads a file that must not be open to group or others.
pub fn read(path: &Path) -> Result<String, PrivateFileError> {
    let fail = |source| PrivateFileError::Io { doing: "cannot read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PrivateFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

/// Writes a file with mode 0600 from the first byte; `path` either keeps its old content or has all of the new.
pub fn write(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let temporary = sibling(path, "tmp");
    // A leftover of an earlier crash; never somebody else's file, since the directory is ours.
    let _ = std::fs::remove_file(&temporary);
    let written = create(&temporary, content)
        .and_then(|()| {
            std::fs::rename(&temporary, path).map_err(|source| PrivateFileError::Io {
                doing: "cannot put in place",
                path: path.to_owned(),
                source,
            })
        })
        .and_then(|()| sync_directory(path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Makes a file with mode 0600 from the first byte; fails where `path` exists.
pub fn create(path: &Path, content: &[u8]) -> Result<(), PrivateFileError> {
    let fail = |source| PrivateFileError::Io { doing: "cannot write", path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| {
        let _ = std::fs::remove_file(path);
        fail(e)
    })
}

fn sync_directory(path: &Path) -> Result<(), PrivateFileError> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(|source| PrivateFileError::Io {
        doing: "cannot sync",
        path: directory.to_owned(),
        source,
    })
}

/// `path` with `.suffix` appended to its file name.
pub fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}
