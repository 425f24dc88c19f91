//! How a node is reached: a process here, or ssh. Verbs see this trait and nothing else of a machine.

mod local;
mod process;
mod ssh;

use std::fmt;
use std::time::Duration;

pub(crate) use local::Local;
pub(crate) use process::bounded;
pub(crate) use ssh::Ssh;

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

/// Reaches the nodes of one cluster. Everything happens in the node's install directory.
pub(crate) trait Transport: Sync {
    /// Runs a command on `node`. Secrets belong in `stdin`, never in `argv`.
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure>;

    /// Puts a whole file in place, with its mode from the first byte; a file that is there is replaced.
    fn put_file(&self, node: &str, path: &str, bytes: &[u8], mode: u32) -> Result<(), Failure>;

    /// Where `node` is, as the plan of a dry run names it.
    fn place(&self, node: &str) -> String;
}
