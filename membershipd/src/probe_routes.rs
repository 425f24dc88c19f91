//! Proof that the routes of this node would stand if they had to be made now: a fresh handshake with every other node.
//!
//! Routes that stand prove nothing about certificates: the engine keeps them when files change. So each address of the
//! configuration is dialled, with the certificate, key and CA as they lie in their files at this moment.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use data_encoding::HEXLOWER;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::{Cluster, TlsFiles};
use unibus_core::clock;
use unibus_core::private_file;

/// Time for one node to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest introduction of an engine, bytes.
const INTRODUCTION: usize = 64 * 1024;

/// What one address answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Probed {
    /// The address, as configured.
    pub address: SocketAddr,
    /// Name of the node that answered.
    pub node: Option<String>,
    /// Whether both sides accepted each other.
    pub ok: bool,
    /// Distinguished name of who signed its certificate.
    pub issuer: Option<String>,
    /// sha256 of the certificate of the CA, of those that we trust, that signed it.
    pub ca_sha256: Option<String>,
    /// When its certificate ends, seconds since 1970.
    pub not_after_unix: Option<i64>,
    /// The same, RFC 3339.
    pub not_after: Option<String>,
    /// sha256 of its certificate.
    pub sha256: Option<String>,
    /// Why not.
    pub error: Option<String>,
}

/// Dials every other node of `cluster`, all at once.
pub async fn probe(cluster: &Cluster) -> Vec<Probed> {
    let dials = cluster.routes.iter().map(|address| {
        let (address, files) = (*address, cluster.tls.clone());
        tokio::task::spawn_blocking(move || one(address, &files))
    });
    let answers = futures::future::join_all(dials).await;
    let broken = |address: &SocketAddr| failed(*address, "the probe broke".to_owned());
    cluster.routes.iter().zip(answers).map(|(address, answer)| answer.unwrap_or_else(|_| broken(address))).collect()
}

fn one(address: SocketAddr, files: &TlsFiles) -> Probed {
    let mut probed = failed(address, String::new());
    probed.error = handshake(&mut probed, files).err().map(|error| format!("{error:#}"));
    probed.ok = probed.error.is_none();
    probed
}

fn failed(address: SocketAddr, error: String) -> Probed {
    Probed {
        address,
        node: None,
        ok: false,
        issuer: None,
        ca_sha256: None,
        not_after_unix: None,
        not_after: None,
        sha256: None,
        error: Some(error),
    }
}

/// Fills in what is learned, up to where it fails.
fn handshake(probed: &mut Probed, files: &TlsFiles) -> Result<()> {
    let (config, authorities) = trust(files)?;
    let deadline = Instant::now() + PATIENCE;
    let mut tcp = TcpStream::connect_timeout(&probed.address, PATIENCE).context("cannot connect")?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    let mut session = ClientConnection::new(config, ServerName::from(probed.address.ip()))?;
    // On a route port TLS comes first, and only then the introduction (nats-server `server/route.go`, createRoute).
    while session.is_handshaking() {
        session.complete_io(&mut tcp).context("no handshake")?;
    }
    if let Some(leaf) = session.peer_certificates().and_then(<[_]>::first) {
        describe(probed, leaf, &authorities)?;
    }
    // It introduces itself once it has accepted our certificate; in TLS 1.3 a refusal comes only after our own handshake.
    let line = introduction(&mut Stream::new(&mut session, &mut tcp), deadline)
        .context("the other side did not accept our certificate, or is no engine")?;
    let info: Info = serde_json::from_str(&line).context("its introduction is not understood")?;
    probed.node = Some(info.server_name);
    session.send_close_notify();
    let _ = session.write_tls(&mut tcp).and_then(|_| tcp.flush());
    Ok(())
}

#[derive(Deserialize)]
struct Info {
    server_name: String,
}

/// The JSON of the first line, `INFO {…}`.
fn introduction(stream: &mut impl Read, deadline: Instant) -> Result<String> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    while !line.contains(&b'\n') {
        if line.len() > INTRODUCTION || Instant::now() > deadline {
            bail!("no introduction came");
        }
        match stream.read(&mut piece)? {
            0 => bail!("it hung up"),
            read => line.extend(piece.iter().take(read)),
        }
    }
    let line = String::from_utf8(line).context("no text came")?;
    let json = line.strip_prefix("INFO ").and_then(|rest| rest.lines().next()).context("no introduction came")?;
    Ok(json.to_owned())
}

fn describe(probed: &mut Probed, leaf: &CertificateDer<'_>, authorities: &[CertificateDer<'_>]) -> Result<()> {
    probed.sha256 = Some(HEXLOWER.encode(&Sha256::digest(leaf)));
    let (_, parsed) = X509Certificate::from_der(leaf).context("its certificate is not readable")?;
    let not_after = parsed.validity().not_after.timestamp();
    probed.not_after_unix = Some(not_after);
    probed.not_after = Some(clock::rfc3339(not_after));
    probed.issuer = Some(parsed.issuer().to_string());
    // By signature and not by name: while a CA is replaced, the old and the new one may have the same.
    let signed = |ca: &&CertificateDer<'_>| {
        X509Certificate::from_der(ca).is_ok_and(|(_, ca)| parsed.verify_signature(Some(ca.public_key())).is_ok())
    };
    probed.ca_sha256 = authorities.iter().find(signed).map(|ca| HEXLOWER.encode(&Sha256::digest(ca)));
    Ok(())
}

/// Our side of the handshake, and the CAs that we trust.
fn trust(files: &TlsFiles) -> Result<(Arc<ClientConfig>, Vec<CertificateDer<'static>>)> {
    let certificates = |path: &Path| -> Result<Vec<_>> {
        let of = CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {}", path.display()))?;
        of.collect::<Result<_, _>>().with_context(|| format!("{} does not hold certificates in PEM", path.display()))
    };
    let (chain, authorities) = (certificates(&files.cert)?, certificates(&files.ca)?);
    let key = PrivateKeyDer::from_pem_slice(private_file::read(&files.key)?.expose_secret().as_bytes())
        .with_context(|| format!("{} does not hold a private key in PEM", files.key.display()))?;
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).with_context(|| format!("{} does not hold a CA", files.ca.display()))?;
    }
    let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .with_context(|| format!("{} is not the key of {}", files.key.display(), files.cert.display()))?;
    Ok((Arc::new(config), authorities))
}
