//! Nodes on this machine: each is a directory that looks like a server's install directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Call, Transport};
use crate::fsx;
use crate::paths::Paths;
use crate::process::{Failure, Output, bounded, bounded_into};

/// Reaches the nodes of a local cluster.
pub struct Local {
    nodes: PathBuf,
}

impl Local {
    /// Nodes below `nodes`, each by its name.
    pub fn new(nodes: impl Into<PathBuf>) -> Self {
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

impl Local {
    fn started(&self, node: &str, argv: &[&str]) -> Result<Command, Failure> {
        let dir = self.dir(node)?;
        let [program, args @ ..] = argv else {
            return Err(Failure::Unreachable("no command was given".to_owned()));
        };
        // A relative program is the node's own, as it is on a server; the child's directory does not count for that.
        let program = if program.contains('/') { dir.join(program) } else { Path::new(program).to_path_buf() };
        let mut command = Command::new(program);
        command.args(args).current_dir(&dir);
        Ok(command)
    }
}

impl Transport for Local {
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure> {
        bounded(self.started(node, argv)?, stdin, within)
    }

    fn fetch(&self, node: &str, argv: &[&str], file: (&File, u64), within: Duration) -> Result<Output, Failure> {
        bounded_into(self.started(node, argv)?, file, within)
    }

    fn call(&self, node: &str, call: &Call, within: Duration) -> Result<Output, Failure> {
        match call {
            Call::Run(argv) => {
                let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
                self.run(node, &argv, b"", within)
            }
            Call::Feed { argv, stdin } => {
                let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
                self.run(node, &argv, stdin.as_bytes(), within)
            }
            // All of this cluster belongs to whoever runs it.
            Call::Put { path, mode, content, owner: _ } => {
                let file = self.dir(node)?.join(path);
                fsx::write(&file, mode.0, content.as_bytes())
                    .map_err(|error| Failure::Unreachable(format!("{error:#}")))?;
                Ok(Output { code: Some(0), stdout: Vec::new(), stderr: String::new() })
            }
            Call::Sync(files) => Err(Failure::Unreachable(format!("files for {} go to servers only", files.to))),
        }
    }

    fn command(&self, _: &str, call: &Call) -> Result<Option<Vec<String>>, Failure> {
        match call {
            Call::Run(argv) | Call::Feed { argv, .. } => Ok(Some(argv.clone())),
            Call::Put { .. } | Call::Sync(_) => Ok(None),
        }
    }

    fn relay(&self, node: &str, argv: &[&str]) -> Result<Vec<String>, Failure> {
        let dir = self.dir(node)?.display().to_string();
        Ok(["env", "-C", &dir].iter().chain(argv).map(|&word| word.to_owned()).collect())
    }

    fn place(&self, node: &str) -> String {
        Paths::shown(&self.nodes.join(node))
    }
}
