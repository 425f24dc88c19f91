//! What a node says about itself: the JSON of `membershipd status --json`.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::answer;

/// The version of the JSON that this xtask understands.
const SCHEMA: u32 = 1;

/// A node's own account of itself. What it cannot tell is absent, never assumed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Posture {
    pub(crate) schema: u32,
    pub(crate) node: String,
    /// Made anew at every start of the daemon.
    pub boot: String,
    pub(crate) version: String,
    pub(crate) store: String,
    pub(crate) bus_auth: String,
    /// Whether rooms may be made whose messages are in clear: `allow` or `refuse`. An older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clear_rooms: Option<String>,
    /// The quotas of a user; an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rooms_by_user: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) persisting_rooms_by_user: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removed_rooms_by_user: Option<u32>,
    /// What is kept of a room at most; an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) history_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) history_days: Option<u32>,
    pub(crate) acl: bool,
    pub(crate) tls: bool,
    pub(crate) engine: Option<Engine>,
    /// None where the engine runs alone or says nothing.
    pub cluster: Option<Cluster>,
    pub(crate) kv_replicas: u32,
    /// One for each bucket, and one for the streams of rooms.
    pub replicas: Vec<Replica>,
    /// Rooms whose history is damaged. An older daemon does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damaged>,
    /// How many more there are than the daemon names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged_more: Option<NonZeroUsize>,
    /// Whether the node may decide.
    pub lease: Lease,
    /// The feature level of the cluster; none where the node cannot know, and an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<u32>,
    /// The highest feature level that this daemon can do; an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) highest_level: Option<u32>,
    /// Why the node cannot load its view: an entry that its release does not understand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stays_out: Option<String>,
    /// Active admins; none where the node cannot know.
    pub admins: Option<u64>,
    pub(crate) clients: Option<u64>,
    pub(crate) certificates: Vec<Certificate>,
    /// The disk on which the engine's store lies; an older daemon does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<Disk>,
    pub(crate) unix_ms: i64,
    /// Whether a record of a first admin waits to be imported.
    pub bootstrap_pending: bool,
    /// Safeguards that a test build has switched off.
    pub faults: Vec<String>,
    /// What a newer daemon says besides; passed on as it is.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The running nats-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    pub(crate) version: String,
    /// Of the program that runs.
    pub sha256: String,
    pub(crate) server_id: String,
    pub(crate) pid: u32,
}

/// The cluster as the engine's meta group and its routes show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) size: Option<u32>,
    /// The node by its name.
    pub leader: Option<String>,
    /// The other nodes to which a route stands.
    pub(crate) peers: Vec<String>,
}

/// What the streams of rooms that persist are called together, among the buckets.
pub(crate) const ROOMS: &str = "UNIBUS_history";

/// A room whose history is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    pub(crate) room: String,
    pub(crate) why: String,
}

/// One bucket's replication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// With the prefix that it has in the engine.
    pub bucket: String,
    /// As the stream is configured.
    pub want: u32,
    /// Those that are caught up, the leader included; none when nobody answered.
    pub(crate) current: Option<u32>,
    /// The node by its name.
    pub leader: Option<String>,
    /// Rooms whose streams these are, where it is no bucket but all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rooms: Option<u32>,
}

/// The proof that the node's view of members is current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whether it holds now.
    pub valid: bool,
    pub(crate) age_ms: Option<u64>,
    pub(crate) lease_ms: u64,
    /// After so long no node honours what was revoked.
    pub bound_ms: u64,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the daemon may still write.
    pub(crate) free: u64,
    pub(crate) size: u64,
}

impl Disk {
    /// What has to be free at least: less of a small disk.
    pub(crate) fn least(&self) -> u64 {
        const LEAST: u64 = 2 << 30;
        LEAST.min(self.size / 10)
    }

    pub(crate) fn is_nearly_full(&self) -> bool {
        self.free < self.least()
    }
}

/// A certificate that the node uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub(crate) name: String,
    pub(crate) file: String,
    /// Of what the daemon was started with: the certificate, or each CA of the file. An older daemon does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sha256: Vec<String>,
    pub(crate) not_after: String,
    pub(crate) not_after_unix: i64,
}

/// Why a node's answer is not a posture.
#[derive(Debug, Error)]
pub enum Unreadable {
    #[error("its posture is not the JSON this xtask knows: {0}")]
    /// It is no such JSON.
    Json(#[from] serde_json::Error),
    #[error("its posture has schema {0}, this xtask knows {SCHEMA}: use the xtask of the release that runs there")]
    /// It is of another schema.
    Schema(u64),
}

impl Posture {
    /// Reads a daemon's answer.
    pub fn parse(json: &[u8]) -> Result<Self, Unreadable> {
        // The schema first: another one's shape would be reported as a missing field.
        let value: Value = answer::read(json)?;
        match value.get("schema").and_then(Value::as_u64) {
            Some(schema) if schema != u64::from(SCHEMA) => Err(Unreadable::Schema(schema)),
            _ => Ok(serde_json::from_value(value)?),
        }
    }
}

/// An error as every verb of membershipd prints it with `--json`.
#[derive(Debug, Deserialize)]
struct Reported {
    error: ReportedError,
}

#[derive(Debug, Deserialize)]
struct ReportedError {
    #[serde(default)]
    code: String,
    message: String,
    #[serde(default)]
    remedy: Option<String>,
}

/// Whether a failed verb of membershipd says that no daemon runs there.
pub(crate) fn says_not_running(stdout: &[u8]) -> bool {
    answer::read(stdout).is_ok_and(|Reported { error }| error.code == "not_running")
}

/// What a failed verb of membershipd says, from whichever stream says it.
pub fn complaint(stdout: &[u8], stderr: &str) -> String {
    if let Ok(Reported { error }) = answer::read(stdout) {
        return match error.remedy.filter(|remedy| !remedy.is_empty()) {
            Some(remedy) => format!("{} ({remedy})", error.message),
            None => error.message,
        };
    }
    let said = stderr.lines().rev().find(|line| !line.trim().is_empty());
    said.map_or_else(|| "it gave no reason".to_owned(), |line| line.trim().to_owned())
}

#[cfg(test)]
pub mod fixture {
    //! A healthy node, for tests to break.

    use super::*;

    /// 2026-09-21T14:13:20Z.
    pub(crate) const NOW_MS: i64 = 1_790_000_000_000;

    /// `node` as it is when all is well among `all`.
    pub fn healthy(node: &str, all: &[&str]) -> Posture {
        let replica = |bucket: &str| Replica {
            bucket: bucket.to_owned(),
            want: 3,
            current: Some(3),
            leader: Some("homer".to_owned()),
            rooms: None,
        };
        let certificate = |name: &str, file: &str| Certificate {
            name: name.to_owned(),
            file: file.to_owned(),
            sha256: vec![format!("sha256 of {file} of {node}")],
            not_after: "2027-09-21T14:13:20Z".to_owned(),
            not_after_unix: NOW_MS / 1000 + 365 * 86_400,
        };
        Posture {
            schema: 1,
            node: node.to_owned(),
            boot: format!("boot of {node}"),
            version: "0.1.0".to_owned(),
            store: "kv".to_owned(),
            bus_auth: "enforce".to_owned(),
            clear_rooms: Some("refuse".to_owned()),
            rooms_by_user: Some(500),
            persisting_rooms_by_user: Some(200),
            removed_rooms_by_user: Some(5_000),
            history_bytes: Some(10 << 20),
            history_days: Some(0),
            acl: true,
            tls: true,
            engine: Some(Engine {
                version: "2.15.1".to_owned(),
                sha256: "dd9b".repeat(16),
                server_id: format!("N{node}"),
                pid: 42,
            }),
            cluster: Some(Cluster {
                name: "unibus".to_owned(),
                id: "ab".repeat(16),
                size: Some(3),
                leader: Some("homer".to_owned()),
                peers: all.iter().filter(|&&name| name != node).map(|&name| name.to_owned()).collect(),
            }),
            kv_replicas: 3,
            replicas: vec![replica("UNIBUS_users"), replica("UNIBUS_rooms"), replica("UNIBUS_members")],
            lease: Lease { valid: true, age_ms: Some(300), lease_ms: 12_000, bound_ms: 15_000 },
            level: Some(1),
            highest_level: Some(1),
            stays_out: None,
            admins: Some(1),
            clients: Some(0),
            certificates: vec![certificate("server", "tls/server.crt"), certificate("route", "tls/route.crt")],
            disk: Some(Disk { free: 50 << 30, size: 100 << 30 }),
            unix_ms: NOW_MS,
            bootstrap_pending: false,
            damaged: Vec::new(),
            damaged_more: None,
            faults: Vec::new(),
            more: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"{"schema":1,"node":"magnus","boot":"9f","version":"0.1.0","store":"kv","bus_auth":"enforce",
        "acl":true,"tls":true,"engine":null,"cluster":{"name":"unibus","id":"00","size":null,"leader":null,"peers":[]},
        "kv_replicas":3,"replicas":[{"bucket":"UNIBUS_users","want":3,"current":null,"leader":null}],
        "lease":{"valid":false,"age_ms":null,"lease_ms":12000,"bound_ms":15000},"admins":null,"clients":0,
        "certificates":[{"name":"server","file":"tls/server.crt","not_after":"2027-11-22T00:00:00Z","not_after_unix":1}],
        "unix_ms":1790000000000,"bootstrap_pending":false,"faults":[],"of_the_future":7}"#;

    #[test]
    fn the_contract_is_read_and_passed_on() {
        let posture = Posture::parse(CONTRACT.as_bytes()).unwrap();
        assert_eq!(posture.node, "magnus");
        assert_eq!(posture.replicas[0].current, None);
        let again: Value = serde_json::to_value(&posture).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(CONTRACT).unwrap());
    }

    #[test]
    fn another_schema_is_named() {
        let error = Posture::parse(br#"{"schema":2,"nodes":[]}"#).unwrap_err();
        assert!(error.to_string().contains("schema 2"), "{error}");
    }

    #[test]
    fn a_missing_field_is_no_default() {
        let error = Posture::parse(CONTRACT.replace(r#""acl":true,"#, "").as_bytes()).unwrap_err();
        assert!(error.to_string().contains("acl"), "{error}");
    }

    #[test]
    fn a_failed_verb_is_quoted() {
        let json = br#"{"schema":1,"error":{"code":"no_daemon","message":"no daemon runs","remedy":"start it"}}"#;
        assert_eq!(complaint(json, "noise"), "no daemon runs (start it)");
        assert!(says_not_running(br#"{"schema":1,"error":{"code":"not_running","message":"no"}}"#));
        assert!(!says_not_running(json) && !says_not_running(b"noise"));
        assert_eq!(complaint(b"", "first\nlast\n\n"), "last");
        assert_eq!(complaint(b"", ""), "it gave no reason");
    }
}
