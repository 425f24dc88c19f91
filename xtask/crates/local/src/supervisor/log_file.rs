//! A log that cannot fill the disk: it is turned over once it is big, and one old generation is kept.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Turned over at this size.
pub(super) const MOST_BYTES: u64 = 10 * 1024 * 1024;
/// Lines that are remembered, to say why a daemon ended.
const REMEMBERED: usize = 12;

/// One node's log.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    most: u64,
    file: Option<(File, u64)>,
    last: VecDeque<String>,
}

impl LogFile {
    /// A log at `path`; what is there is kept.
    pub(super) fn new(path: PathBuf, most: u64) -> Self {
        Self { path, most, file: None, last: VecDeque::new() }
    }

    /// Appends a line, which has its end already.
    pub(super) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(String::from_utf8_lossy(line).trim_end().to_owned());
        let (mut file, mut size) = match self.file.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if size > 0 && size.saturating_add(length(line)) > self.most {
            fs::rename(&self.path, self.path.with_extension("1"))?;
            (file, size) = self.open()?;
        }
        file.write_all(line)?;
        self.file = Some((file, size.saturating_add(length(line))));
        Ok(())
    }

    /// The last lines since [`LogFile::forget`].
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }

    /// Begins a new life of the daemon.
    pub(super) fn forget(&mut self) {
        self.last.clear();
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }
}

fn length(line: &[u8]) -> u64 {
    u64::try_from(line.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_keeps_one_old_generation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::new(path.clone(), 25);
        for number in 0..7 {
            log.line(format!("line {number}\n").as_bytes()).unwrap();
        }
        let (now, old) = (fs::read_to_string(&path).unwrap(), fs::read_to_string(dir.path().join("log.1")).unwrap());
        // Another process' end does not lose what was written.
        LogFile::new(path.clone(), 25).line(b"more\n").unwrap();
        let appended = fs::read_to_string(&path).unwrap();
        assert_eq!(now, "line 6\n");
        assert_eq!(old, "line 3\nline 4\nline 5\n");
        assert_eq!(appended, "line 6\nmore\n");
        assert_eq!(log.last_lines().len(), 7);
        assert_eq!(log.last_lines().last().unwrap(), "line 6");
    }
}
