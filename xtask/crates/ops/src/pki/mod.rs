//! The two certificate authorities and every node's certificates.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::SerialNumber;
use time::{Duration, OffsetDateTime};

use crate::exit::BadInput;
use crate::fsx::{PRIVATE, PUBLIC};
use crate::making::Making;
use crate::paths::Paths;
use crate::random::{self, Random};
use crate::report::Outcome;
use crate::topology::Topology;

use self::ca::Ca;
use self::leaf::{Kind, Wanted};

mod ca;
mod key;
mod leaf;
pub mod rotation;
pub(crate) mod text;

/// Certificates are valid from a little earlier on, for machines whose clocks are behind.
const BACKDATE: Duration = Duration::hours(1);
const DAY: i64 = 86_400;
const CLIENT_CA: &str = "unibus client CA";

/// How much the operator means it when a new route CA is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// One that is there stays.
    No,
    /// It is replaced, as long as no node has certificates of it.
    Once,
    /// It is replaced, whatever that cuts off.
    Twice,
}

/// The files of a certificate and its key below a node's directory.
fn leaf_files(kind: Kind, node_dir: &Path) -> (PathBuf, PathBuf) {
    let name = match kind {
        Kind::Route => "route",
        Kind::Server => "server",
    };
    let tls = node_dir.join("tls");
    (tls.join(format!("{name}.crt")), tls.join(format!("{name}.key")))
}

/// Makes the client CA if there is none; one that is there is proved and kept.
pub fn client_ca(making: &mut Making<'_>) -> Result<()> {
    let (cert, key) = (making.paths.client_ca_cert(), making.paths.client_ca_key());
    let (ca, outcome) = if making.batch.read(&cert)?.is_none() && making.batch.read_private(&key)?.is_none() {
        let made = Ca::make(CLIENT_CA, making.now, making.random)?;
        making.batch.put(&cert, PUBLIC, made.cert);
        making.batch.put(&key, PRIVATE, made.key);
        (made.ca, Outcome::Made)
    } else {
        (load_client_ca(making)?, Outcome::Kept)
    };
    making.report.push(&cert, outcome, format!("client CA, valid until {}", ca.not_after.date()));
    Ok(())
}

fn load_client_ca(making: &Making<'_>) -> Result<Ca> {
    let (cert, key) = (making.paths.client_ca_cert(), making.paths.client_ca_key());
    match (making.batch.read(&cert)?, making.batch.read_private(&key)?) {
        (Some(cert_text), Some(key_text)) => Ca::load((&cert, &cert_text), (&key, &key_text), making.now),
        (None, None) => Err(BadInput::new(format!(
            "there is no client CA ({}); bring yours here, or make one: cargo xtask client-ca",
            Paths::shown(&cert)
        ))),
        (Some(_), None) => Err(half(&cert, &key, "")),
        (None, Some(_)) => Err(half(&key, &cert, "")),
    }
}

fn half(have: &Path, lack: &Path, or: &str) -> anyhow::Error {
    let (have, lack) = (Paths::shown(have), Paths::shown(lack));
    BadInput::new(format!("{lack} is missing, while {have} is there; bring it back from where the CA was made{or}"))
}

/// Makes or renews the route CA and the certificates of all nodes.
pub fn cluster(making: &mut Making<'_>, topology: &Topology, force: Force) -> Result<()> {
    let cluster = &topology.cluster.name;
    let client = load_client_ca(making)?;
    let route = match rotation::load(making, cluster)? {
        None => route_ca(making, cluster, force)?,
        Some(_) if force != Force::No => return Err(rotation::no_force(making.paths, cluster)),
        Some(rotation) => rotation.signer(making, cluster)?,
    };
    let (client_file, route_file) = (making.paths.client_ca_cert(), making.paths.cluster_ca_cert(cluster));
    if client.public() == route.public() {
        return Err(BadInput::new(format!(
            "{} and {} hold the same CA: whoever has a client certificate could join as a node; the route CA must be \
             one of its own",
            Paths::shown(&route_file),
            Paths::shown(&client_file)
        )));
    }
    for (kind, ca) in [(Kind::Route, &route), (Kind::Server, &client)] {
        for (index, node) in topology.nodes.iter().enumerate() {
            let wanted = Wanted::new(kind, node, index, topology.nodes.len(), ca, making.now);
            leaf(making, leaf_files(kind, &making.paths.node(cluster, &node.name)), &wanted, ca)?;
        }
    }
    for (ca, file) in [(&client, client_file), (&route, route_file)] {
        if let Some(age) = ca.aging(making.now) {
            making.report.notes.push(format!("{} {age}; plan its replacement", Paths::shown(&file)));
        }
    }
    Ok(())
}

fn route_ca(making: &mut Making<'_>, cluster: &str, force: Force) -> Result<Ca> {
    let Making { paths, now, random, .. } = *making;
    let (cert, key) = (paths.cluster_ca_cert(cluster), paths.cluster_ca_key(cluster));
    let or = ", or make a new CA: cargo xtask cluster-certs --force";
    // With --force nothing of the old one is read: it may be the reason for using it.
    let replace = force != Force::No && (cert.exists() || key.exists());
    let (old_cert, old_key) = if replace {
        may_replace(paths, cluster, force)?;
        (None, None)
    } else {
        (making.batch.read(&cert)?, making.batch.read_private(&key)?)
    };
    let (made, outcome, what) = match (old_cert, old_key) {
        (Some(cert_text), Some(key_text)) => {
            let ca = Ca::load((&cert, &cert_text), (&key, &key_text), now)
                .with_context(|| format!("the route CA of {cluster} cannot be used; repair it{or}"))?;
            making.report.push(&cert, Outcome::Kept, format!("route CA, valid until {}", ca.not_after.date()));
            return Ok(ca);
        }
        (Some(_), None) => return Err(half(&cert, &key, or)),
        (None, Some(key_text)) => {
            let made = Ca::remake(cluster, &key_text, &key, now, random)?;
            (made, Outcome::Made, "route CA, of the key that was there")
        }
        (None, None) => {
            let made = Ca::make_route(cluster, now, random)?;
            making.batch.put(&key, PRIVATE, made.key.as_str());
            if replace {
                (made, Outcome::Renewed, "a new route CA, as forced")
            } else {
                (made, Outcome::Made, "route CA")
            }
        }
    };
    making.report.push(&cert, outcome, format!("{what}, valid until {}", made.ca.not_after.date()));
    making.batch.put(&cert, PUBLIC, made.cert);
    Ok(made.ca)
}

/// A node that still has the old CA does not talk to one that has the new.
fn may_replace(paths: &Paths, cluster: &str, force: Force) -> Result<()> {
    let users = nodes_with_routes(&paths.out(cluster))?;
    if force == Force::Twice || users.is_empty() {
        return Ok(());
    }
    Err(BadInput::new(format!(
        "--force: certificates of the present route CA were made for {}. A new CA cuts every node off that does not \
         have it yet: all of them must be staged and restarted together, and the bus is down meanwhile. If that is \
         what you want, say it twice: cargo xtask cluster-certs --force --force. Without an outage: cargo xtask \
         cluster-certs --rotate",
        users.join(", ")
    )))
}

fn nodes_with_routes(out: &Path) -> Result<Vec<String>> {
    let shown = Paths::shown(out);
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {shown}")),
    };
    let mut nodes = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {shown}"))?;
        if leaf_files(Kind::Route, &entry.path()).0.exists() {
            nodes.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    nodes.sort();
    Ok(nodes)
}

fn leaf(making: &mut Making<'_>, (cert, key): (PathBuf, PathBuf), wanted: &Wanted, ca: &Ca) -> Result<()> {
    let (outcome, why) = match (making.batch.read(&cert)?, making.batch.read_private(&key)?) {
        (Some(cert_text), Some(key_text)) => match wanted.unfit(&cert_text, &key_text, ca, making.now) {
            None => {
                making.report.push(&cert, Outcome::Kept, "still valid");
                return Ok(());
            }
            Some(why) => (Outcome::Renewed, why),
        },
        (Some(_), None) => (Outcome::Renewed, "its key was missing".to_owned()),
        (None, _) => (Outcome::Made, "new".to_owned()),
    };
    let made =
        wanted.issue(ca, making.now, making.random).with_context(|| format!("making {}", Paths::shown(&cert)))?;
    making.batch.put(&key, PRIVATE, made.key);
    making.batch.put(&cert, PUBLIC, made.cert);
    making.report.push(&cert, outcome, format!("{why}; valid until {}", wanted.until().date()));
    Ok(())
}

/// The one certificate of a PEM file, as DER.
fn one_certificate(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut found = text::blocks(text)?.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    let one = found.next().ok_or("it holds no certificate in PEM form")?;
    match found.count() {
        0 => Ok(one.into_contents()),
        more => Err(format!("it holds {} certificates; it must hold exactly one", more + 1)),
    }
}

/// 158 random bits, always 20 bytes long and positive (RFC 5280 section 4.1.2.2).
fn serial(random: &dyn Random) -> Result<SerialNumber> {
    let [first, rest @ ..] = random::bytes::<20>(random)?;
    let mut bytes = vec![first & 0x7f | 0x40];
    bytes.extend(rest);
    Ok(SerialNumber::from_slice(&bytes))
}

/// Certificates know no fractions of a second.
fn seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}
