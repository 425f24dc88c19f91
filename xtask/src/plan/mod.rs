//! What a verb is about to do to nodes, as data: one printer and one executor work on the same steps.

use std::fmt;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use ring::digest;
use serde::{Serialize, Serializer};

use crate::transport::{Call, Files};

pub(crate) use self::execute::{Goal, Outcome, execute};
pub(crate) use self::print::{json, print, summary};

mod execute;
mod print;

/// One change to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) id: &'static str,
    pub(crate) node: String,
    /// Steps of one wave are worked on all nodes side by side; a wave begins when the one before it has ended well.
    pub(crate) wave: u32,
    pub(crate) effect: Effect,
    pub(crate) state: State,
}

/// What a step does. Paths are absolute on a server; a relative one lies in the node's install directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Effect {
    /// A system user with a group of the same name.
    MakeUser { name: String, home: String },
    /// A directory with its owner and mode.
    MakeDirectory { path: String, owner: String, mode: Mode },
    /// Files of this machine, sent if they differ.
    SyncFiles { to: String, owner: String, mode: Mode, files: Vec<SentFile> },
    /// A file that holds no secret, so that its content may be shown; it travels by standard input.
    PutFile { path: String, owner: Option<String>, mode: Mode, content: String },
    /// A symbolic link.
    MakeLink { path: String, to: String },
    /// A command as root, unless another one says that it is not needed.
    Run { argv: Vec<String>, unless: Unless },
}

/// A file to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SentFile {
    pub(crate) from: PathBuf,
    /// None for a secret, about which nothing is shown.
    pub(crate) sha256: Option<String>,
}

/// A question whose answer tells whether a node is as it should be already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Unless {
    pub(crate) argv: Vec<String>,
    /// What it prints then; none when that it succeeds is enough.
    pub(crate) prints: Option<String>,
}

/// How far a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nobody has asked the node.
    #[default]
    Planned,
    /// The node was so already.
    AlreadySo,
    /// The node is not so; nothing was done.
    WouldChange,
    /// Done.
    Changed,
    /// It was begun and did not succeed.
    Failed(String),
    /// Something before it failed.
    NotReached,
}

/// Permission bits, read and written as people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

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

/// Prints mode, owner and sha256 of a file. Its name comes after the script, so that nothing is quoted twice.
const LOOK_AT_FILE: &str = "stat -c '%04a %U:%G' -- \"$1\" && sha256sum < \"$1\"";

impl Step {
    /// A step that nobody has looked at yet.
    pub(crate) fn new(id: &'static str, node: &str, effect: Effect) -> Self {
        Self { id, node: node.to_owned(), wave: 0, effect, state: State::default() }
    }

    /// The same step in another wave.
    pub(crate) fn in_wave(self, wave: u32) -> Self {
        Self { wave, ..self }
    }

    /// What carries the step out.
    pub(crate) fn call(&self) -> Call {
        match &self.effect {
            Effect::MakeUser { name, home } => Call::Run(words(&[
                "useradd",
                "--system",
                "--user-group",
                "--home-dir",
                home,
                "--no-create-home",
                "--shell",
                "/usr/sbin/nologin",
                "--",
                name,
            ])),
            Effect::MakeDirectory { path, owner, mode } => {
                let (user, group) = owner.split_once(':').unwrap_or((owner, owner));
                Call::Run(words(&["install", "-d", "-o", user, "-g", group, "-m", &mode.to_string(), "--", path]))
            }
            Effect::SyncFiles { .. } => self.sync(false),
            Effect::PutFile { path, owner, mode, content } => {
                Call::Put { path: path.clone(), owner: owner.clone(), mode: *mode, content: content.clone() }
            }
            Effect::MakeLink { path, to } => Call::Run(words(&["ln", "-sfT", "--", to, path])),
            Effect::Run { argv, .. } => Call::Run(argv.clone()),
        }
    }

    /// What tells whether the step has been carried out already.
    pub(crate) fn probe(&self) -> Probe {
        let asks = |argv: &[&str], prints: String| Probe::Asks(Unless { argv: words(argv), prints: Some(prints) });
        match &self.effect {
            Effect::MakeUser { name, .. } => asks(&["id", "-ng", "--", name], name.clone()),
            Effect::MakeDirectory { path, owner, mode } => {
                asks(&["stat", "-c", "%F %04a %U:%G", "--", path], format!("directory {mode} {owner}"))
            }
            Effect::SyncFiles { .. } => Probe::Compares(self.sync(true)),
            Effect::PutFile { path, owner, mode, content } => {
                let sha256 = HEXLOWER.encode(digest::digest(&digest::SHA256, content.as_bytes()).as_ref());
                match owner {
                    Some(owner) => {
                        let prints = format!("{mode} {owner}\n{sha256}  -");
                        asks(&["sh", "-c", LOOK_AT_FILE, "sh", path], prints)
                    }
                    None => asks(&["sha256sum", "--", path], format!("{sha256}  {path}")),
                }
            }
            Effect::MakeLink { path, to } => asks(&["readlink", "--", path], to.clone()),
            Effect::Run { unless, .. } => Probe::Asks(unless.clone()),
        }
    }

    fn sync(&self, dry: bool) -> Call {
        let Effect::SyncFiles { to, owner, mode, files } = &self.effect else { return Call::Run(Vec::new()) };
        let from = files.iter().map(|file| file.from.clone()).collect();
        Call::Sync(Files { from, to: to.clone(), owner: owner.clone(), mode: *mode, dry })
    }

    /// What the step makes, for people.
    pub(crate) fn subject(&self) -> &str {
        match &self.effect {
            Effect::MakeUser { name, .. } => name,
            Effect::MakeDirectory { path, .. } | Effect::PutFile { path, .. } | Effect::MakeLink { path, .. } => path,
            Effect::SyncFiles { to, .. } => to,
            Effect::Run { argv, .. } => argv.first().map_or("", String::as_str),
        }
    }
}

/// How a node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A command with a known answer.
    Asks(Unless),
    /// A comparison that lists what differs, and prints nothing where all is the same.
    Compares(Call),
}

/// Owned words of a command.
pub(crate) fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}
