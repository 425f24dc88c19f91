//! How a node is reached: a process here, or ssh. Verbs see this trait and nothing else of a machine.

mod connections;
mod local;
mod shell;
mod ssh;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

pub use local::Local;
pub(crate) use ssh::is_ipv6;
pub use ssh::{Ssh, quote};

use serde::{Serialize, Serializer};

use crate::process::{Failure, Output};

/// One thing that is done on a node, as root.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant says what its fields are for")]
pub enum Call {
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
pub struct Files {
    pub(crate) from: Vec<PathBuf>,
    pub(crate) to: String,
    pub(crate) owner: String,
    pub(crate) mode: Mode,
}

/// Reaches the nodes of one cluster.
pub trait Transport: Send + Sync {
    /// Runs a command in the install directory of `node`. Secrets belong in `stdin`, never in `argv`.
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure>;

    /// Runs a command in the install directory of `node`, and writes what it prints to `file` as it comes, up to `most` bytes.
    fn fetch(&self, node: &str, _argv: &[&str], _file: (&File, u64), _within: Duration) -> Result<Output, Failure> {
        Err(Failure::Unreachable(format!("no file can be fetched from {node}")))
    }

    /// Does one thing on `node`.
    fn call(&self, node: &str, call: &Call, within: Duration) -> Result<Output, Failure>;

    /// One connection to `node` for all but files; none where each thing is done by itself.
    fn open<'a>(&'a self, _node: &str) -> Result<Option<Box<dyn Session + 'a>>, Failure> {
        Ok(None)
    }

    /// The very command that [`Transport::open`] starts here, and what it is told first; none where it opens none.
    fn opening(&self, _node: &str) -> Result<Option<Opening>, Failure> {
        Ok(None)
    }

    /// The very command of `call`: where there is a session, what that runs on the node; else what starts here, if anything
    /// does. Files are always sent by a command that starts here.
    fn command(&self, node: &str, call: &Call) -> Result<Option<Vec<String>>, Failure>;

    /// A command that another program starts here to run `argv` in the install directory of `node`, with its streams.
    fn relay(&self, node: &str, _argv: &[&str]) -> Result<Vec<String>, Failure> {
        Err(Failure::Unreachable(format!("no other program can reach {node}")))
    }

    /// How the machine of `node` lets its operator in; none where there is no login.
    fn login(&self, _node: &str, _within: Duration) -> Result<Option<Login>, Failure> {
        Ok(None)
    }

    /// Where `node` is, as the plan of a dry run names it.
    fn place(&self, node: &str) -> String;
}

/// What was seen of a login while a session was open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// What the user's shell printed before the command ran; empty where it kept quiet.
    pub(crate) greeting: String,
    /// Whether a second command took a connection of its own, as the server takes one session a connection (`MaxSessions 1`).
    pub(crate) alone: bool,
}

/// One connection to a node, on which one thing is done after the other. After a failure it is of no use any more.
pub trait Session: Send {
    /// Asks all of `questions` in one go, each a command that changes nothing. Each answer may take `within`.
    fn ask(&mut self, questions: &[Vec<String>], within: Duration) -> Result<Vec<Output>, Failure>;

    /// Does one thing, which is not sending files.
    fn call(&mut self, call: &Call, within: Duration) -> Result<Output, Failure>;
}

/// How a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub(crate) command: Vec<String>,
    /// What is written to it before anything else.
    pub stdin: String,
}

/// Permission bits, read and written as people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
