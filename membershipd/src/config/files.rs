//! The files behind a configuration: certificates with their keys, nkey seeds, the route password.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use nkeys::{KeyPair, KeyPairType, XKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use unibus_names::text::without_bom;
use unibus_names::{CLUSTER_PASS_DIGITS, secret_files};

use super::errors::ConfigErrors;
use secrecy::{ExposeSecret, SecretString};
use unibus_core::private_file;

/// The one of these files that the engine does not read.
const CLIENT_CA_FLAG: &str = "--tls-ca";

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsPurpose {
    /// Clients and the API.
    DataPlane,
    /// Between nodes.
    Routes,
}

impl TlsPurpose {
    fn flags(self) -> [&'static str; 3] {
        match self {
            TlsPurpose::DataPlane => ["--tls-cert", "--tls-key", CLIENT_CA_FLAG],
            TlsPurpose::Routes => ["--route-cert", "--route-key", "--route-ca"],
        }
    }

    fn required(self) -> bool {
        self == TlsPurpose::Routes
    }
}

/// A certificate with its key and the CA that signed it; proven to fit together when loaded.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The CA, PEM. While a CA is being replaced: the old and the new one.
    pub ca: PathBuf,
    /// When the certificate ends, seconds since 1970.
    pub not_after_unix: i64,
    /// When the first of the CAs ends, seconds since 1970.
    pub ca_not_after_unix: i64,
    /// sha256 of the certificate as it was loaded, lower-case hex.
    pub sha256: String,
    /// sha256 of each CA as it was loaded.
    pub ca_sha256: Vec<String>,
    /// Hosts that the certificate is for, as they stand in a URL: names and addresses, an IPv6 one in brackets.
    pub hosts: Vec<String>,
}

impl TlsFiles {
    /// Checks a group of three flags: all or none, and that what they name belongs together.
    pub(super) fn group(
        e: &mut ConfigErrors,
        purpose: TlsPurpose,
        files: [Option<PathBuf>; 3],
        now_unix: i64,
    ) -> Option<Self> {
        let flags = purpose.flags();
        if files.iter().all(Option::is_none) && !purpose.required() {
            return None;
        }
        for (flag, _) in flags.iter().zip(&files).filter(|(_, file)| file.is_none()) {
            e.add(
                flag,
                "missing: half a TLS configuration protects nobody",
                format!("give all of {}", flags.join(", ")),
            );
        }
        let [Some(cert), Some(key), Some(ca)] = files else { return None };
        let [cert_flag, key_flag, ca_flag] = flags;
        let remedy = "run 'cargo xtask cluster-certs' and ship the result to the node";
        let leaf = certificates(e, cert_flag, &cert, remedy).and_then(|all| all.into_iter().next());
        let leaf = leaf.filter(|leaf| in_time(e, cert_flag, &cert, leaf, now_unix, remedy));
        let authorities = certificates(e, ca_flag, &ca, remedy);
        let key_text = private_file::read(&key).map_err(|error| e.add(key_flag, error, remedy)).ok();
        let key_der = key_text.and_then(|text| {
            if text.expose_secret().starts_with('\u{feff}') {
                bom(e, key_flag, &key);
                return None;
            }
            PrivateKeyDer::from_pem_slice(text.expose_secret().as_bytes())
                .map_err(|_| e.add(key_flag, format!("{} holds no private key in PEM", key.display()), remedy))
                .ok()
        });
        let (leaf, authorities, key_der) = (leaf?, authorities?, key_der?);
        let provider = rustls::crypto::ring::default_provider();
        let fits = provider
            .key_provider
            .load_private_key(key_der)
            .map(|signer| rustls::sign::CertifiedKey::new(vec![leaf.der.clone()], signer))
            .and_then(|certified| certified.keys_match());
        if let Err(error) = fits {
            let problem = format!("{} is not the key of {}: {error}", key.display(), cert.display());
            e.add(key_flag, problem, remedy);
            return None;
        }
        let Some(signer) = authorities.iter().find(|authority| signed_by(&leaf.der, &authority.der)) else {
            let problem = format!("{} was not signed by the CA in {}", cert.display(), ca.display());
            e.add(cert_flag, problem, remedy);
            return None;
        };
        // Another one beside it may have ended: it is on its way out, and the posture tells when it ends.
        if !in_time(e, ca_flag, &ca, signer, now_unix, remedy) {
            return None;
        }
        let ca_not_after_unix =
            authorities.iter().map(|authority| authority.not_after).min().unwrap_or(signer.not_after);
        let ca_sha256 = authorities.iter().map(Loaded::sha256).collect();
        let (not_after_unix, sha256, hosts) = (leaf.not_after, leaf.sha256(), hosts(&leaf.der));
        Some(Self { cert, key, ca, not_after_unix, ca_not_after_unix, sha256, ca_sha256, hosts })
    }

    /// The same files as they are now, checked again; what is wrong with them where they do not fit together.
    pub fn again(&self, now_unix: i64) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let files = [&self.cert, &self.key, &self.ca].map(|file| Some(file.clone()));
        Self::group(&mut errors, TlsPurpose::DataPlane, files, now_unix).ok_or(errors)
    }

    /// Server side of TLS for the API, from the files as they are now.
    pub fn server_config(&self) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let chain = CertificateDer::pem_file_iter(&self.cert)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(private_file::read(&self.key)?.expose_secret().as_bytes())?;
        let mut config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

struct Loaded {
    der: CertificateDer<'static>,
    not_before: i64,
    not_after: i64,
}

impl Loaded {
    fn sha256(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(&self.der))
    }
}

/// Every certificate of a file: there is at least one, and each is readable.
fn certificates(e: &mut ConfigErrors, flag: &'static str, path: &Path, remedy: &str) -> Option<Vec<Loaded>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            e.add(flag, format!("cannot read {}: {error}", path.display()), remedy);
            return None;
        }
    };
    let pem = without_bom(&text);
    if pem.len() < text.len() && flag != CLIENT_CA_FLAG {
        bom(e, flag, path);
        return None;
    }
    let ders = match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(ders) if !ders.is_empty() => ders,
        Ok(_) | Err(_) => {
            e.add(flag, format!("{} holds no certificate in PEM", path.display()), remedy);
            return None;
        }
    };
    let loaded = ders.into_iter().map(|der| {
        let validity = X509Certificate::from_der(&der).ok().map(|(_, parsed)| parsed.validity().clone())?;
        Some(Loaded { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp(), der })
    });
    let loaded: Option<Vec<Loaded>> = loaded.collect();
    if loaded.is_none() {
        e.add(flag, format!("{} holds no readable X.509 certificate", path.display()), remedy);
    }
    loaded
}

/// The engine reads the file, too, and finds nothing in it.
fn bom(e: &mut ConfigErrors, flag: &'static str, path: &Path) {
    let problem = format!("{}:1: begins with a byte order mark, which the engine does not understand", path.display());
    e.add(flag, problem, "save it as UTF-8 without one: sed -i '1s/^\\xef\\xbb\\xbf//' FILE");
}

fn in_time(e: &mut ConfigErrors, flag: &'static str, path: &Path, loaded: &Loaded, now: i64, remedy: &str) -> bool {
    if now > loaded.not_after {
        let ended = unibus_core::clock::rfc3339(loaded.not_after);
        e.add(flag, format!("the certificate in {} expired on {ended}", path.display()), remedy);
        return false;
    }
    if now < loaded.not_before {
        let begins = unibus_core::clock::rfc3339(loaded.not_before);
        let problem = format!("the certificate in {} is not valid before {begins}", path.display());
        e.add(flag, problem, "check this machine's clock");
        return false;
    }
    true
}

/// What the certificate is for (RFC 5280 section 4.2.1.6). Names in another form than a client may ask for are left out.
fn hosts(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let names = parsed.subject_alternative_name().ok().flatten();
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).ok().map(|octets| Ipv4Addr::from(octets).to_string());
            v4.or_else(|| Some(format!("[{}]", Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?))))
        }
        _ => None,
    };
    names.map(|names| names.value.general_names.iter().filter_map(host).collect()).unwrap_or_default()
}

fn signed_by(leaf: &CertificateDer<'_>, authority: &CertificateDer<'_>) -> bool {
    let (Ok((_, leaf)), Ok((_, authority))) = (X509Certificate::from_der(leaf), X509Certificate::from_der(authority))
    else {
        return false;
    };
    authority.is_ca() && leaf.verify_signature(Some(authority.public_key())).is_ok()
}

/// Keys of the daemon in its engine. The callout issuer and xkey are the same on all nodes.
#[derive(Debug)]
pub struct Secrets {
    /// Signs what the engine is told about a connection.
    pub issuer: KeyPair,
    /// Decrypts what the engine asks.
    pub xkey: XKey,
    /// The daemon in the account of the callout.
    pub callout: KeyPair,
    /// The daemon in the account of the buckets.
    pub control: KeyPair,
    /// The daemon in the system account.
    pub system: KeyPair,
    /// The daemon among the members.
    pub bus: KeyPair,
}

const SEEDS_REMEDY: &str = "run 'cargo xtask secrets' and ship the result to the node";

impl Secrets {
    /// Reads the seeds in `directory`.
    pub(super) fn load(e: &mut ConfigErrors, directory: &Path) -> Option<Self> {
        let issuer = nkey(e, &directory.join(secret_files::ISSUER), KeyPairType::Account);
        let xkey = seed(e, &directory.join(secret_files::XKEY)).and_then(|(path, seed)| {
            XKey::from_seed(seed.expose_secret())
                .map_err(|_| e.add(SECRETS_FLAG, format!("{} holds no curve seed (SX…)", path.display()), SEEDS_REMEDY))
                .ok()
        });
        let mut user = |name| nkey(e, &directory.join(name), KeyPairType::User);
        let (callout, control) = (user(secret_files::CALLOUT), user(secret_files::CONTROL));
        let (system, bus) = (user(secret_files::SYSTEM), user(secret_files::BUS));
        Some(Self { issuer: issuer?, xkey: xkey?, callout: callout?, control: control?, system: system?, bus: bus? })
    }

    /// Keys for one run of a node on its own.
    pub(super) fn ephemeral() -> Option<Self> {
        Some(Self {
            issuer: KeyPair::new_account(),
            xkey: XKey::new(),
            callout: KeyPair::new_user(),
            control: KeyPair::new_user(),
            system: KeyPair::new_user(),
            bus: KeyPair::new_user(),
        })
    }
}

const SECRETS_FLAG: &str = "--secrets-dir";

fn seed(e: &mut ConfigErrors, path: &Path) -> Option<(PathBuf, SecretString)> {
    private_file::read(path)
        .map(|text| (path.to_owned(), said(&text).into()))
        .map_err(|error| e.add(SECRETS_FLAG, error, SEEDS_REMEDY))
        .ok()
}

/// What a file of one line says, also where it came through an editor of another system.
fn said(text: &SecretString) -> &str {
    let text = text.expose_secret();
    text.strip_prefix('\u{feff}').unwrap_or(text).trim()
}

fn nkey(e: &mut ConfigErrors, path: &Path, kind: KeyPairType) -> Option<KeyPair> {
    let (path, seed) = seed(e, path)?;
    let pair = KeyPair::from_seed(seed.expose_secret()).ok().filter(|pair| pair.key_pair_type() == kind);
    if pair.is_none() {
        let want = if kind == KeyPairType::Account { "an account (SA…)" } else { "a user (SU…)" };
        e.add(SECRETS_FLAG, format!("{} does not hold the nkey seed of {want}", path.display()), SEEDS_REMEDY);
    }
    pair
}

/// Reads the password of the route layer: 64 hexadecimal digits.
pub(super) fn read_route_password(e: &mut ConfigErrors, path: Option<PathBuf>) -> Option<SecretString> {
    const FLAG: &str = "--cluster-pass-file";
    let Some(path) = path else {
        e.add(FLAG, "a cluster without a route secret is open to its network", SEEDS_REMEDY);
        return None;
    };
    let text = private_file::read(&path).map_err(|error| e.add(FLAG, error, SEEDS_REMEDY)).ok()?;
    let pass = said(&text);
    if pass.len() == CLUSTER_PASS_DIGITS && pass.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(pass.into());
    }
    e.add(FLAG, format!("{} does not hold {CLUSTER_PASS_DIGITS} hexadecimal digits", path.display()), SEEDS_REMEDY);
    None
}
