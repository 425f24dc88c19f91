//! The rotation of the route CA, phase by phase. One file says how far it is; all others follow from it and from the keys, so
//! whoever is killed between any two of them is repaired by the next run.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::exit::BadInput;
use crate::fsx::{self, PRIVATE, PUBLIC};
use crate::making::Making;
use crate::paths::Paths;
use crate::report::Outcome;

use super::ca::{Ca, key_id};
use super::{half, key};

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nodes trust the old CA and the new one; their certificates are of the old.
    Introduce,
    /// Nodes trust both; their certificates are of the new.
    Switch,
    /// Nodes trust the new CA alone. The old one's key is gone.
    Retire,
}

/// A rotation that is under way. The CAs are known by their keys, wherever these lie by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How far it is.
    pub phase: Phase,
    old: String,
    new: String,
}

const HEADER: &str =
    "# A rotation of the route CA is under way; `cargo xtask cluster-certs --rotate` goes on with it. Do not edit.\n";

impl Phase {
    /// The one after it; none when the rotation is complete.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Introduce => Some(Self::Switch),
            Self::Switch => Some(Self::Retire),
            Self::Retire => None,
        }
    }

    /// What its files make of the nodes.
    pub fn about(self) -> &'static str {
        match self {
            Self::Introduce => "every node trusts the old route CA and the new one; certificates are of the old",
            Self::Switch => "every node gets a certificate of the new route CA, and still trusts both",
            Self::Retire => "every node trusts the new route CA alone; the key of the old one is destroyed here",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Introduce => "introduce",
            Self::Switch => "switch",
            Self::Retire => "retire",
        })
    }
}

/// The rotation that is under way.
pub fn load(making: &Making<'_>, cluster: &str) -> Result<Option<Rotation>> {
    read(making.paths, cluster)
}

/// The same, where nothing is being made.
pub fn read(paths: &Paths, cluster: &str) -> Result<Option<Rotation>> {
    let file = paths.rotation(cluster);
    let Some(text) = fsx::read(&file)? else { return Ok(None) };
    let shown = Paths::shown(&file);
    let text = String::from_utf8(text).map_err(|_| BadInput::new(format!("{shown} is not text")))?;
    let rotation = toml::from_str(&text).map_err(|error| {
        BadInput::new(format!(
            "{shown} says how far a rotation is, and cannot be read; bring it back from a backup: {error}"
        ))
    })?;
    Ok(Some(rotation))
}

/// The error of `--force` while a rotation is under way.
pub(super) fn no_force(paths: &Paths, cluster: &str) -> anyhow::Error {
    BadInput::new(format!(
        "--force: a rotation of the route CA is under way; finish it: cargo xtask cluster-certs --rotate. To give it up \
         instead, with an outage: remove {} and {}, then cargo xtask cluster-certs --force --force",
        Paths::shown(&paths.rotation(cluster)),
        Paths::shown(&paths.next_ca_key(cluster))
    ))
}

/// What nodes trust in each other at this phase, as PEM; none where it has yet to be made.
pub(crate) fn trusted(making: &Making<'_>, cluster: &str) -> Result<Option<Vec<u8>>> {
    let Some(rotation) = load(making, cluster)? else {
        return making.batch.read(&making.paths.cluster_ca_cert(cluster));
    };
    let ids = match rotation.phase {
        Phase::Introduce | Phase::Switch => vec![&rotation.old, &rotation.new],
        Phase::Retire => vec![&rotation.new],
    };
    let mut bundle = Vec::new();
    for id in ids {
        let Some((_, text)) = cert_of(making, cluster, id)? else { return Ok(None) };
        bundle.extend_from_slice(text.trim_ascii_end());
        bundle.push(b'\n');
    }
    Ok(Some(bundle))
}

/// Begins a rotation: a new CA beside the present one. Writes at once: the key, then the phase.
pub fn begin(making: &Making<'_>, cluster: &str) -> Result<Rotation> {
    let Making { paths, now, random, .. } = *making;
    let (cert, key) = (paths.cluster_ca_cert(cluster), paths.cluster_ca_key(cluster));
    let old = match (fsx::read(&cert)?, fsx::read_private(&key)?) {
        (Some(cert_text), Some(key_text)) => Ca::load((&cert, &cert_text), (&key, &key_text), now).context(
            "the present route CA cannot be rotated; if it has expired: cargo xtask cluster-certs --force --force",
        )?,
        (Some(_), None) => return Err(half(&cert, &key, "")),
        (None, _) => {
            return Err(BadInput::new(format!(
                "there is no {} to rotate; next: cargo xtask cluster-certs",
                Paths::shown(&cert)
            )));
        }
    };
    let next = paths.next_ca_key(cluster);
    // One that is there was made by a run that was killed before it began, and has signed nothing.
    let made = match fsx::read_private(&next)? {
        Some(key_text) => Ca::remake(cluster, &key_text, &next, now, random)?,
        None => Ca::make_route(cluster, now, random)?,
    };
    fsx::write(&next, PRIVATE, made.key.as_bytes())?;
    fsx::write(&paths.next_ca_cert(cluster), PUBLIC, made.cert.as_bytes())?;
    let rotation = Rotation { phase: Phase::Introduce, old: key_id(old.public()), new: key_id(made.ca.public()) };
    rotation.write(paths, cluster)?;
    Ok(rotation)
}

impl Rotation {
    /// Goes to another phase. This one write is what decides; the files of the phase are made after it.
    pub fn enter(&self, phase: Phase, paths: &Paths, cluster: &str) -> Result<Self> {
        let entered = Self { phase, ..self.clone() };
        entered.write(paths, cluster)?;
        Ok(entered)
    }

    fn write(&self, paths: &Paths, cluster: &str) -> Result<()> {
        let text = toml::to_string(self).context("writing down how far the rotation is")?;
        fsx::write(&paths.rotation(cluster), PUBLIC, format!("{HEADER}{text}").as_bytes())
    }

    /// The CA that signs at this phase, with the certificates of all CAs of the phase in place.
    pub(super) fn signer(&self, making: &mut Making<'_>, cluster: &str) -> Result<Ca> {
        let (cert, key) = (making.paths.cluster_ca_cert(cluster), making.paths.cluster_ca_key(cluster));
        let (next_cert, next_key) = (making.paths.next_ca_cert(cluster), making.paths.next_ca_key(cluster));
        let signer = match self.phase {
            Phase::Introduce => {
                authority(making, cluster, &self.new, (&next_cert, &next_key))?;
                authority(making, cluster, &self.old, (&cert, &key))?
            }
            Phase::Switch => {
                // It signs nothing any more, so it may have ended meanwhile.
                if cert_of(making, cluster, &self.old)?.is_none() {
                    authority(making, cluster, &self.old, (&cert, &key))?;
                }
                authority(making, cluster, &self.new, (&next_cert, &next_key))?
            }
            Phase::Retire => authority(making, cluster, &self.new, (&cert, &key))?,
        };
        let what = format!("signs in phase {} of a rotation, valid until {}", self.phase, signer.not_after.date());
        making.report.push(if self.phase == Phase::Switch { &next_cert } else { &cert }, Outcome::Kept, what);
        Ok(signer)
    }

    /// Removes what the last phase leaves over, once its files are in place: what lay apart is the CA now.
    pub(crate) fn settle(&self, paths: &Paths, cluster: &str) -> Result<()> {
        let (key, next) = (paths.cluster_ca_key(cluster), paths.next_ca_key(cluster));
        let in_place = fsx::read_private(&key)?.is_some_and(|text| is_key(&text, &self.new, &[]));
        if self.phase != Phase::Retire || !in_place {
            return Ok(());
        }
        for left in [next, paths.next_ca_cert(cluster)] {
            remove(&left)?;
        }
        Ok(())
    }

    /// Ends a rotation whose last phase is proved.
    pub fn finish(&self, paths: &Paths, cluster: &str) -> Result<()> {
        self.settle(paths, cluster)?;
        remove(&paths.rotation(cluster))
    }
}

/// The CA of that key, with key and certificate where they belong at this phase.
fn authority(making: &mut Making<'_>, cluster: &str, id: &str, place: (&Path, &Path)) -> Result<Ca> {
    let (cert_place, key_place) = place;
    let found = cert_of(making, cluster, id)?;
    let public = found.as_ref().and_then(|(_, text)| public_of(text)).unwrap_or_default();
    let mut key_text = None;
    for file in [making.paths.cluster_ca_key(cluster), making.paths.next_ca_key(cluster)] {
        key_text = key_text.or(making.batch.read_private(&file)?.filter(|text| is_key(text, id, &public)));
    }
    let Some(key_text) = key_text else {
        return Err(BadInput::new(format!(
            "the rotation of the route CA needs the key {} (sha256 of its public half {}), and it is not there; bring it \
             back from a backup",
            Paths::shown(key_place),
            id.chars().take(16).collect::<String>()
        )));
    };
    let ca = match found {
        Some((file, text)) => {
            let ca = Ca::load((&file, &text), (key_place, &key_text), making.now)?;
            put(making, cert_place, PUBLIC, &text)?;
            ca
        }
        None => {
            let made = Ca::remake(cluster, &key_text, key_place, making.now, making.random)?;
            put(making, cert_place, PUBLIC, made.cert.as_bytes())?;
            made.ca
        }
    };
    put(making, key_place, PRIVATE, &key_text)?;
    Ok(ca)
}

/// Puts what is not there already.
fn put(making: &mut Making<'_>, file: &Path, mode: u32, content: &[u8]) -> Result<()> {
    let there = if mode == PRIVATE { making.batch.read_private(file)? } else { making.batch.read(file)? };
    if there.as_deref() == Some(content) {
        return Ok(());
    }
    making.batch.put(file, mode, content);
    making.report.push(
        file,
        if there.is_some() { Outcome::Renewed } else { Outcome::Made },
        "rotation of the route CA",
    );
    Ok(())
}

/// The certificate of that key, and where it lies.
fn cert_of(making: &Making<'_>, cluster: &str, id: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
    for file in [making.paths.cluster_ca_cert(cluster), making.paths.next_ca_cert(cluster)] {
        let text = making.batch.read(&file)?;
        if let Some(text) = text.filter(|text| public_of(text).is_some_and(|public| key_id(&public) == id)) {
            return Ok(Some((file, text)));
        }
    }
    Ok(None)
}

fn public_of(cert: &[u8]) -> Option<Vec<u8>> {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let der = super::one_certificate(cert).ok()?;
    let (_, x509) = X509Certificate::from_der(&der).ok()?;
    Some(x509.public_key().subject_public_key.data.to_vec())
}

fn is_key(text: &[u8], id: &str, public: &[u8]) -> bool {
    key::read(text, public).is_ok_and(|pair| key_id(pair.public_key_raw()) == id)
}

/// Removes a file for good, if it is there.
fn remove(file: &Path) -> Result<()> {
    let shown = Paths::shown(file);
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {shown}"));
        }
        _ => {}
    }
    let Some(dir) = file.parent().filter(|dir| dir.exists()) else { return Ok(()) };
    File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("syncing the directory of {shown}"))
}
