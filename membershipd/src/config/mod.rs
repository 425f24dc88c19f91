//! What was meant: the validated configuration of the daemon.

mod bounds;
mod engine_bounds;
mod errors;
mod files;
mod meaning;
mod typed;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

pub use bounds::{Bounds, Hourly, Share, TypedBounds};
pub use engine_bounds::EngineBounds;
pub use errors::{ConfigError, ConfigErrors};
pub use files::{Secrets, TlsFiles};
pub use typed::Typed;

use anyhow::{Context, Result};
use secrecy::SecretString;
use unibus_core::domain::{Keeping, Quota};
use unibus_http_signature::Authority;
use unibus_store::link::Engine;

/// Whether connections to the bus are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusAuth {
    /// Every one.
    Enforce,
    /// None; loopback only.
    Off,
}

impl BusAuth {
    /// The word of the flag and of the posture.
    pub fn as_str(self) -> &'static str {
        match self {
            BusAuth::Enforce => "enforce",
            BusAuth::Off => "off",
        }
    }
}

/// Whether there may be rooms whose messages are in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearRooms {
    /// Whoever makes a room decides.
    Allow,
    /// None is made, and none becomes one.
    Refuse,
}

impl ClearRooms {
    /// The word of the flag and of the posture.
    pub fn as_str(self) -> &'static str {
        match self {
            ClearRooms::Allow => "allow",
            ClearRooms::Refuse => "refuse",
        }
    }
}

/// Where users, rooms and members are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// On JetStream.
    Kv,
    /// In this file.
    Sqlite(PathBuf),
}

impl StoreKind {
    /// The word of the flag and of the posture.
    pub fn as_str(&self) -> &'static str {
        match self {
            StoreKind::Kv => KV,
            StoreKind::Sqlite(_) => SQLITE,
        }
    }
}

/// A path in the directory that the unit lets the daemon write, beside its program.
macro_rules! local_files {
    ($name:literal) => {
        concat!("local_files/", $name)
    };
}
pub(crate) use local_files;

/// The file where none is named.
const DEFAULT_DB: &str = local_files!("unibus.db");

/// Makes the directory of `db` where that is the usual file. One that was named must be there: what is made below a disk that is not
/// mounted would be another, empty store.
pub fn make_default_directory(db: &Path) -> Result<()> {
    match db.parent() {
        Some(directory) if db == Path::new(DEFAULT_DB) => {
            std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// The word for JetStream.
pub const KV: &str = "kv";
/// The word for a file.
pub const SQLITE: &str = "sqlite";

/// Shape of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people and the journal.
    Text,
    /// For programs.
    Json,
}

/// Listening ports.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The bus, for clients.
    pub client: u16,
    /// HTTPS control plane.
    pub api: u16,
    /// Routes between nodes.
    pub route: u16,
}

pub use unibus_api_types::limits::DEFAULT_API_PORT;

/// A node's part in a cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Name of the cluster.
    pub name: String,
    /// Identity of the cluster, so that a store of another one is never joined to it.
    pub id: String,
    /// Route addresses of the other nodes.
    pub routes: Vec<SocketAddr>,
    /// Where the other nodes' routes arrive.
    pub bind: IpAddr,
    /// Password of the route layer.
    pub pass: SecretString,
    /// Certificate, key and CA of the route layer.
    pub tls: TlsFiles,
}

/// The daemon's configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// Name of this node.
    pub node: String,
    /// Clients and the API are served here.
    pub bind: IpAddr,
    /// Where clients reach it; as unspecified as `bind` where nobody said.
    pub advertise: IpAddr,
    /// Listening ports.
    pub ports: Ports,
    /// Requests a second that one user may make at the API of this node.
    pub api_rate: NonZeroU32,
    /// What users and addresses may take of the API.
    pub bounds: Bounds,
    /// What one user may have of this node's engine, and the engine of the node.
    pub engine_bounds: EngineBounds,
    /// Peers of the API whose X-Forwarded-For is believed, in canonical form.
    pub trusted_proxies: Vec<IpAddr>,
    /// What the API is called before a proxy.
    pub public_names: Vec<Authority>,
    /// Whether connections are authenticated.
    pub bus_auth: BusAuth,
    /// Whether rooms may be in clear.
    pub clear_rooms: ClearRooms,
    /// How many rooms a user may make.
    pub quota: Quota,
    /// How much of a room is kept at most.
    pub keeping: Keeping,
    /// Part in a cluster; none: standalone.
    pub cluster: Option<Cluster>,
    /// Where users, rooms and members are kept.
    pub store: StoreKind,
    /// Engine's store.
    pub nats_store: PathBuf,
    /// Whether a new store begins at the lowest feature level, and not at the highest one.
    pub begin_at_lowest_level: bool,
    /// Certificate, key and CA of the data plane; none only on loopback.
    pub tls: Option<TlsFiles>,
    /// Keys of the daemon in its engine.
    pub secrets: Secrets,
    /// Copies of each bucket when it is made.
    pub kv_replicas: usize,
    /// The nats-server binary, where it was named.
    pub engine: Option<PathBuf>,
    /// sha256 the binary must have, lower-case hex.
    pub engine_sha256: Option<String>,
    /// Where the record of the first admin is looked for.
    pub bootstrap: PathBuf,
    /// Shape of the log.
    pub log_format: LogFormat,
}

impl Config {
    /// Makes sense of what was typed, as of `now_unix` (seconds), or reports all that is wrong with it.
    pub fn from_typed(typed: Typed, now_unix: i64) -> Result<Self, ConfigErrors> {
        meaning::of(typed, now_unix)
    }

    /// Address under which this machine reaches its own engine and API.
    pub fn own_address(&self) -> IpAddr {
        match self.bind {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            ip => ip,
        }
    }

    /// This node's engine, as the daemon connects to it.
    pub fn engine(&self) -> Engine<'_> {
        let Secrets { callout, control, system, bus, .. } = &self.secrets;
        let address = SocketAddr::new(self.own_address(), self.ports.client);
        Engine { address, ca: self.tls.as_ref().map(|tls| &*tls.ca), callout, control, system, bus }
    }

    /// Number of nodes that the configuration speaks of.
    pub fn expected_nodes(&self) -> usize {
        self.cluster.as_ref().map_or(1, |c| c.routes.len() + 1)
    }
}
