//! Whom a connection of unibus trusts: one CA, or none at all.
//!
//! Here belongs how the client's side of TLS is set up, the same for the bus and for the API. Never here: a server's certificates,
//! a socket.

use std::path::Path;

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use unibus_names::text::without_bom;

/// TLS that trusts the CAs in the file `ca`, and no others.
///
/// # Errors
/// The file cannot be read, or is not one of certificates in PEM.
pub fn trusting(ca: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let text = std::fs::read(ca).with_context(|| format!("cannot read the CA {}", ca.display()))?;
    for certificate in CertificateDer::pem_slice_iter(without_bom(&text)) {
        roots.add(certificate?).with_context(|| format!("{} is not a CA", ca.display()))?;
    }
    with_roots(roots)
}

/// TLS that trusts no certificate, for a client that only speaks to this machine without TLS.
///
/// # Errors
/// The library has no version of TLS to offer.
pub fn trusting_none() -> Result<ClientConfig> {
    with_roots(RootCertStore::empty())
}

fn with_roots(roots: RootCertStore) -> Result<ClientConfig> {
    Ok(ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
