//! What was typed: the flags of the daemon and their environment variables, not yet understood.

use std::path::PathBuf;

use super::bounds::TypedBounds;
use super::engine_bounds::TypedEngineBounds;

/// Settings of the daemon. Each is also read from the environment, which is what cluster.env holds.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Typed {
    /// Where users, rooms and members are kept: sqlite (a file, for a node on its own) or kv (JetStream, replicated in a
    /// cluster, which needs it) [default without a cluster: sqlite]
    #[arg(long, env = "UNIBUS_STORE", value_name = "KIND")]
    pub store: Option<String>,
    /// File of the sqlite store, made where it is missing, mode 0600 [default: ./local_files/unibus.db]
    #[arg(long, env = "UNIBUS_DB", value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Directory of the engine's JetStream store [default: ./local_files/jetstream]
    #[arg(long, env = "UNIBUS_NATS_STORE", value_name = "DIR")]
    pub nats_store: Option<PathBuf>,
    /// Address on which clients and the API are served [default: 127.0.0.1]
    #[arg(long, env = "UNIBUS_BIND", value_name = "IP")]
    pub bind: Option<String>,
    /// Port of the bus for clients [default: 4250]
    #[arg(long, env = "UNIBUS_CLIENT_PORT", value_name = "PORT")]
    pub client_port: Option<String>,
    /// Address by which clients reach this node, told to them by the engine [default: that of --bind]
    #[arg(long, env = "UNIBUS_ADVERTISE", value_name = "IP")]
    pub advertise: Option<String>,
    /// Port of the HTTPS control plane [default: 8470]
    #[arg(long, env = "UNIBUS_API_PORT", value_name = "PORT")]
    pub api_port: Option<String>,
    /// Requests a second that one user may make at the API of this node [default: 100]
    #[arg(long, env = "UNIBUS_API_RATE", value_name = "N")]
    pub api_rate: Option<String>,
    /// What users and addresses may take of the API.
    #[command(flatten)]
    pub bounds: TypedBounds,
    /// What one user may have of this node's engine, and the engine of the node.
    #[command(flatten)]
    pub engine_bounds: TypedEngineBounds,
    /// Proxies in front of the API, addresses separated by commas: what they say in X-Forwarded-For is whose request it is, and
    /// everybody else's is ignored [default: none]
    #[arg(long, env = "UNIBUS_TRUSTED_PROXIES", value_name = "IPS")]
    pub trusted_proxies: Option<String>,
    /// What the API is called before a proxy, HOST or HOST:PORT as in the URLs of its clients, separated by commas. The same on every
    /// node behind the proxy, which hands on Host as it came [default: none]
    #[arg(long, env = "UNIBUS_PUBLIC_NAMES", value_name = "NAMES")]
    pub public_names: Option<String>,
    /// Port of the routes between nodes [default: 6250]
    #[arg(long, env = "UNIBUS_ROUTE_PORT", value_name = "PORT")]
    pub route_port: Option<String>,
    /// Address on which the other nodes' routes arrive [default: that of --bind]
    #[arg(long, env = "UNIBUS_ROUTE_BIND", value_name = "IP")]
    pub route_bind: Option<String>,
    /// Settings that release 0.1.0 wrote have it. It has no effect: the engine has no monitor any more
    #[arg(long, env = "UNIBUS_MONITOR", value_name = "IP:PORT", hide = true)]
    pub monitor: Option<String>,
    /// enforce: every connection is authenticated; off: none is, on loopback only [default: enforce]
    #[arg(long, env = "UNIBUS_BUS_AUTH", value_name = "MODE")]
    pub bus_auth: Option<String>,
    /// Rooms whose messages are not encrypted, which this node and whoever holds it could read: allow, or refuse to make them;
    /// those that exist stay as they are [default: allow where --bind is loopback, else refuse]
    #[arg(long, env = "UNIBUS_CLEAR_ROOMS", value_name = "WORD")]
    pub clear_rooms: Option<String>,
    /// Rooms in use that one user may have made; admins may make any number. The same on every node [default: 500]
    #[arg(long, env = "UNIBUS_ROOMS_BY_USER", value_name = "N")]
    pub rooms_by_user: Option<String>,
    /// Those among them that may keep their messages; the same on every node [default: 200]
    #[arg(long, env = "UNIBUS_PERSISTING_ROOMS_BY_USER", value_name = "N")]
    pub persisting_rooms_by_user: Option<String>,
    /// Rooms that one user may have removed: their ids are never used again. Admins may remove any number. The same on every node
    /// [default: 5000]
    #[arg(long, env = "UNIBUS_REMOVED_ROOMS_BY_USER", value_name = "N")]
    pub removed_rooms_by_user: Option<String>,
    /// Begin a new store at the lowest feature level, as older releases do, instead of the highest one; it stays there until the level
    /// is raised. On every node, or on none
    #[arg(long, hide = true)]
    pub begin_at_lowest_level: bool,
    /// Bytes of messages that are kept of one room, from feature level 2 on; its owners may choose less. The same on every node
    /// [default: 10485760]
    #[arg(long, env = "UNIBUS_HISTORY_BYTES", value_name = "BYTES")]
    pub history_bytes: Option<String>,
    /// Days for which a message is kept, from feature level 2 on, 0: without end; owners of a room may choose less. The same on
    /// every node [default: 0]
    #[arg(long, env = "UNIBUS_HISTORY_DAYS", value_name = "DAYS")]
    pub history_days: Option<String>,
    /// Name of the cluster; without it the node stands alone
    #[arg(long, env = "UNIBUS_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// Identity of the cluster, 32 hex digits made by 'cargo xtask secrets'
    #[arg(long, env = "UNIBUS_CLUSTER_ID", value_name = "HEX")]
    pub cluster_id: Option<String>,
    /// Name of this node [default without a cluster: standalone]
    #[arg(long, env = "UNIBUS_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Routes to the other nodes, comma separated: nats-route://IP:PORT, without user or password
    #[arg(long, env = "UNIBUS_ROUTES", value_name = "URLS")]
    pub routes: Option<String>,
    /// File with the password of the route layer, mode 0600
    #[arg(long, env = "UNIBUS_CLUSTER_PASS_FILE", value_name = "FILE")]
    pub cluster_pass_file: Option<PathBuf>,
    /// Directory of the node's nkey seeds: issuer.nk, xkey.nk, callout.nk, control.nk, system.nk, bus.nk
    #[arg(long, env = "UNIBUS_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
    /// Certificate of the data plane
    #[arg(long, env = "UNIBUS_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Key of the data plane's certificate, mode 0600
    #[arg(long, env = "UNIBUS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// CA of the data plane: what clients trust
    #[arg(long, env = "UNIBUS_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate of this node among the nodes
    #[arg(long, env = "UNIBUS_ROUTE_CERT", value_name = "FILE")]
    pub route_cert: Option<PathBuf>,
    /// Key of the route certificate, mode 0600
    #[arg(long, env = "UNIBUS_ROUTE_KEY", value_name = "FILE")]
    pub route_key: Option<PathBuf>,
    /// CA of the routes; whoever it signed is a full member of the cluster
    #[arg(long, env = "UNIBUS_ROUTE_CA", value_name = "FILE")]
    pub route_ca: Option<PathBuf>,
    /// Copies of each bucket when it is made [default: 3 in a cluster, else 1]
    #[arg(long, env = "UNIBUS_KV_REPLICAS", value_name = "N")]
    pub kv_replicas: Option<String>,
    /// The nats-server binary [default: beside membershipd, then PATH]
    #[arg(long, env = "UNIBUS_ENGINE", value_name = "FILE")]
    pub engine: Option<PathBuf>,
    /// sha256 that the nats-server binary must have
    #[arg(long, env = "UNIBUS_ENGINE_SHA256", value_name = "HEX")]
    pub engine_sha256: Option<String>,
    /// Record of the first admin, imported once and deleted [default: ./bootstrap.json]
    #[arg(long, env = "UNIBUS_BOOTSTRAP", value_name = "FILE")]
    pub bootstrap: Option<PathBuf>,
    /// Log lines as text or json [default: text]
    #[arg(long, env = "UNIBUS_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}
