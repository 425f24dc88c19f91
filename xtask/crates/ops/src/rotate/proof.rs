//! Whether every node runs with the certificates that were made here, and takes those of the others: pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::answer;
use crate::exit::BadInput;
use crate::fsx;
use crate::hash::sha256;
use crate::node_files::{ROUTE_CA, TLS_OWN};
use crate::paths::Paths;
use crate::posture::Posture;
use crate::topology::Topology;

/// The version of the JSON of `membershipd probe-routes` that this xtask understands.
const SCHEMA: u32 = 1;
/// Names of certificates in a posture.
const ROUTE: &str = "route";
const CLUSTER_CA: &str = "cluster-ca";

/// The certificates that a node must run with. A certificate is known by its sha256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub node: String,
    /// Where the others dial it.
    pub address: SocketAddr,
    pub(crate) leaf: String,
    pub(crate) trusts: BTreeSet<String>,
}

/// What a node shows of itself.
#[derive(Clone, Debug)]
pub struct Shown {
    pub(crate) node: String,
    pub(crate) posture: Result<Posture, String>,
    pub(crate) routes: Result<Vec<Route>, String>,
}

/// A fresh handshake with another node's route port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Route {
    pub address: String,
    pub ok: bool,
    /// Of the certificate that answered.
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default)]
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Probed {
    schema: u32,
    routes: Vec<Route>,
}

/// Reads what `probe-routes` prints.
pub(super) fn parse_routes(json: &[u8]) -> Result<Vec<Route>, String> {
    let probed: Probed =
        answer::read(json).map_err(|error| format!("its answer is not the JSON this xtask knows: {error}"))?;
    if probed.schema != SCHEMA {
        return Err(format!("its answer has schema {}, this xtask knows {SCHEMA}", probed.schema));
    }
    Ok(probed.routes)
}

impl Wanted {
    /// As the files say that were made for the nodes.
    pub(crate) fn all(paths: &Paths, topology: &Topology) -> Result<Vec<Self>> {
        let [route, ..] = TLS_OWN;
        let one = |node: &crate::topology::Node| -> Result<Self> {
            let dir = paths.node(&topology.cluster.name, &node.name);
            let hashes = |file: &str| -> Result<Vec<String>> {
                let path = dir.join(file);
                let shown = Paths::shown(&path);
                let text = fsx::read(&path)?.ok_or_else(|| {
                    BadInput::new(format!("there is no {shown} yet; next: cargo xtask cluster-certs"))
                })?;
                let blocks = pem::parse_many(&text).with_context(|| format!("reading {shown}"))?;
                Ok(blocks.iter().map(|block| sha256(block.contents())).collect())
            };
            let leaf =
                hashes(route)?.into_iter().next().with_context(|| format!("{} has no certificate", node.name))?;
            let address = SocketAddr::new(topology.route_address(node), topology.ports.route);
            Ok(Self { node: node.name.clone(), address, leaf, trusts: hashes(ROUTE_CA)?.into_iter().collect() })
        };
        topology.nodes.iter().map(one).collect()
    }
}

/// All that is still to be proved, one line each. What nobody said is not proved.
pub(crate) fn unproved(wanted: &[Wanted], shown: &[Shown]) -> Vec<String> {
    let mut lacks = Vec::new();
    for want in wanted {
        let mut lack = |why: String| lacks.push(format!("{}: {why}", want.node));
        let Some(shown) = shown.iter().find(|shown| shown.node == want.node) else {
            lack("it was not asked".to_owned());
            continue;
        };
        match &shown.posture {
            Err(why) => {
                lack(why.clone());
                continue;
            }
            Ok(posture) => certificates(want, posture).into_iter().for_each(&mut lack),
        }
        match &shown.routes {
            Err(why) => lack(format!("its routes could not be tried: {why}")),
            Ok(routes) => {
                for other in wanted.iter().filter(|other| other.node != want.node) {
                    handshake(other, routes).into_iter().for_each(&mut lack);
                }
            }
        }
    }
    lacks
}

/// What a running daemon was started with, beside what it should have been.
fn certificates(want: &Wanted, posture: &Posture) -> Vec<String> {
    let loaded = |name: &str| posture.certificates.iter().find(|certificate| certificate.name == name);
    let (Some(leaf), Some(ca)) = (loaded(ROUTE), loaded(CLUSTER_CA)) else {
        return vec!["its daemon names no route certificate".to_owned()];
    };
    if leaf.sha256.is_empty() || ca.sha256.is_empty() {
        return vec![
            "its daemon does not tell which certificates it runs with: it is older than this xtask".to_owned(),
        ];
    }
    let mut lacks = Vec::new();
    if leaf.sha256 != [want.leaf.clone()] {
        let has = leaf.sha256.first().map(String::as_str).unwrap_or_default();
        lacks.push(format!("it runs with the route certificate {}, not yet with {}", short(has), short(&want.leaf)));
    }
    let trusts: BTreeSet<String> = ca.sha256.iter().cloned().collect();
    if trusts != want.trusts {
        lacks.push(format!("it trusts the route CA {}, not yet {}", list(&trusts), list(&want.trusts)));
    }
    if !posture.lease.valid {
        lacks.push("it has no lease: it is not well".to_owned());
    }
    lacks
}

/// What is wrong with the handshake with `other`, by the account of the node that tried.
fn handshake(other: &Wanted, routes: &[Route]) -> Option<String> {
    let (name, address) = (&other.node, other.address);
    let found =
        routes.iter().find(|route| route.address == address.to_string() || route.address == address.ip().to_string());
    match found {
        None => Some(format!("it did not try the route to {name} ({address})")),
        Some(route) if !route.ok => {
            let why = route.error.as_deref().unwrap_or("no reason was given");
            Some(format!("a fresh handshake with {name} ({address}) failed: {why}"))
        }
        Some(route) if route.sha256.as_ref() != Some(&other.leaf) => {
            let met = route.sha256.as_deref().map_or("none", short);
            Some(format!("at {name} ({address}) it met the certificate {met}, not yet {}", short(&other.leaf)))
        }
        Some(_) => None,
    }
}

fn list(hashes: &BTreeSet<String>) -> String {
    hashes.iter().map(|hash| short(hash)).collect::<Vec<_>>().join(" + ")
}

/// Enough of a sha256 to tell a few apart.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
