//! How a node is reached: a process here, or ssh. Verbs see this trait and nothing else of a machine.

mod local;
mod process;
mod ssh;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use local::Local;
pub(crate) use process::bounded;
pub(crate) use ssh::{Ssh, make_control_dir, quote};

use crate::plan::Mode;

/// What a command on a node left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// The exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    /// Whether the command succeeded.
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The last thing it said, which is usually why.
    pub(crate) fn reason(&self) -> &str {
        self.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message")
    }
}

/// Why there is no [`Output`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The command did not begin: nothing was changed.
    Unreachable(String),
    /// The command may or may not have had its effect.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => f.write_str(why),
            Self::Unknown(why) => write!(f, "{why}; whether it had an effect is unknown"),
        }
    }
}

impl std::error::Error for Failure {}

/// One thing that is done on a node, as root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A command, in the root directory. Never a secret among its words.
    Run(Vec<String>),
    /// A command that is told something by standard input; no secret either.
    Feed { argv: Vec<String>, stdin: String },
    /// A whole file, with its mode from the first byte; one that is there is replaced.
    Put { path: String, owner: Option<String>, mode: Mode, content: String },
    /// Files that are sent if they differ.
    Sync(Files),
}

/// Files of this machine for one directory of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) from: Vec<PathBuf>,
    pub(crate) to: String,
    pub(crate) owner: String,
    pub(crate) mode: Mode,
    /// Only list what differs.
    pub(crate) dry: bool,
}

/// Reaches the nodes of one cluster.
pub(crate) trait Transport: Sync {
    /// Runs a command in the install directory of `node`. Secrets belong in `stdin`, never in `argv`.
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure>;

    /// Does one thing on `node`.
    fn call(&self, node: &str, call: &Call, within: Duration) -> Result<Output, Failure>;

    /// The very command that [`Transport::call`] starts here; none where it starts none.
    fn command(&self, node: &str, call: &Call) -> Result<Option<Vec<String>>, Failure>;

    /// Where `node` is, as the plan of a dry run names it.
    fn place(&self, node: &str) -> String;
}
