//! Nodes on this machine: each is a directory that looks like a server's install directory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Failure, Output, Transport, bounded};
use crate::fsx;
use crate::paths::Paths;

/// Reaches the nodes of a local cluster.
pub(crate) struct Local {
    nodes: PathBuf,
}

impl Local {
    /// Nodes below `nodes`, each by its name.
    pub(crate) fn new(nodes: impl Into<PathBuf>) -> Self {
        Self { nodes: nodes.into() }
    }

    fn dir(&self, node: &str) -> Result<PathBuf, Failure> {
        let dir = self.nodes.join(node);
        if dir.is_dir() {
            return Ok(dir);
        }
        Err(Failure::Unreachable(format!("there is no {}", Paths::shown(&dir))))
    }
}

impl Transport for Local {
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure> {
        let dir = self.dir(node)?;
        let [program, args @ ..] = argv else {
            return Err(Failure::Unreachable("no command was given".to_owned()));
        };
        // A relative program is the node's own, as it is on a server; the child's directory does not count for that.
        let program = if program.contains('/') { dir.join(program) } else { Path::new(program).to_path_buf() };
        let mut command = Command::new(program);
        command.args(args).current_dir(&dir);
        bounded(command, stdin, within)
    }

    fn put_file(&self, node: &str, path: &str, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        let file = self.dir(node)?.join(path);
        fsx::write(&file, mode, bytes).map_err(|error| Failure::Unreachable(format!("{error:#}")))
    }

    fn place(&self, node: &str) -> String {
        Paths::shown(&self.nodes.join(node))
    }
}
