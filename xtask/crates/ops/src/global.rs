//! The options that every verb understands: which clone, and which topology.

use std::path::PathBuf;

use anyhow::Result;

use crate::paths::Paths;
use crate::topology::Topology;

/// Options that every verb understands.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// The cluster's nodes, instead of deploy/nodes.toml
    #[arg(long, value_name = "FILE", global = true)]
    topology: Option<PathBuf>,
    /// Work on this clone of unibus instead of the one this command was built from
    #[arg(long, value_name = "DIR", env = "UNIBUS_ROOT", global = true, hide_env_values = true)]
    root: Option<PathBuf>,
}

impl Global {
    /// Where everything lies.
    pub fn paths(&self) -> Result<Paths> {
        Paths::find(self.root.as_deref())
    }

    /// What was typed of these options, as words for another run of this program.
    pub fn words(&self, paths: &Paths) -> Vec<String> {
        let topology = self.topology.iter().map(|file| ("--topology", file.display().to_string()));
        let root = ("--root", paths.root().display().to_string());
        topology.chain([root]).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// The topology this run is about: `--topology`, else deploy/nodes.toml.
    pub fn topology(&self, paths: &Paths) -> Result<Topology> {
        match &self.topology {
            Some(file) => Topology::load(file),
            None => Topology::load(&paths.topology()),
        }
    }

    /// The file that `--topology` names, if it was given.
    pub fn topology_flag(&self) -> Option<&PathBuf> {
        self.topology.as_ref()
    }
}
