//! Certificate authorities: made here, or made by openssl and proved fit before they sign anything.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;

use crate::exit::BadInput;
use crate::hash::sha256;
use crate::paths::Paths;
use crate::random::Random;

use super::{BACKDATE, DAY, key, seconds, serial};

const LIFETIME: Duration = Duration::days(3650);
/// When the operator is told that a CA is getting old: a leaf of full length would outlive it.
const OLD: Duration = Duration::days(400);

/// A certificate authority that may sign.
pub(super) struct Ca {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) der: Vec<u8>,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

/// A CA with the two files that hold it.
pub(super) struct Made {
    pub(super) ca: Ca,
    pub(super) cert: String,
    pub(super) key: String,
}

impl Ca {
    /// Makes a CA of that name with a new key.
    pub(super) fn make(name: &str, now: OffsetDateTime, random: &dyn Random) -> Result<Made> {
        let key = KeyPair::generate().context("making a key")?;
        Self::make_for(name, key, now, random)
    }

    /// Makes a route CA with a new key.
    pub(super) fn make_route(cluster: &str, now: OffsetDateTime, random: &dyn Random) -> Result<Made> {
        let key = KeyPair::generate().context("making a key")?;
        Self::make_for(&route_name(cluster, &key), key, now, random)
    }

    fn make_for(name: &str, key: KeyPair, now: OffsetDateTime, random: &dyn Random) -> Result<Made> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial(random)?);
        params.not_before = seconds(now - BACKDATE);
        params.not_after = seconds(now + LIFETIME);
        let (not_before, not_after) = (params.not_before, params.not_after);
        let signed = params.self_signed(&key).context("signing a CA certificate")?;
        let (cert, key_text, der) = (signed.pem(), key.serialize_pem(), signed.der().to_vec());
        let ca = Self { issuer: Issuer::new(params, key), der, not_before, not_after };
        Ok(Made { ca, cert, key: key_text })
    }

    /// Makes a route CA's certificate again for a key that outlived it. Its name and key are the same, so what it signed
    /// stays valid.
    pub(super) fn remake(
        cluster: &str,
        key_text: &[u8],
        key_file: &Path,
        now: OffsetDateTime,
        random: &dyn Random,
    ) -> Result<Made> {
        let key =
            key::read(key_text, &[]).map_err(|why| BadInput::new(format!("{}: {why}", Paths::shown(key_file))))?;
        Self::make_for(&route_name(cluster, &key), key, now, random)
    }

    /// Reads a CA and proves that it is one, is valid now, and that key and certificate belong together.
    pub(super) fn load(cert: (&Path, &[u8]), key: (&Path, &[u8]), now: OffsetDateTime) -> Result<Self> {
        let (cert_file, key_file) = (Paths::shown(cert.0), Paths::shown(key.0));
        let refuse = |why: String| BadInput::new(format!("{cert_file}: {why}"));
        let der = super::one_certificate(cert.1).map_err(&refuse)?;
        let (_, x509) = X509Certificate::from_der(&der).map_err(|_| refuse("not a valid certificate".to_owned()))?;
        unfit(&x509, now).map_or(Ok(()), |why| Err(refuse(why)))?;
        let public = x509.public_key().subject_public_key.data.as_ref();
        let pair = key::read(key.1, public).map_err(|why| BadInput::new(format!("{key_file}: {why}")))?;
        if pair.public_key_raw() != public {
            return Err(BadInput::new(format!("{key_file} is not the key of {cert_file}; they must belong together")));
        }
        if !self_signed(&x509) {
            return Err(refuse("not self-signed: who trusts this file alone would refuse what it signs".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&der.as_slice().into(), pair)
            .map_err(|error| refuse(format!("its name or extensions cannot be used to sign: {error}")))?;
        let (not_before, not_after) =
            (x509.validity().not_before.to_datetime(), x509.validity().not_after.to_datetime());
        Ok(Self { issuer, der, not_before, not_after })
    }

    /// What the operator should know about its age.
    pub(super) fn aging(&self, now: OffsetDateTime) -> Option<String> {
        let left = self.not_after - now;
        (left < OLD).then(|| format!("expires on {}, in {} days", self.not_after.date(), left.whole_seconds() / DAY))
    }

    /// The public key, to tell CAs apart.
    pub(super) fn public(&self) -> &[u8] {
        self.issuer.key().public_key_raw()
    }
}

/// Two route CAs of a cluster differ in name, so that whoever reads an issuer knows which it is; and the name follows from
/// the key, so that the key alone brings it back.
fn route_name(cluster: &str, key: &KeyPair) -> String {
    const DIGITS: usize = 8;
    let digits: String = key_id(key.public_key_raw()).chars().take(DIGITS).collect();
    format!("unibus route CA of {cluster}, {digits}")
}

/// Names a key by its public half.
pub(super) fn key_id(public: &[u8]) -> String {
    sha256(public)
}

/// Why a certificate is no CA that may sign now.
fn unfit(x509: &X509Certificate<'_>, now: OffsetDateTime) -> Option<String> {
    let (from, until) = (x509.validity().not_before.to_datetime(), x509.validity().not_after.to_datetime());
    let constraints = x509.basic_constraints().ok().flatten();
    let usage = x509.key_usage().ok().flatten();
    let extended = x509.extended_key_usage().ok().flatten();
    if !constraints.is_some_and(|basic| basic.value.ca) {
        return Some("not a CA certificate (basicConstraints lacks CA:TRUE)".to_owned());
    }
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Some("this CA may not sign certificates (keyUsage lacks keyCertSign)".to_owned());
    }
    if extended.is_some_and(|extended| !extended.value.any && !extended.value.server_auth) {
        return Some("this CA may not sign server certificates (extendedKeyUsage lacks serverAuth)".to_owned());
    }
    // What is signed under it is refused by most where a name or an address is not permitted (RFC 5280 section 4.2.1.10), and nodes have
    // both, of loopback too.
    if !matches!(x509.name_constraints(), Ok(None)) {
        return Some(
            "this CA has name constraints (nameConstraints), under which the names and addresses of nodes are refused (openssl: error 47); \
             bring a CA without them, or let one be made: cargo xtask client-ca"
                .to_owned(),
        );
    }
    if now >= until {
        return Some(format!("this CA expired on {}", until.date()));
    }
    if now < from {
        return Some(format!("this CA is valid only from {}; is this machine's clock right?", from.date()));
    }
    None
}

/// Whether who trusts this certificate alone trusts what it signs.
fn self_signed(x509: &X509Certificate<'_>) -> bool {
    let broken = match x509.verify_signature(None) {
        // Its own signature may be of a kind that only openssl still reads; nobody relies on it.
        Ok(()) | Err(X509Error::SignatureUnsupportedAlgorithm) => false,
        Err(_) => true,
    };
    x509.subject().as_raw() == x509.issuer().as_raw() && !broken
}
