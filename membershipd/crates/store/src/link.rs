//! The daemon's connections to its own engine, one in each account that it needs. They live and end together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::client::RequestErrorKind;
use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use unibus_core::bus;
use unibus_tls::trusting;

/// Where a node's own engine is, and what proves to it that the daemon is the daemon.
#[derive(Debug, Clone, Copy)]
pub struct Engine<'a> {
    /// Where it serves clients.
    pub address: SocketAddr,
    /// The CA of its certificate; none: it serves without TLS.
    pub ca: Option<&'a Path>,
    /// Key of the daemon in the callout account.
    pub callout: &'a nkeys::KeyPair,
    /// In the account of the buckets.
    pub control: &'a nkeys::KeyPair,
    /// In the system account.
    pub system: &'a nkeys::KeyPair,
    /// Among the members.
    pub bus: &'a nkeys::KeyPair,
}

/// Connections to one incarnation of the engine.
#[derive(Debug)]
pub struct Link {
    /// In the callout account.
    pub callout: Client,
    /// What the engine asks there, from before anything else was done on this link; for one to take.
    pub authorizations: Mutex<Option<Subscriber>>,
    /// In the account of the buckets.
    pub control: Client,
    /// JetStream through `control`, with short time-outs.
    pub jetstream: jetstream::Context,
    /// In the system account.
    pub system: Client,
    /// Among the members, whom it tells events.
    pub bus: Client,
    /// Public key of the daemon there.
    pub bus_key: String,
    /// The same, to read what members wrote, headers included.
    pub history: Reading,
    /// Id of the engine (`N…`).
    pub server: String,
    /// Cancelled when any of the connections is lost.
    pub lost: CancellationToken,
}

/// A connection that may break at what is read on it, and is made anew then: that is no end of the session.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The connection.
    pub client: Client,
    /// Told whenever it breaks: what was asked for then is not answered any more.
    pub breaks: watch::Receiver<()>,
}

impl Link {
    /// Connects all accounts; fails if any does.
    pub async fn connect(engine: &Engine<'_>) -> Result<Self> {
        let lost = CancellationToken::new();
        let (own, ca) = (engine.address.to_string(), engine.ca);
        let callout = connect(&own, ca, "callout", engine.callout, &lost).await?;
        // A request that no daemon hears is refused when its time is over, and clients give up after a few refusals.
        let authorizations =
            callout.subscribe(bus::CALLOUT_SUBJECT).await.context("cannot subscribe to the callout")?;
        callout.flush().await.context("cannot reach the engine")?;
        let authorizations = Mutex::new(Some(authorizations));
        let control = connect(&own, ca, "control", engine.control, &lost).await?;
        let system = connect(&own, ca, "system", engine.system, &lost).await?;
        let bus = connect(&own, ca, "bus", engine.bus, &lost).await?;
        let history = read(&own, ca, engine.bus).await?;
        let server = system.server_info().server_id;
        let mut jetstream = jetstream::new(control.clone());
        jetstream.set_timeout(bus::ATTEMPT);
        let bus_key = engine.bus.public_key();
        Ok(Self { callout, authorizations, control, jetstream, system, bus, bus_key, history, server, lost })
    }

    /// The engine's authorization requests since the link was made. Only the first who asks gets them.
    pub fn authorizations(&self) -> Option<Subscriber> {
        self.authorizations.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends a connection of a client. It has ended when the engine answers, also where that answers that there is no such connection.
    pub async fn kick(&self, connection: u64) -> Result<()> {
        self.ask("KICK", serde_json::json!({ "cid": connection })).await.map(drop)
    }

    /// Connections to the buckets and the streams of rooms alone, through any engine, for a tool that copies them. The first
    /// stands in the other accounts' place too: of those nothing is asked.
    pub async fn to_buckets(host: &str, port: u16, ca: Option<&Path>, keys: [&nkeys::KeyPair; 2]) -> Result<Self> {
        let lost = CancellationToken::new();
        let ([control, bus], address) = (keys, format!("{host}:{port}"));
        let (bus_key, authorizations) = (bus.public_key(), Mutex::default());
        let (history, bus) = (read(&address, ca, bus).await?, connect(&address, ca, "bus", bus, &lost).await?);
        let control = connect(&address, ca, "control", control, &lost).await?;
        let mut jetstream = jetstream::new(control.clone());
        jetstream.set_timeout(bus::ATTEMPT);
        let server = control.server_info().server_id;
        let [callout, system] = [(); 2].map(|()| control.clone());
        Ok(Self { callout, authorizations, control, jetstream, system, bus, bus_key, history, server, lost })
    }

    /// Asks this node's engine on the system account.
    pub async fn ask(&self, what: &str, body: serde_json::Value) -> Result<serde_json::Value> {
        self.ask_at(format!("$SYS.REQ.SERVER.{}.{what}", self.server), what, body).await
    }

    /// Ends a connection of a client of the engine with the id `server`, as [`Self::kick`].
    pub async fn kick_at(&self, server: &str, connection: u64) -> Result<()> {
        let body = serde_json::json!({ "cid": connection });
        self.ask_at(format!("$SYS.REQ.SERVER.{server}.KICK"), "KICK", body).await.map(drop)
    }

    /// Asks the engine of a node of the cluster by its name.
    pub async fn ask_node(&self, node: &str, what: &str, mut body: serde_json::Value) -> Result<serde_json::Value> {
        if let Some(map) = body.as_object_mut() {
            // Whoever has another name stays silent.
            map.insert("server_name".to_owned(), node.into());
            map.insert("exact_match".to_owned(), true.into());
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

/// A connection whose end is that of all.
async fn connect(
    address: &str,
    ca: Option<&Path>,
    role: &str,
    key: &nkeys::KeyPair,
    lost: &CancellationToken,
) -> Result<Client> {
    let on_event = lost.clone();
    let broke = move |slow: bool| {
        if slow {
            tracing::warn!("the daemon could not keep up with its engine");
        }
        // A new connection would be to an engine whose id, and so whose requests, may differ.
        on_event.cancel();
    };
    let options = options(role, key, broke)?.max_reconnects(1);
    let client = admitted(options, address, ca, role).await?;
    if lost.is_cancelled() { bail!("the engine at {address} did not keep the daemon as {role}") } else { Ok(client) }
}

/// A connection that is made anew whenever it breaks.
async fn read(address: &str, ca: Option<&Path>, key: &nkeys::KeyPair) -> Result<Reading> {
    let breaks = watch::Sender::new(());
    let told = breaks.subscribe();
    let options = options("history", key, move |_| breaks.send_replace(()))?;
    Ok(Reading { client: admitted(options, address, ca, "history").await?, breaks: told })
}

/// Options of all connections; `broke` is told whenever one ends, or could not keep up.
fn options(role: &str, key: &nkeys::KeyPair, broke: impl Fn(bool) + Send + Sync + 'static) -> Result<ConnectOptions> {
    let broke = Arc::new(broke);
    let options = ConnectOptions::with_nkey(key.seed()?)
        .name(format!("membershipd {role}"))
        .ignore_discovered_servers()
        .connection_timeout(bus::ASK)
        // Each request names its own patience.
        .request_timeout(None)
        .ping_interval(Duration::from_secs(5))
        // A burst of entries or requests must not be dropped on our side.
        .subscription_capacity(1 << 18)
        .event_callback(move |event| {
            let broke = broke.clone();
            async move {
                match event {
                    Event::Disconnected | Event::Closed => broke(false),
                    Event::SlowConsumer(_) => broke(true),
                    other => tracing::debug!("engine connection: {other}"),
                }
            }
        });
    Ok(options)
}

/// Connects, and makes sure that the engine took it.
async fn admitted(mut options: ConnectOptions, address: &str, ca: Option<&Path>, role: &str) -> Result<Client> {
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
        Ok(Err(RequestErrorKind::NoResponders)) => Ok(client),
        _ => bail!("the engine at {address} did not admit the daemon as {role}"),
    }
}
