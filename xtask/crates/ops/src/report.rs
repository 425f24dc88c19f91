//! What a run did to each file, and why: the lines a verb prints.

use std::path::{Path, PathBuf};

use crate::paths::Paths;

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Made,
    /// It took the place of another.
    Renewed,
    /// It is as it was.
    Kept,
}

/// One file, or a pair of files that belong together.
#[derive(Clone, Debug)]
pub(crate) struct FileReport {
    pub path: PathBuf,
    pub outcome: Outcome,
    pub why: String,
}

/// What a run did, in order.
#[derive(Default, Debug)]
pub struct Report {
    files: Vec<FileReport>,
    /// What the operator should know besides.
    pub notes: Vec<String>,
}

impl Report {
    /// Notes what happened to `path`.
    pub fn push(&mut self, path: &Path, outcome: Outcome, why: impl Into<String>) {
        self.files.push(FileReport { path: path.to_path_buf(), outcome, why: why.into() });
    }

    /// What was made or renewed.
    pub fn changed_files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter(|file| file.outcome != Outcome::Kept).map(|file| file.path.as_path())
    }

    /// Whether anything was written.
    pub fn changed(&self) -> bool {
        self.files.iter().any(|f| f.outcome != Outcome::Kept)
    }

    /// Prints a line a file.
    pub fn print(&self) {
        for file in &self.files {
            let word = match file.outcome {
                Outcome::Made => "made",
                Outcome::Renewed => "renewed",
                Outcome::Kept => "kept",
            };
            let why = if file.why.is_empty() { String::new() } else { format!("  ({})", file.why) };
            outln!("{word:<8} {}{why}", Paths::shown(&file.path));
        }
        for note in &self.notes {
            outln!("note: {note}");
        }
    }
}
