//! The layout of a local cluster's state directory: the one place that knows its file names.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only `local` uses all of it"))]

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::exit::BadInput;
use crate::fsx;
use crate::lock::Lock;
use crate::paths::Paths;

/// A local cluster's state directory.
#[derive(Clone, Debug)]
pub struct State {
    dir: PathBuf,
}

/// What `local` decided when it set the cluster up, for the verbs that come later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// As the engine says it.
    pub engine_version: String,
    /// Of the engine that the nodes run.
    pub engine_sha256: String,
}

impl State {
    /// The directory that `--state` names, else the clone's own.
    pub fn new(paths: &Paths, dir: Option<&Path>) -> Result<Self> {
        let dir = match dir {
            Some(dir) => std::path::absolute(dir).with_context(|| format!("finding {}", dir.display()))?,
            None => paths.build().join("local"),
        };
        Ok(Self { dir })
    }

    /// The directory `dir`, which is absolute.
    #[cfg(target_os = "linux")]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The topology of the cluster.
    pub fn topology(&self) -> PathBuf {
        self.dir.join("nodes.toml")
    }

    /// All install directories.
    pub fn nodes(&self) -> PathBuf {
        self.dir.join("nodes")
    }

    /// A node's install directory.
    pub fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    /// A node's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.node(name).join("log")
    }

    /// The programs that the nodes run, apart from cargo's own copies, which change under a running node.
    pub fn programs(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// The admin identity that `local` made.
    pub fn admin(&self) -> PathBuf {
        self.dir.join("admin.toml")
    }

    /// What the admin has seen of others' keys; `membershipd` keeps it beside the identity.
    pub fn admin_pins(&self) -> PathBuf {
        self.dir.join("admin.toml.pins")
    }

    /// What a shell reads to use the cluster as its admin.
    pub fn environment(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// What the supervisor has to say about itself.
    pub fn supervisor_log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    /// Held as long as the supervisor lives; the kernel lets go of it however that ends.
    pub fn supervisor_lock(&self) -> PathBuf {
        self.dir.join("supervisor.lock")
    }

    /// The directory of the supervisor's sockets.
    pub fn sockets(&self) -> PathBuf {
        self.dir.join("sockets")
    }

    /// Writes down what was decided.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let text = toml::to_string(record).context("writing down what this cluster runs")?;
        fsx::write(&self.record(), fsx::PUBLIC, text.as_bytes())
    }

    /// What was decided; refused where `local` has never set anything up.
    pub fn read_record(&self) -> Result<Record> {
        let shown = Paths::shown(&self.record());
        let text = fsx::read(&self.record())?.ok_or_else(|| self.absent())?;
        let text = String::from_utf8(text).map_err(|_| BadInput::new(format!("{shown} is not text")))?;
        toml::from_str(&text).map_err(|error| BadInput::new(format!("{shown}: {error}")))
    }

    /// The error of a verb with `--local` where there is no local cluster.
    pub fn absent(&self) -> anyhow::Error {
        BadInput::new(format!(
            "there is no local cluster in {}; make one with: cargo xtask local{}",
            Paths::shown(&self.dir),
            self.flags_of_local()
        ))
    }

    /// How `cargo xtask local` is told of this directory: with a space before it, or nothing.
    pub fn flags_of_local(&self) -> String {
        if self.dir.ends_with("deploy/build/local") {
            String::new()
        } else {
            format!(" --state {}", Paths::shown(&self.dir))
        }
    }

    /// Keeps a second `local` from setting up the same cluster. None when another one does.
    pub fn lock(&self) -> Result<Option<Lock>> {
        let file = self.dir.join("local.lock");
        let shown = Paths::shown(&file);
        std::fs::create_dir_all(&self.dir).with_context(|| format!("making {}", Paths::shown(&self.dir)))?;
        let file = File::create(&file).with_context(|| format!("opening {shown}"))?;
        Lock::try_take(file).with_context(|| format!("locking {shown}"))
    }

    fn record(&self) -> PathBuf {
        self.dir.join("local.toml")
    }
}
