//! Where programs lie: on PATH, and where the system keeps its own.

use std::env;
use std::path::{Path, PathBuf};

/// The system's own directories, which are not on everybody's PATH.
pub(crate) const SYSTEM_DIRS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The program of that name, as a shell would find it.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The program of that name on PATH or among the system's own.
pub fn find(program: &str) -> Option<PathBuf> {
    on_path(program).or_else(|| SYSTEM_DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|file| file.is_file()))
}
