//! Which cluster a verb is about: servers of a topology, or the one that `local` runs. Nothing is guessed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use crate::engine::Pin;
use crate::exit::BadInput;
use crate::global::Global;
use crate::install_dir::{RUNTIME_DIR, SERVER_RUNTIME_DIR};
use crate::local_state::State;
use crate::paths::Paths;
use crate::plan::{self, LockFlags, Step};
use crate::rolling::Service;
use crate::topology::{Node, Topology};
use crate::transport::{self, Transport};
use crate::verify::{Answer, Check, Diagnosis, Expected, ExpectedEngine, Remedies, ask_all, checks, diagnose};

/// The flags that choose the cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// The cluster that `cargo xtask local` runs on this machine
    #[arg(long)]
    local: bool,
    /// Its state directory, instead of deploy/build/local
    #[arg(long, value_name = "DIR", requires = "local")]
    state: Option<PathBuf>,
}

/// One cluster: what it should be, and the way to its nodes.
pub struct Target {
    /// What the cluster should be.
    pub topology: Topology,
    /// The way to its nodes.
    pub transport: Arc<dyn Transport>,
    /// What `verify` compares with.
    pub expected: Expected,
    /// Where each node's control socket lies.
    pub runtime_dir: String,
    nodes: Vec<String>,
}

impl Which {
    /// The cluster, ready to be asked.
    pub fn open(&self, global: &Global) -> Result<Target> {
        let paths = global.paths()?;
        if !self.local {
            let pin = Pin::load(&paths.engine_pin())?;
            return Ok(Target::servers(global.topology(&paths)?, pin, global.topology_flag()));
        }
        if global.topology_flag().is_some() {
            return Err(BadInput::new(
                "--local and --topology exclude each other: a local cluster has a topology of its own",
            ));
        }
        Target::local(&State::new(&paths, self.state.as_deref())?)
    }

    /// The directory of the local cluster, if that is meant.
    pub fn state(&self, paths: &Paths) -> Result<Option<State>> {
        if self.local { State::new(paths, self.state.as_deref()).map(Some) } else { Ok(None) }
    }

    /// Who starts and stops its daemons; `xtask` is the program that does it on this machine.
    pub fn service(&self, global: &Global, xtask: PathBuf) -> Result<Service> {
        let paths = global.paths()?;
        let Some(state) = self.state(&paths)? else { return Ok(Service::Systemd) };
        Ok(Service::Local { xtask, root: paths.root().to_path_buf(), state: state.dir().to_path_buf() })
    }
}

impl Target {
    /// The cluster that `local` runs in `state`.
    pub fn local(state: &State) -> Result<Self> {
        let record = state.read_record()?;
        let topology = Topology::load(&state.topology())?;
        let engine = ExpectedEngine { version: record.engine_version, sha256: record.engine_sha256 };
        let remedies = Remedies { flags: format!(" --local{}", state.flags_of_local()), hosts: None };
        let transport = Arc::new(transport::Local::new(state.nodes()));
        Ok(Self::new(topology, transport, RUNTIME_DIR, engine, remedies))
    }

    /// The servers of a topology.
    pub fn servers(topology: Topology, pin: Pin, topology_flag: Option<&PathBuf>) -> Self {
        let hosts: BTreeMap<String, String> =
            topology.nodes.iter().map(|node| (node.name.clone(), node.ssh.clone())).collect();
        let engine = ExpectedEngine { version: pin.version, sha256: pin.sha256 };
        let flags = topology_flag.map(|file| format!(" --topology {}", Paths::shown(file))).unwrap_or_default();
        let transport = Arc::new(transport::Ssh::new(hosts.clone(), topology.cluster.install_dir.clone()));
        Self::new(topology, transport, SERVER_RUNTIME_DIR, engine, Remedies { flags, hosts: Some(hosts) })
    }

    fn new(
        topology: Topology,
        transport: Arc<dyn Transport>,
        runtime_dir: &str,
        engine: ExpectedEngine,
        remedies: Remedies,
    ) -> Self {
        let nodes: Vec<String> = topology.nodes.iter().map(|node| node.name.clone()).collect();
        let expected = Expected {
            cluster: topology.cluster.name.clone(),
            nodes: nodes.clone(),
            kv_replicas: topology.cluster.kv_replicas,
            engine: Some(engine),
            test_build: remedies.hosts.is_none(),
            remedies,
        };
        Self { topology, transport, expected, runtime_dir: runtime_dir.to_owned(), nodes }
    }

    /// The names of all nodes, in the order of the topology.
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// The node that is started first and that the first admin is seeded on.
    pub fn seed(&self) -> Result<&Node> {
        self.topology.seed()
    }

    /// Where everything lies on a server; none where the nodes are directories of this machine.
    pub fn install_dir(&self) -> Option<&str> {
        self.expected.remedies.hosts.as_ref().map(|_| self.topology.cluster.install_dir.as_str())
    }

    /// The same steps under this cluster's lock.
    pub fn locked(&self, steps: Vec<Step>, verb: &str, flags: &LockFlags) -> Vec<Step> {
        // Beside the runtime directory, which comes and goes with the daemon.
        let steps = plan::locked(steps, &self.nodes, &format!("{}.lock", self.runtime_dir), verb, flags);
        let log = self.operations_log();
        steps.into_iter().map(|step| step.noted_in(&log)).collect()
    }

    /// Where each node keeps what was done to it: beside what root alone may change.
    pub fn operations_log(&self) -> String {
        let file = "operations.jsonl";
        self.install_dir().map_or_else(|| file.to_owned(), |dir| format!("{dir}/{file}"))
    }

    /// Asks every node for its posture.
    pub fn ask(&self) -> Vec<Answer> {
        ask_all(self.transport.as_ref(), &self.nodes, &self.runtime_dir)
    }

    /// Asks every node and judges what they say.
    pub fn verify(&self) -> (Vec<Check>, Vec<Answer>) {
        let answers = self.ask();
        (checks(&self.expected, &answers), answers)
    }

    /// What the answers of the nodes come to, with the checks that they were judged by.
    pub fn diagnose(&self, answers: &[Answer]) -> (Vec<Check>, Diagnosis) {
        let checks = checks(&self.expected, answers);
        let diagnosis = diagnose(&self.expected, answers, &checks);
        (checks, diagnosis)
    }

    /// A verb for this cluster, as the operator types it.
    pub fn verb(&self, verb: &str) -> String {
        self.expected.remedies.verb(verb)
    }
}
