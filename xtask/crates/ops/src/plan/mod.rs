//! What a verb is about to do to nodes, as data: one printer and one executor work on the same steps.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::hash::sha256;
use crate::paths::Paths;
use crate::transport::{Call, Files, Mode};

pub use self::execute::{Goal, execute, execute_or};
pub(crate) use self::explain::Explain;
pub use self::locking::under_lock;
pub use self::noting::{End, Ended, Note, read_notes};
pub(crate) use self::noting::{PART_OF, commit_here};
pub use self::outcome::Outcome;
pub use self::print::{count, json, print, summary};

mod execute;
mod explain;
mod lock;
#[cfg(test)]
mod lock_tests;
mod locking;
mod noting;
mod operator;
mod outcome;
mod peer;
mod print;

/// One change to one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What people and scripts know it by.
    pub id: &'static str,
    /// Why it is there.
    pub purpose: Purpose,
    /// The node by its name.
    pub node: String,
    /// Steps of one wave are worked on all nodes side by side; a wave begins when the one before it has ended well.
    pub wave: u32,
    /// What it does.
    pub effect: Effect,
    /// How long carrying it out may take, if that is not the usual time.
    pub within: Option<Duration>,
    /// Where more is said when it fails.
    pub(crate) explain: Option<Explain>,
    /// How far it is.
    pub state: State,
}

/// What a step is there for, where that matters to more than its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// It makes a node what it should be.
    #[default]
    Change,
    /// It changes nothing, but waits until something holds.
    Wait,
    /// It changes nothing: where something does not hold it fails and says so, also when only asked how far the nodes are.
    Require,
    /// It is what makes a node run another release from its next start.
    SwitchRelease,
    /// It changes nothing, but waits for a machine that was told to reboot: until then no answer is no failure. What lay in the
    /// machine's memory is gone then, the cluster's lock too, which is taken there again.
    Return,
}

/// What a step does. Paths are absolute on a server; a relative one lies in the node's install directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant says what its fields are for")]
pub enum Effect {
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
    /// Our lock on the node, which keeps two operators apart. A majority of the nodes is enough. In `log` it is noted that the run
    /// began, and that it ended when the lock is given back.
    TakeLock { path: String, verb: String, wait_seconds: Option<u64>, break_foreign: bool, log: Option<String> },
    /// Our lock gone again, whatever happened since it was taken.
    GiveLock { path: String, log: Option<String> },
}

/// A file to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentFile {
    /// Where it is here.
    pub from: PathBuf,
    /// None for a secret, about which nothing is shown.
    pub sha256: Option<String>,
}

impl SentFile {
    /// Where it lies on the node.
    fn path_in(&self, dir: &str) -> String {
        let name = self.from.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        format!("{dir}/{name}")
    }
}

/// A question whose answer tells whether a node is as it should be already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unless {
    /// A command that changes nothing.
    pub argv: Vec<String>,
    /// What it prints then; none when that it succeeds is enough.
    pub prints: Option<String>,
}

/// How far a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
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
    /// A lock was taken or given back: that changes nothing of the node.
    Done,
    /// It could not be done on this node, and the others are enough.
    Without(String),
}

/// Prints mode and owner of every file, then every sha256. Their names come after the script, so that nothing is quoted twice.
const LOOK_AT_FILES: &str = "stat -c '%04a %U:%G' -- \"$@\" && sha256sum -- \"$@\"";

impl Step {
    /// A step that nobody has looked at yet.
    pub fn new(id: &'static str, node: &str, effect: Effect) -> Self {
        let purpose = Purpose::default();
        Self {
            id,
            purpose,
            node: node.to_owned(),
            wave: 0,
            effect,
            within: None,
            explain: None,
            state: State::default(),
        }
    }

    /// The same step with a purpose of its own.
    pub(crate) fn with(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// The same step in another wave.
    pub fn in_wave(self, wave: u32) -> Self {
        Self { wave, ..self }
    }

    /// The same step with a time limit of its own: what waits for something may take minutes.
    pub fn within(self, limit: Duration) -> Self {
        Self { within: Some(limit), ..self }
    }

    /// The same step, about whose failure somebody on the node knows more.
    pub(crate) fn explained_by(self, explain: Explain) -> Self {
        Self { explain: Some(explain), ..self }
    }

    /// Whether it only keeps operators apart.
    pub fn is_lock(&self) -> bool {
        matches!(self.effect, Effect::TakeLock { .. } | Effect::GiveLock { .. })
    }

    /// What carries the step out.
    pub fn call(&self) -> Call {
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
            Effect::SyncFiles { to, owner, mode, files } => Call::Sync(Files {
                from: files.iter().map(|file| file.from.clone()).collect(),
                to: to.clone(),
                owner: owner.clone(),
                mode: *mode,
            }),
            Effect::PutFile { path, owner, mode, content } => {
                Call::Put { path: path.clone(), owner: owner.clone(), mode: *mode, content: content.clone() }
            }
            Effect::MakeLink { path, to } => Call::Run(words(&["ln", "-sfT", "--", to, path])),
            Effect::Run { argv, .. } => Call::Run(argv.clone()),
            Effect::TakeLock { path, .. } => locking::take_call(path, String::new()),
            Effect::GiveLock { path, .. } => locking::give_call(path, String::new()),
        }
    }

    /// What notes the run, beside what carries the step out.
    pub fn note(&self) -> Option<Call> {
        match &self.effect {
            Effect::TakeLock { log: Some(log), .. } | Effect::GiveLock { log: Some(log), .. } => {
                Some(noting::note_call(log, String::new()))
            }
            _ => None,
        }
    }

    /// The same step of a lock, whose run is noted in `log`.
    pub fn noted_in(mut self, path: &str) -> Self {
        if let Effect::TakeLock { log, .. } | Effect::GiveLock { log, .. } = &mut self.effect {
            *log = Some(path.to_owned());
        }
        self
    }

    /// What tells whether the step has been carried out already.
    pub fn probe(&self) -> Probe {
        let asks = |argv: &[&str], prints: String| Probe::Asks(Unless { argv: words(argv), prints: Some(prints) });
        match &self.effect {
            Effect::MakeUser { name, .. } => asks(&["id", "-ng", "--", name], name.clone()),
            Effect::MakeDirectory { path, owner, mode } => {
                asks(&["stat", "-c", "%F %04a %U:%G", "--", path], format!("directory {mode} {owner}"))
            }
            Effect::SyncFiles { to, files, .. } => {
                let paths = files.iter().map(|file| file.path_in(to));
                Probe::Compares(["sh", "-c", LOOK_AT_FILES, "sh"].map(str::to_owned).into_iter().chain(paths).collect())
            }
            Effect::PutFile { path, owner, mode, content } => {
                let sha256 = sha256(content.as_bytes());
                match owner {
                    Some(owner) => asks(
                        &["sh", "-c", LOOK_AT_FILES, "sh", path],
                        looks_like(*mode, owner, &[(sha256, path.clone())]),
                    ),
                    None => asks(&["sha256sum", "--", path], format!("{sha256}  {path}")),
                }
            }
            Effect::MakeLink { path, to } => asks(&["readlink", "--", path], to.clone()),
            Effect::Run { unless, .. } => Probe::Asks(unless.clone()),
            Effect::TakeLock { .. } | Effect::GiveLock { .. } => Probe::InTheEffect,
        }
    }

    /// What the question of a comparison prints where all is the same. It tells about secrets, so it is never shown.
    pub fn same(&self) -> Result<String> {
        let Effect::SyncFiles { to, owner, mode, files } = &self.effect else { return Ok(String::new()) };
        let hashed = files.iter().map(|file| {
            let hash = match &file.sha256 {
                Some(hash) => hash.clone(),
                None => sha256(&fs::read(&file.from).with_context(|| format!("reading {}", Paths::shown(&file.from)))?),
            };
            Ok((hash, file.path_in(to)))
        });
        Ok(looks_like(*mode, owner, &hashed.collect::<Result<Vec<_>>>()?))
    }

    /// What the step makes, for people.
    pub fn subject(&self) -> &str {
        match &self.effect {
            Effect::MakeUser { name, .. } => name,
            Effect::MakeDirectory { path, .. } | Effect::PutFile { path, .. } | Effect::MakeLink { path, .. } => path,
            Effect::TakeLock { path, .. } | Effect::GiveLock { path, .. } => path,
            Effect::SyncFiles { to, .. } => to,
            Effect::Run { argv, .. } => argv.first().map_or("", String::as_str),
        }
    }
}

/// How a node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A command with a known answer.
    Asks(Unless),
    /// A command that tells what is there, to be compared with what is here.
    Compares(Vec<String>),
    /// Nothing is asked first: the effect compares and changes in one go.
    InTheEffect,
}

/// How a verb that changes nodes meets a lock that somebody else holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct LockFlags {
    /// Wait this long for another operator's run to end, instead of refusing at once
    #[arg(long, value_name = "SECONDS", conflicts_with = "break_lock")]
    wait_lock: Option<u64>,
    /// Break the lock of another operator, whose run is over for certain
    #[arg(long)]
    break_lock: bool,
}

impl LockFlags {
    /// As they were typed, for the next command.
    pub fn typed(&self) -> String {
        let wait = self.wait_lock.map(|seconds| format!(" --wait-lock {seconds}")).unwrap_or_default();
        format!("{wait}{}", if self.break_lock { " --break-lock" } else { "" })
    }
}

/// The same steps under the lock of the whole cluster: it is taken on `nodes` before them and given back after them. Where
/// there is nothing to do nothing is locked.
pub fn locked(steps: Vec<Step>, nodes: &[String], path: &str, verb: &str, flags: &LockFlags) -> Vec<Step> {
    let Some(last) = steps.iter().map(|step| step.wave).max() else { return steps };
    let take = Effect::TakeLock {
        path: path.to_owned(),
        verb: verb.to_owned(),
        wait_seconds: flags.wait_lock,
        break_foreign: flags.break_lock,
        log: None,
    };
    let give = Effect::GiveLock { path: path.to_owned(), log: None };
    let taken = nodes.iter().map(|node| Step::new("lock", node, take.clone()));
    let given = nodes.iter().map(|node| Step::new("unlock", node, give.clone()));
    if !steps.iter().any(|step| step.purpose == Purpose::Return) {
        let worked = steps.into_iter().map(|step| Step { wave: step.wave.saturating_add(1), ..step });
        return taken.chain(worked).chain(given.map(|step| step.in_wave(last.saturating_add(2)))).collect();
    }
    // A wave is kept free behind each one.
    let doubled = |wave: u32| wave.saturating_mul(2).saturating_add(1);
    let worked = steps.into_iter().flat_map(|step| {
        let wave = doubled(step.wave);
        let again = (step.purpose == Purpose::Return).then(|| Step::new("lock again", &step.node, take.clone()));
        std::iter::once(step.in_wave(wave)).chain(again.map(|again| again.in_wave(wave.saturating_add(1))))
    });
    taken.chain(worked).chain(given.map(|step| step.in_wave(doubled(last).saturating_add(2)))).collect()
}

/// What [`LOOK_AT_FILES`] prints about files with these hashes and paths.
fn looks_like(mode: Mode, owner: &str, files: &[(String, String)]) -> String {
    let owners = files.iter().map(|_| format!("{mode} {owner}"));
    let hashes = files.iter().map(|(hash, path)| format!("{hash}  {path}"));
    owners.chain(hashes).collect::<Vec<_>>().join("\n")
}

/// Owned words of a command.
pub fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}
