//! The bare engine: inserts into a stream of our own, connections of a key that it knows, round trips.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, HeaderMap};
use bytes::Bytes;
use futures::StreamExt;

use super::Node;
use super::drive::Next;

/// The stream, in the account of the buckets; what a bench that was killed left behind is used again.
const STREAM: &str = "UNIBUS_bench";
const SUBJECTS: &str = "unibus.bench";
/// What is inserted, bytes; about as much as a nonce and its headers.
const VALUE: [u8; 64] = [b'.'; 64];
/// Tries at one connection.
const TRIES: u32 = 5;
/// Patience with the engine.
const WAIT: Duration = Duration::from_secs(5);

/// Ways to a node's engine.
pub(super) struct Raw {
    address: String,
    seed: String,
    tls: Option<rustls::ClientConfig>,
    client: Client,
    next: AtomicU64,
}

impl Raw {
    /// Connects with the daemon's own key to the engine of the node that is so configured, and makes the stream there.
    pub(super) async fn open(node: &Node) -> Result<Self> {
        let address = SocketAddr::new(node.address, node.client_port).to_string();
        let seed = node.control.seed()?;
        let tls = node.ca.as_deref().map(unibus_tls::trusting).transpose()?;
        let client = options(&seed, tls.as_ref()).connect(&*address).await;
        let client = client.with_context(|| format!("cannot connect to the engine of {} at {address}", node.name))?;
        let jetstream = jetstream::new(client.clone());
        let settings = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{SUBJECTS}.>")],
            storage: stream::StorageType::File,
            num_replicas: node.copies,
            max_messages_per_subject: 1,
            discard: stream::DiscardPolicy::New,
            ..Default::default()
        };
        let made = jetstream.get_or_create_stream(settings).await;
        let stream = made.with_context(|| format!("cannot make the stream {STREAM} on {}", node.name))?;
        stream.purge().await.with_context(|| format!("cannot empty {STREAM}"))?;
        Ok(Self { address, seed, tls, client, next: AtomicU64::new(0) })
    }

    /// Inserts one message where there is none.
    pub(super) async fn insert(&self) -> Result<Next> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        let request =
            self.client.request_with_headers(format!("{SUBJECTS}.{number}"), headers, Bytes::from_static(&VALUE));
        let answer = tokio::time::timeout(WAIT, request).await.context("the engine did not answer an insert")??;
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).context("an answer that is no JSON")?;
        match answer.get("error") {
            Some(error) => bail!("the engine refused an insert: {error}"),
            None => Ok(Next::More),
        }
    }

    /// Makes a connection of a key that the engine knows, for one round trip.
    pub(super) async fn connect(&self) -> Result<Next> {
        served(|| connected(options(&self.seed, self.tls.as_ref()), &self.address), "_INBOX.bench").await
    }

    /// Removes the stream.
    pub(super) async fn close(&self) -> Result<()> {
        let removed = jetstream::new(self.client.clone()).delete_stream(STREAM).await;
        removed.map(drop).with_context(|| format!("cannot remove {STREAM}; the next bench uses it again"))
    }
}

/// How everybody here connects.
pub(super) fn options(seed: &str, tls: Option<&rustls::ClientConfig>) -> ConnectOptions {
    let options = ConnectOptions::with_nkey(seed.to_owned())
        .name("membershipd bench")
        .ignore_discovered_servers()
        .connection_timeout(WAIT)
        .max_reconnects(1);
    match tls {
        Some(tls) => options.require_tls(true).tls_client_config(tls.clone()),
        None => options,
    }
}

/// A connection to the engine at `address`.
pub(super) async fn connected(options: ConnectOptions, address: &str) -> Result<Client> {
    options.connect(address).await.with_context(|| format!("cannot connect to the engine at {address}"))
}

/// Makes a connection and proves that it is served. An engine that is short of time closes connections whose handshake takes too
/// long, of whichever kind they are, and a client then tries again: so does this, and the time counts.
pub(super) async fn served<F: Future<Output = Result<Client>>>(connect: impl Fn() -> F, inbox: &str) -> Result<Next> {
    let mut tries = 1;
    loop {
        let tried = async { round_trip(&connect().await?, inbox).await }.await;
        match tried {
            Ok(()) => return Ok(Next::More),
            Err(error) if tries == TRIES => return Err(error.context(format!("{TRIES} times one after the other"))),
            Err(error) => eprintln!("bench: a connection is tried again: {error:#}"),
        }
        tries += 1;
    }
}

/// Proves that a connection is served: an Ok of connect() alone is no proof of an admission.
pub(super) async fn round_trip(client: &Client, inbox: &str) -> Result<()> {
    let subject = format!("{inbox}.{}", client.new_inbox().rsplit('.').next().unwrap_or_default());
    let mut back = client.subscribe(subject.clone()).await?;
    client.publish(subject, Bytes::new()).await?;
    let came = tokio::time::timeout(WAIT, back.next()).await.context("connected, but nothing came back")?;
    came.map(drop).context("the connection ended")
}
