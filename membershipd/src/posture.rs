//! The posture of a node: what it is, what it enforces, and whether it can prove it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::config::{Bounds, BusAuth, Cluster, Config, EngineBounds, StoreKind};
use crate::copies::Copies;
use crate::engine::{Binary, Engine};
use crate::gate::Gate;
use crate::history::Damaged;
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::FeatureLevel;
use unibus_core::faults::{Fault, VERSION};
use unibus_store::Replicas;
use unibus_store::link::Link;

/// Version of every JSON document of the daemon.
pub const SCHEMA: u32 = 1;

/// All that `status --json` says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Posture {
    /// Version of this document.
    pub schema: u32,
    /// Name of the node.
    pub node: String,
    /// Identity of the daemon's process.
    pub boot: String,
    /// Version of the daemon.
    pub version: String,
    /// Where users, rooms and members are kept: `kv` or `sqlite`.
    pub store: String,
    /// `enforce` or `off`.
    pub bus_auth: String,
    /// Whether rooms may be made whose messages are in clear: `allow` or `refuse`.
    pub clear_rooms: String,
    /// Rooms in use that one user may have made; none: an older daemon does not tell.
    #[serde(default)]
    pub rooms_by_user: Option<u32>,
    /// Those among them that may keep their messages; none: an older daemon does not tell.
    #[serde(default)]
    pub persisting_rooms_by_user: Option<u32>,
    /// Rooms that one user may have removed; none: an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_rooms_by_user: Option<u32>,
    /// What users and addresses may take of the API; none: an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Bounds>,
    /// Bytes that are kept of a room at most; an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_bytes: Option<u64>,
    /// Days for which a message is kept at most, 0: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_days: Option<u32>,
    /// What one user may have of the node's engine, and the engine of the node; an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_bounds: Option<EngineBounds>,
    /// Whether connections are confined to subjects of their own.
    pub acl: bool,
    /// Whether clients are served over TLS.
    pub tls: bool,
    /// The engine; none: it does not run.
    pub engine: Option<EngineState>,
    /// Part in a cluster; none: standalone.
    pub cluster: Option<ClusterState>,
    /// The least number of copies that a bucket is set to have; as configured, until the buckets were seen.
    pub kv_replicas: usize,
    /// Copies of each bucket, and from level 2 on those of the shards, as one; none where they are in a file. Those of the streams of rooms come last, as one, as they were when
    /// they were last looked at.
    pub replicas: Vec<Replicas>,
    /// The first rooms whose history was damaged then, by their names, [`DAMAGED_NAMED`] at most. They decide nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damaged>,
    /// How many more rooms there are whose history was damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged_more: Option<NonZeroUsize>,
    /// The quorum lease.
    pub lease: LeaseState,
    /// The feature level of the cluster; none: the view is no proof, or an older daemon does not tell.
    #[serde(default)]
    pub level: Option<u32>,
    /// The highest feature level that this daemon can do; none: an older daemon does not tell.
    #[serde(default)]
    pub highest_level: Option<u32>,
    /// Why this daemon cannot load its view: an entry that its release does not understand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays_out: Option<String>,
    /// Admitted admins; none: the view is no proof.
    pub admins: Option<usize>,
    /// Members' connections.
    pub clients: usize,
    /// What ends when.
    pub certificates: Vec<Certificate>,
    /// The disk on which the engine's store lies; none: it does not tell, or an older daemon does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// The node's clock, milliseconds since 1970.
    pub unix_ms: i64,
    /// Whether the record of a first admin waits to be imported.
    pub bootstrap_pending: bool,
    /// Safeguards that a test build has switched off.
    pub faults: Vec<String>,
}

/// Damaged rooms that a posture names: it is read every second, and what members say does not make it long.
pub const DAMAGED_NAMED: usize = 20;

/// Those of the `damaged` rooms that a posture names, and how many more there are.
fn named(damaged: &[Damaged]) -> (Vec<Damaged>, usize) {
    let named: Vec<Damaged> = damaged.iter().take(DAMAGED_NAMED).cloned().collect();
    let more = damaged.len() - named.len();
    (named, more)
}

impl Posture {
    /// Rooms whose messages are still in streams of their own, as they were last seen, where daemons keep them by now.
    pub fn rooms_to_carry_over(&self) -> Option<usize> {
        let kept = self.level? >= FeatureLevel::Kept.number();
        self.replicas.iter().filter_map(|replicas| replicas.rooms).find(|rooms| kept && *rooms > 0)
    }
}

/// The engine that runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct EngineState {
    /// Its version.
    pub version: String,
    /// sha256 of the binary.
    pub sha256: String,
    /// Its id.
    pub server_id: String,
    /// Its process id.
    pub pid: u32,
}

/// The cluster as this node's engine sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ClusterState {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: String,
    /// Members of its meta group; none: the engine did not say.
    pub size: Option<u64>,
    /// Leader of the meta group; none: there is none, so there is no quorum.
    pub leader: Option<String>,
    /// Nodes with a live route to this one.
    pub peers: Vec<String>,
    /// Configured nodes without one. Names, where this node knows them.
    #[serde(default)]
    pub unrouted: Vec<String>,
}

/// State of the lease.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeaseState {
    /// Whether access may be decided now.
    pub valid: bool,
    /// Age of the last proof.
    pub age_ms: Option<u64>,
    /// How long a proof counts.
    pub lease_ms: u64,
    /// After this time no node honours what was revoked, whatever happened to it.
    pub bound_ms: u64,
}

/// A certificate that will end.
#[derive(Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// What it is.
    pub name: String,
    /// Where it is.
    pub file: String,
    /// sha256 of what this process and its engine were started with: of the certificate, or of each CA in the file.
    #[serde(default)]
    pub sha256: Vec<String>,
    /// When it ends, or the first of them, RFC 3339.
    pub not_after: String,
    /// When it ends, seconds since 1970.
    pub not_after_unix: i64,
}

/// Room on a disk, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What this process may still write.
    pub free: u64,
    /// All of it.
    pub size: u64,
}

impl Disk {
    /// That of a directory.
    fn of(dir: &Path) -> Option<Self> {
        let stat = rustix::fs::statvfs(dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Self { free: bytes(stat.f_bavail), size: bytes(stat.f_blocks) })
    }
}

/// What a posture is read from.
#[derive(Debug, Clone)]
pub struct Observer {
    /// The configuration.
    pub config: Arc<Config>,
    /// The engine's binary.
    pub binary: Arc<Binary>,
    /// Identity of this process.
    pub boot: String,
    /// The gate.
    pub gate: Arc<Gate>,
    /// The copies of the buckets.
    pub copies: Arc<Copies>,
    /// The engine that runs now.
    pub engine: watch::Receiver<Option<Engine>>,
    /// The connections to it.
    pub link: watch::Receiver<Option<Arc<Link>>>,
}

impl Observer {
    /// The posture as of now. Takes a few seconds at most, whatever is broken.
    pub async fn posture(&self) -> Posture {
        let config = &self.config;
        let link = self.link.borrow().clone();
        let engine = self.engine.borrow().clone();
        let (cluster, mut replicas) = match &link {
            Some(_) if config.store != StoreKind::Kv => (None, Vec::new()),
            Some(link) => futures::join!(self.cluster(Some(link)), self.replicas(link)),
            None => (self.cluster(None).await, Vec::new()),
        };
        self.copies.saw(&replicas);
        let rooms = self.copies.rooms();
        let (damaged, damaged_more) = named(&rooms.damaged);
        replicas.extend(rooms.replicas.clone().filter(|_| !replicas.is_empty()));
        let lease_valid = self.gate.lease_valid(Instant::now());
        Posture {
            schema: SCHEMA,
            node: config.node.clone(),
            boot: self.boot.clone(),
            version: VERSION.to_owned(),
            store: config.store.as_str().to_owned(),
            bus_auth: config.bus_auth.as_str().to_owned(),
            clear_rooms: config.clear_rooms.as_str().to_owned(),
            rooms_by_user: Some(config.quota.rooms),
            persisting_rooms_by_user: Some(config.quota.persisting),
            removed_rooms_by_user: Some(config.quota.removed),
            bounds: Some(config.bounds),
            history_bytes: Some(config.keeping.bytes),
            history_days: Some(config.keeping.days.unwrap_or_default()),
            engine_bounds: Some(config.engine_bounds),
            acl: config.bus_auth == BusAuth::Enforce && !Fault::NoExplicitDeny.active(),
            tls: config.tls.is_some(),
            engine: engine.zip(link).map(|(engine, link)| EngineState {
                version: self.binary.version.clone(),
                sha256: self.binary.sha256.clone(),
                server_id: link.server.clone(),
                pid: engine.pid,
            }),
            cluster,
            kv_replicas: self.copies.least(),
            replicas,
            damaged,
            damaged_more: NonZeroUsize::new(damaged_more),
            lease: LeaseState {
                valid: lease_valid,
                age_ms: self.gate.lease_age(Instant::now()).map(|age| millis(age.as_millis())),
                lease_ms: millis(bus::LEASE.as_millis()),
                bound_ms: millis(bus::revocation_bound().as_millis()),
            },
            level: lease_valid.then(|| self.gate.view(|view| view.level().number())),
            highest_level: Some(FeatureLevel::highest().number()),
            stays_out: self.gate.stays_out(),
            admins: lease_valid.then(|| self.gate.view(|view| view.admins())),
            clients: self.gate.admitted().len(),
            certificates: self.certificates(),
            disk: Disk::of(&config.nats_store),
            unix_ms: clock::unix_ms(),
            bootstrap_pending: config.bootstrap.exists(),
            faults: Fault::names().into_iter().map(str::to_owned).collect(),
        }
    }

    /// The copies of the buckets and of the shards.
    pub async fn replicas(&self, link: &Link) -> Vec<Replicas> {
        self.copies.look(link, self.gate.view(|view| view.level())).await
    }

    /// The little that anybody may know: status and the words of the posture. 503 where there is no lease.
    pub fn health(&self) -> (bool, Value) {
        let config = &self.config;
        let valid = self.gate.lease_valid(Instant::now());
        let status = match (valid, &config.cluster) {
            (false, _) => "unavailable",
            (true, Some(_)) if !self.copies.survive_a_loss() => "not HA",
            (true, _) => "ok",
        };
        let body = json!({
            "status": status,
            "enforce": config.bus_auth == BusAuth::Enforce,
            "acl": config.bus_auth == BusAuth::Enforce && !Fault::NoExplicitDeny.active(),
            "tls": config.tls.is_some(),
            "cluster": config.cluster.is_some(),
        });
        (valid, body)
    }

    /// The cluster as this node's engine sees it; none: standalone.
    pub async fn cluster(&self, link: Option<&Arc<Link>>) -> Option<ClusterState> {
        let cluster = self.config.cluster.as_ref()?;
        let (meta, routes) = match link {
            Some(link) => futures::join!(link.ask("JSZ", json!({})), link.ask("ROUTEZ", json!({}))),
            None => return Some(self.unknown(cluster)),
        };
        let meta = meta.ok();
        let meta = meta.as_ref().and_then(|answer| answer.pointer("/data/meta_cluster"));
        let mut peers: Vec<String> = routes
            .ok()
            .as_ref()
            .and_then(|answer| answer.pointer("/data/routes"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|route| route.get("remote_name").and_then(Value::as_str).map(str::to_owned))
            .collect();
        // System accounts have routes of their own beside the common one.
        peers.sort();
        peers.dedup();
        let unrouted = self.unrouted(cluster, &peers);
        Some(ClusterState {
            name: cluster.name.clone(),
            id: cluster.id.clone(),
            size: meta.and_then(|m| m.get("cluster_size")).and_then(Value::as_u64),
            leader: meta.and_then(|m| m.get("leader")).and_then(Value::as_str).map(str::to_owned),
            peers,
            unrouted,
        })
    }

    fn unknown(&self, cluster: &Cluster) -> ClusterState {
        let (name, id) = (cluster.name.clone(), cluster.id.clone());
        ClusterState { name, id, size: None, leader: None, peers: Vec::new(), unrouted: self.unrouted(cluster, &[]) }
    }

    // The configuration has addresses and the engine names; which name belongs to which address nobody says. So it is the
    // count that decides, and the names are those of the nodes whose heartbeats were seen.
    fn unrouted(&self, cluster: &Cluster, peers: &[String]) -> Vec<String> {
        let own = &self.config.node;
        let seen = self.gate.view(|view| view.nodes().cloned().collect::<Vec<_>>());
        let seen = seen.into_iter().filter(|node| node != own && !peers.contains(node));
        seen.chain(std::iter::repeat("a node never seen".to_owned()))
            .take(cluster.routes.len().saturating_sub(peers.len()))
            .collect()
    }

    /// The certificates with which this process and its engine were started: the engine uses them until it ends.
    pub fn certificates(&self) -> Vec<Certificate> {
        let mut all = Vec::new();
        let groups = [
            (["server", "client-ca"], self.config.tls.as_ref()),
            (["route", "cluster-ca"], self.config.cluster.as_ref().map(|cluster| &cluster.tls)),
        ];
        for ([leaf, ca], tls) in groups {
            let Some(tls) = tls else { continue };
            let leaf = (leaf, &tls.cert, tls.not_after_unix, vec![tls.sha256.clone()]);
            for (name, file, unix, sha256) in [leaf, (ca, &tls.ca, tls.ca_not_after_unix, tls.ca_sha256.clone())] {
                all.push(Certificate {
                    name: name.to_owned(),
                    file: file.display().to_string(),
                    sha256,
                    not_after: clock::rfc3339(unix),
                    not_after_unix: unix,
                });
            }
        }
        all
    }
}

fn millis(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_tells_its_room_where_there_is_one() {
        let disk = Disk::of(&std::env::temp_dir()).unwrap();
        assert!(disk.free <= disk.size && disk.size > 0, "{disk:?}");
        assert_eq!(Disk::of(Path::new("/nowhere")), None);
    }

    #[test]
    fn of_many_damaged_rooms_the_first_are_named_and_the_rest_is_counted() {
        let damaged = |count: usize| -> Vec<Damaged> {
            let one = |n| Damaged { room: format!("room{n:03}").parse().unwrap(), why: "broken".to_owned() };
            (0..count).map(one).collect()
        };
        for (count, more) in [(0, 0), (DAMAGED_NAMED, 0), (DAMAGED_NAMED + 1, 1), (300, 300 - DAMAGED_NAMED)] {
            let all = damaged(count);
            assert_eq!(named(&all), (all[..count - more].to_vec(), more), "{count}");
        }
    }
}
