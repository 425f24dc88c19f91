//! A node's own certificates: what each must say, whether the one at hand still does, and a new one.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::random::Random;
use crate::topology::Node;

use super::ca::Ca;
use super::{BACKDATE, DAY, key, seconds, serial};

const LIFETIME: Duration = Duration::days(365);
const RENEW_WITHIN: Duration = Duration::days(30);
/// All leaves of a batch expire within so many days, none of two nodes on the same one.
const SPREAD_DAYS: i64 = 60;
const MOST_STEP_DAYS: i64 = 7;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Between the nodes: each is server and client.
    Route,
    /// To clients of the bus and of the API.
    Server,
}

/// A name or an address that a certificate is valid for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum San {
    Name(String),
    Address(IpAddr),
}

/// What a certificate must say.
pub(super) struct Wanted {
    kind: Kind,
    node: String,
    sans: BTreeSet<San>,
    not_after: OffsetDateTime,
}

/// A certificate with its key, both in PEM.
pub(super) struct Leaf {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Wanted {
    /// What the certificate of `node` must say, which is number `index` of `count`.
    pub(super) fn new(kind: Kind, node: &Node, index: usize, count: usize, ca: &Ca, now: OffsetDateTime) -> Self {
        let sans = BTreeSet::from([
            San::Address(node.public),
            San::Address(node.wg),
            San::Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            San::Name(node.name.clone()),
            San::Name("localhost".to_owned()),
        ]);
        let earlier = stagger(index, count);
        let not_after = seconds(now + LIFETIME - earlier).min(ca.not_after);
        Self { kind, node: node.name.clone(), sans, not_after }
    }

    /// Why the certificate at hand must be replaced, if so.
    pub(super) fn unfit(&self, cert: &[u8], key_text: &[u8], ca: &Ca, now: OffsetDateTime) -> Option<String> {
        let Ok(der) = super::one_certificate(cert) else {
            return Some("it was not readable".to_owned());
        };
        let Ok((_, x509)) = X509Certificate::from_der(&der) else {
            return Some("it was not readable".to_owned());
        };
        let public = x509.public_key().subject_public_key.data.as_ref();
        if key::read(key_text, public).map(|pair| pair.public_key_raw() != public).unwrap_or(true) {
            return Some("its key did not belong to it".to_owned());
        }
        if !signed_by(&x509, ca) {
            return Some("it was signed by another CA".to_owned());
        }
        if sans_of(&x509).as_ref() != Some(&self.sans) {
            return Some("the node's names or addresses changed".to_owned());
        }
        if !self.usage_fits(&x509) {
            return Some("it was made for another use".to_owned());
        }
        let until = x509.validity().not_after.to_datetime();
        // A CA near its own end cannot give more; renewing again and again would not help.
        let lasts_longer = self.not_after - until >= Duration::days(1);
        if until - now < RENEW_WITHIN && lasts_longer {
            let left = (until - now).whole_seconds().div_euclid(DAY);
            return Some(if left < 0 {
                format!("it expired on {}", until.date())
            } else {
                format!("it would have expired in {left} days")
            });
        }
        None
    }

    /// Until when a certificate lasts that is issued now.
    pub(super) fn until(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Makes the certificate, with a new key.
    pub(super) fn issue(&self, ca: &Ca, now: OffsetDateTime, random: &dyn Random) -> Result<Leaf> {
        let pair = KeyPair::generate().context("making a key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.node.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = self.usages();
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial(random)?);
        params.not_before = seconds(now - BACKDATE).max(ca.not_before);
        params.not_after = self.not_after;
        for san in &self.sans {
            params.subject_alt_names.push(match san {
                San::Name(name) => SanType::DnsName(name.as_str().try_into().context("a node's name")?),
                San::Address(address) => SanType::IpAddress(*address),
            });
        }
        let signed = params.signed_by(&pair, &ca.issuer).context("signing a certificate")?;
        let leaf = Leaf { cert: signed.pem(), key: pair.serialize_pem() };
        // The proof is the same that the next run asks for; a CA whose name cannot be reproduced is found here.
        match self.unfit(leaf.cert.as_bytes(), leaf.key.as_bytes(), ca, now) {
            None => Ok(leaf),
            Some(why) => bail!("the CA's name cannot be written as it stands there; what it signs is unusable: {why}"),
        }
    }

    fn usages(&self) -> Vec<ExtendedKeyUsagePurpose> {
        match self.kind {
            Kind::Route => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Kind::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        }
    }

    fn usage_fits(&self, x509: &X509Certificate<'_>) -> bool {
        let is_ca = x509.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca);
        let Ok(Some(extended)) = x509.extended_key_usage() else { return false };
        let client = self.kind == Kind::Route;
        !is_ca && extended.value.server_auth && extended.value.client_auth == client && !extended.value.any
    }
}

/// How much earlier than a year the certificates of node `index` expire.
fn stagger(index: usize, count: usize) -> Duration {
    let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let step = (SPREAD_DAYS / whole(count).max(1)).clamp(1, MOST_STEP_DAYS);
    Duration::days(step.saturating_mul(whole(index)))
}

fn signed_by(x509: &X509Certificate<'_>, ca: &Ca) -> bool {
    let Ok((_, authority)) = X509Certificate::from_der(&ca.der) else { return false };
    x509.issuer().as_raw() == authority.subject().as_raw()
        && x509.verify_signature(Some(authority.public_key())).is_ok()
}

fn sans_of(x509: &X509Certificate<'_>) -> Option<BTreeSet<San>> {
    let extension = x509.subject_alternative_name().ok()??;
    extension
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => Some(San::Name((*name).to_owned())),
            GeneralName::IPAddress(bytes) => address(bytes).map(San::Address),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::System;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
    }

    fn ca() -> Ca {
        Ca::make("test CA", now(), &System::new()).unwrap().ca
    }

    fn node(public: &str) -> Node {
        Node {
            name: "a".to_owned(),
            ssh: "a".to_owned(),
            public: public.parse().unwrap(),
            wg: "10.21.0.1".parse().unwrap(),
            seed: true,
        }
    }

    fn wanted(ca: &Ca, at: OffsetDateTime) -> Wanted {
        Wanted::new(Kind::Route, &node("192.0.2.1"), 0, 3, ca, at)
    }

    #[test]
    fn a_leaf_is_kept_until_a_month_before_its_end() {
        let ca = ca();
        let leaf = wanted(&ca, now()).issue(&ca, now(), &System::new()).unwrap();
        let unfit = |days: i64| {
            let then = now() + Duration::days(days);
            wanted(&ca, then).unfit(leaf.cert.as_bytes(), leaf.key.as_bytes(), &ca, then)
        };
        assert_eq!(unfit(0), None);
        assert_eq!(unfit(335), None);
        assert!(unfit(336).unwrap().contains("29 days"));
        assert!(unfit(366).unwrap().contains("expired on"));
    }

    #[test]
    fn no_leaf_outlives_its_ca_nor_is_renewed_in_vain() {
        let ca = ca();
        let late = now() + Duration::days(3640);
        let wanted = wanted(&ca, late);
        assert_eq!(wanted.until(), ca.not_after);
        let leaf = wanted.issue(&ca, late, &System::new()).unwrap();
        assert_eq!(wanted.unfit(leaf.cert.as_bytes(), leaf.key.as_bytes(), &ca, late), None);
    }

    #[test]
    fn every_difference_is_seen() {
        let (own, other) = (ca(), ca());
        let leaf = wanted(&own, now()).issue(&own, now(), &System::new()).unwrap();
        let next = wanted(&own, now()).issue(&own, now(), &System::new()).unwrap();
        let (cert, key) = (leaf.cert.as_bytes(), leaf.key.as_bytes());
        let moved = Wanted::new(Kind::Route, &node("192.0.2.2"), 0, 3, &own, now());
        let server = Wanted::new(Kind::Server, &node("192.0.2.1"), 0, 3, &own, now());
        let why = |wanted: &Wanted, cert: &[u8], key: &[u8], ca: &Ca| wanted.unfit(cert, key, ca, now()).unwrap();
        assert!(why(&moved, cert, key, &own).contains("addresses"));
        assert!(why(&server, cert, key, &own).contains("another use"));
        assert!(why(&wanted(&own, now()), cert, key, &other).contains("another CA"));
        assert!(why(&wanted(&own, now()), cert, next.key.as_bytes(), &own).contains("key"));
        assert!(why(&wanted(&own, now()), b"x", key, &own).contains("readable"));
    }

    #[test]
    fn nodes_expire_on_different_days() {
        for count in [3, 5, 7, 61, 201] {
            let days: BTreeSet<i64> = (0..count).map(|index| stagger(index, count).whole_days()).collect();
            assert_eq!(days.len(), count);
        }
        assert_eq!(stagger(2, 3), Duration::days(14));
    }
}
