//! Assembles all that a node gets in `deploy/out/<cluster>/<node>`, laid out as in its install directory.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use time::OffsetDateTime;

use crate::engine;
use crate::fsx::{PRIVATE, PUBLIC};
use crate::install_dir::{BOOTSTRAP, CLUSTER_ENV, SERVER_RUNTIME_DIR};
use crate::making::Making;
use crate::paths::Paths;
use crate::pki::{self, Force};
use crate::random::Random;
use crate::report::{Outcome, Report};
use crate::secrets::{self, PER_NODE, SHARED};
use crate::topology::{Node, RouteNetwork, Topology};

/// What a node trusts in its clients, and they in it.
pub(crate) const CLIENT_CA: &str = "tls/client-ca.crt";
/// What nodes trust in each other.
pub const ROUTE_CA: &str = "tls/cluster-ca.crt";
/// The folder of the secrets.
pub const SECRETS: &str = "secrets";
/// Made in their place by [`pki`].
pub(crate) const TLS_OWN: [&str; 4] = ["tls/route.crt", "tls/route.key", "tls/server.crt", "tls/server.key"];

/// What differs between a node on a server and one on this machine.
#[derive(Clone, Debug)]
pub struct Placement {
    /// Where clients and the API listen.
    pub bind: IpAddr,
    /// The address that clients reach it by.
    pub(crate) advertise: IpAddr,
    /// Where routes listen.
    pub(crate) route_bind: IpAddr,
    /// Where release 0.1.0 has its engine's monitor.
    monitor: Option<SocketAddr>,
    /// Where the control socket lies; relative to the install directory, or absolute.
    pub runtime_dir: PathBuf,
    /// Whether the settings say which engine runs. On a server the release does: settings are put there before the release
    /// that they come with runs, and stay when the one before it comes back.
    names_engine: bool,
}

impl Placement {
    /// A node on a server of its own.
    pub fn server(topology: &Topology, node: &Node) -> Self {
        // Of the kind of the public address, which clients come to; that of IPv6 takes IPv4 too, so the daemon itself comes by 127.0.0.1.
        let any = match node.public {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self {
            bind: any,
            advertise: node.public,
            route_bind: match topology.cluster.route_network {
                // The mesh is private: nobody outside should reach the routes.
                RouteNetwork::Wg => node.wg,
                // A public address may be translated on its way, so the machine need not have it itself.
                RouteNetwork::Public => any,
            },
            monitor: topology.ports.monitor.map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
            runtime_dir: PathBuf::from(SERVER_RUNTIME_DIR),
            names_engine: false,
        }
    }

    /// A node on this machine, at its loopback address.
    pub fn local(topology: &Topology, node: &Node, runtime_dir: &Path) -> Self {
        Self {
            bind: node.public,
            advertise: node.public,
            route_bind: topology.route_address(node),
            monitor: topology.ports.monitor.map(|port| SocketAddr::new(node.public, port)),
            runtime_dir: runtime_dir.to_path_buf(),
            names_engine: true,
        }
    }
}

/// Which nodes files are made for, where these run, and what.
pub struct Cluster<'a> {
    /// Whose nodes they are.
    pub topology: &'a Topology,
    /// Says where a node runs: [`Placement::server`] or [`Placement::local`].
    pub placement: &'a dyn Fn(&Topology, &Node) -> Placement,
    /// Of the engine that the nodes will run.
    pub engine_sha256: &'a str,
}

/// Makes whatever is missing, from the client CA to the last cluster.env. Writes everything or nothing.
pub fn make_all(paths: &Paths, cluster: &Cluster<'_>, now: OffsetDateTime, random: &dyn Random) -> Result<Report> {
    let mut making = Making::begin(paths, now, random)?;
    pki::client_ca(&mut making)?;
    pki::cluster(&mut making, cluster.topology, Force::No)?;
    secrets::make(&mut making, cluster.topology)?;
    assemble(&mut making, cluster)?;
    making.finish()
}

/// Puts into every node's folder what has been made so far. Once both `cluster-certs` and `secrets` have run,
/// the folders are complete.
pub fn assemble(making: &mut Making<'_>, cluster: &Cluster<'_>) -> Result<()> {
    let topology = cluster.topology;
    let name = &topology.cluster.name;
    let (client_ca, route_ca) = (making.paths.client_ca_cert(), making.paths.cluster_ca_cert(name));
    let trusted = pki::rotation::trusted(making, name)?;
    let secrets_dir = making.paths.secrets(name);
    let id = secrets::cluster_id(making, &secrets_dir)?;
    let mut incomplete = Vec::new();
    for node in &topology.nodes {
        let dir = making.paths.node(name, &node.name);
        incomplete.extend(copy(making, &client_ca, &dir.join(CLIENT_CA), PUBLIC, pki::text::tidy)?);
        match &trusted {
            Some(trusted) => place(making, &dir.join(ROUTE_CA), PUBLIC, &pki::text::tidy(trusted))?,
            None => incomplete.push(route_ca.clone()),
        }
        for secret in SHARED {
            incomplete.extend(copy(
                making,
                &secrets_dir.join(secret.file),
                &dir.join(SECRETS).join(secret.file),
                PRIVATE,
                secrets::tidy,
            )?);
        }
        for secret in PER_NODE {
            let from = secrets_dir.join(&node.name).join(secret.file);
            incomplete.extend(copy(making, &from, &dir.join(SECRETS).join(secret.file), PRIVATE, secrets::tidy)?);
        }
        if let Some(id) = &id {
            let text = cluster_env(cluster, node, id);
            place(making, &dir.join(CLUSTER_ENV), PUBLIC, text.as_bytes())?;
        }
        for file in TLS_OWN {
            let file = dir.join(file);
            if making.batch.read(&file)?.is_none() {
                incomplete.push(file);
            }
        }
    }
    if !incomplete.is_empty() {
        let certs = incomplete.iter().any(|file| !file.starts_with(&secrets_dir));
        let next = if certs { "cargo xtask cluster-certs" } else { "cargo xtask secrets" };
        making.report.notes.push(format!("the nodes' folders are not complete yet; next: {next}"));
    }
    Ok(())
}

/// Copies a file if it has been made, as `tidy` has it: people may have brought it from elsewhere. Returns it if it has not.
fn copy(
    making: &mut Making<'_>,
    from: &Path,
    to: &Path,
    mode: u32,
    tidy: fn(&[u8]) -> Vec<u8>,
) -> Result<Option<PathBuf>> {
    let content = if mode == PRIVATE { making.batch.read_private(from)? } else { making.batch.read(from)? };
    match content {
        Some(content) => place(making, to, mode, &tidy(&content)).map(|()| None),
        None => Ok(Some(from.to_path_buf())),
    }
}

fn place(making: &mut Making<'_>, to: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let old = if mode == PRIVATE { making.batch.read_private(to)? } else { making.batch.read(to)? };
    let outcome = match old {
        Some(old) if old == content => return Ok(()),
        Some(_) => Outcome::Renewed,
        None => Outcome::Made,
    };
    making.batch.put(to, mode, content);
    making.report.push(to, outcome, "");
    Ok(())
}

/// What a node's daemon reads its settings from. No secret is in it.
fn cluster_env(cluster: &Cluster<'_>, node: &Node, id: &str) -> String {
    let topology = cluster.topology;
    let placement = (cluster.placement)(topology, node);
    let ports = topology.ports;
    let routes: Vec<String> = topology
        .others(node)
        .map(|other| format!("nats-route://{}", SocketAddr::new(topology.route_address(other), ports.route)))
        .collect();
    let mut settings = vec![
        ("STORE", "kv".to_owned()),
        ("NATS_STORE", "./local_files/jetstream".to_owned()),
        ("BIND", placement.bind.to_string()),
        ("ADVERTISE", placement.advertise.to_string()),
        ("CLIENT_PORT", ports.client.to_string()),
        ("API_PORT", ports.control_plane.to_string()),
        ("ROUTE_PORT", ports.route.to_string()),
        ("ROUTE_BIND", placement.route_bind.to_string()),
    ];
    // Here, where release 0.1.0 has it: settings that it made are those of an upgraded cluster to the byte.
    settings.extend(placement.monitor.map(|monitor| ("MONITOR", monitor.to_string())));
    settings.extend([
        ("BUS_AUTH", "enforce".to_owned()),
        ("CLUSTER_NAME", topology.cluster.name.clone()),
        ("CLUSTER_ID", id.to_owned()),
        ("NODE_NAME", node.name.clone()),
        ("ROUTES", routes.join(",")),
        ("CLUSTER_PASS_FILE", format!("{SECRETS}/cluster.pass")),
        ("SECRETS_DIR", SECRETS.to_owned()),
        ("TLS_CERT", "tls/server.crt".to_owned()),
        ("TLS_KEY", "tls/server.key".to_owned()),
        ("TLS_CA", CLIENT_CA.to_owned()),
        ("ROUTE_CERT", "tls/route.crt".to_owned()),
        ("ROUTE_KEY", "tls/route.key".to_owned()),
        ("ROUTE_CA", ROUTE_CA.to_owned()),
        ("KV_REPLICAS", topology.cluster.kv_replicas.to_string()),
        ("BOOTSTRAP", BOOTSTRAP.to_owned()),
        ("RUNTIME_DIR", placement.runtime_dir.display().to_string()),
    ]);
    if placement.names_engine {
        settings.extend(engine_settings(&format!("./{}", engine::FILE), cluster.engine_sha256));
    }
    let mut text =
        format!("# Settings of {}, made by `cargo xtask` from the topology; edit that instead.\n", node.name);
    text.push_str(&as_env(&settings));
    text
}

/// Which engine the daemon runs, and what it must be.
pub(crate) fn engine_settings(file: &str, sha256: &str) -> [(&'static str, String); 2] {
    [("ENGINE", file.to_owned()), ("ENGINE_SHA256", sha256.to_owned())]
}

/// Settings as the daemon's environment file has them.
pub(crate) fn as_env(settings: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (key, value) in settings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "UNIBUS_{key}={value}");
    }
    text
}
