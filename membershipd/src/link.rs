//! The daemon's connections to its own engine, one in each account that it needs. They live and end together.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::client::RequestErrorKind;
use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::bus;
use crate::config::Config;

/// Connections to one incarnation of the engine.
#[derive(Debug)]
pub struct Link {
    /// In the callout account.
    pub callout: Client,
    /// In the account of the buckets.
    pub control: Client,
    /// JetStream through `control`, with short time-outs.
    pub jetstream: jetstream::Context,
    /// In the system account.
    pub system: Client,
    /// Among the members, whom it tells events.
    pub bus: Client,
    /// Id of the engine (`N…`).
    pub server: String,
    /// Cancelled when any of the connections is lost.
    pub lost: CancellationToken,
}

impl Link {
    /// Connects all accounts; fails if any does.
    pub async fn connect(config: &Config) -> Result<Self> {
        let lost = CancellationToken::new();
        let secrets = &config.secrets;
        let own = SocketAddr::new(config.own_address(), config.ports.client).to_string();
        let ca = config.tls.as_ref().map(|tls| &*tls.ca);
        let callout = connect(&own, ca, "callout", &secrets.callout, &lost).await?;
        let control = connect(&own, ca, "control", &secrets.control, &lost).await?;
        let system = connect(&own, ca, "system", &secrets.system, &lost).await?;
        let bus = connect(&own, ca, "bus", &secrets.bus, &lost).await?;
        let server = system.server_info().server_id;
        let mut jetstream = jetstream::new(control.clone());
        jetstream.set_timeout(bus::ATTEMPT);
        Ok(Self { callout, control, jetstream, system, bus, server, lost })
    }

    /// A connection to the buckets alone, through any engine, for a tool that copies them. It stands in the other accounts'
    /// place too: of those nothing is asked.
    pub async fn to_buckets(host: &str, port: u16, ca: Option<&Path>, key: &nkeys::KeyPair) -> Result<Self> {
        let lost = CancellationToken::new();
        let control = connect(&format!("{host}:{port}"), ca, "control", key, &lost).await?;
        let mut jetstream = jetstream::new(control.clone());
        jetstream.set_timeout(bus::ATTEMPT);
        let server = control.server_info().server_id;
        let [callout, system, bus] = [(); 3].map(|()| control.clone());
        Ok(Self { callout, control, jetstream, system, bus, server, lost })
    }

    /// Asks this node's engine on the system account.
    pub async fn ask(&self, what: &str, body: serde_json::Value) -> Result<serde_json::Value> {
        self.ask_at(format!("$SYS.REQ.SERVER.{}.{what}", self.server), what, body).await
    }

    /// Asks the engine of a node of the cluster by its name.
    pub async fn ask_node(&self, node: &str, what: &str, mut body: serde_json::Value) -> Result<serde_json::Value> {
        if let Some(map) = body.as_object_mut() {
            // Whoever has another name stays silent.
            map.insert("server_name".to_owned(), node.into());
        }
        self.ask_at(format!("$SYS.REQ.SERVER.PING.{what}"), what, body).await
    }

    async fn ask_at(&self, subject: String, what: &str, body: serde_json::Value) -> Result<serde_json::Value> {
        let answer = tokio::time::timeout(bus::ASK, self.system.request(subject, body.to_string().into()))
            .await
            .with_context(|| format!("the engine did not answer {what} in time"))?
            .with_context(|| format!("the engine did not answer {what}"))?;
        serde_json::from_slice(&answer.payload).with_context(|| format!("the engine's answer to {what} is no JSON"))
    }
}

async fn connect(
    address: &str,
    ca: Option<&Path>,
    role: &str,
    key: &nkeys::KeyPair,
    lost: &CancellationToken,
) -> Result<Client> {
    let on_event = lost.clone();
    let mut options = ConnectOptions::with_nkey(key.seed()?)
        .name(format!("membershipd {role}"))
        .ignore_discovered_servers()
        .connection_timeout(bus::ASK)
        // Each request names its own patience.
        .request_timeout(None)
        .ping_interval(Duration::from_secs(5))
        // A burst of entries or requests must not be dropped on our side.
        .subscription_capacity(1 << 18)
        .max_reconnects(1)
        .event_callback(move |event| {
            let lost = on_event.clone();
            async move {
                match event {
                    // A new connection would be to an engine whose id, and so whose requests, may differ.
                    Event::Disconnected | Event::Closed => lost.cancel(),
                    Event::SlowConsumer(_) => {
                        tracing::warn!("the daemon could not keep up with its engine");
                        lost.cancel();
                    }
                    other => tracing::debug!("engine connection: {other}"),
                }
            }
        });
    if let Some(ca) = ca {
        options = options.require_tls(true).tls_client_config(trusting(ca)?);
    }
    let scheme = if ca.is_some() { "tls" } else { "nats" };
    let client = options
        .connect(format!("{scheme}://{address}"))
        .await
        .with_context(|| format!("cannot connect to the engine at {address} as {role}"))?;
    // An early Ok of connect() is no proof of an admission, and flush() only empties our own buffer: that the engine says
    // that nobody answers proves it.
    let asked = tokio::time::timeout(bus::ASK, client.request(bus::NOBODY, Bytes::new())).await;
    match asked.map(|answer| answer.map_err(|error| error.kind())) {
        Ok(Err(RequestErrorKind::NoResponders)) if !lost.is_cancelled() => Ok(client),
        _ => bail!("the engine at {address} did not admit the daemon as {role}"),
    }
}

/// TLS that trusts this CA and nobody else.
pub(crate) fn trusting(ca: &Path) -> Result<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_file_iter(ca)
        .with_context(|| format!("cannot read the CA {}", ca.display()))?
    {
        roots.add(certificate?).with_context(|| format!("{} is not a CA", ca.display()))?;
    }
    Ok(rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
