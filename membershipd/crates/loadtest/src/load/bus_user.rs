//! A user of the bus as a client: its key, and the connections that it makes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, ServerAddr};
use futures::StreamExt;

use super::kinds::Failure;
use super::orders::{NodeOrder, Orders};
use unibus_client::identity::Identity;
use unibus_core::bus;
use unibus_core::domain::Handle;

/// Time to connect to one node; longer than the engine itself waits for its daemon's verdict.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for a message to itself to come back on a connection that stands.
const ROUND_TRIP: Duration = Duration::from_secs(2);
/// A connection to a node that has fallen silent is given up after two of these.
const PING: Duration = Duration::from_secs(2);
/// Longest pause between two attempts to connect again.
const MOST_PAUSE: Duration = Duration::from_millis(500);

/// How every user reaches the nodes.
#[derive(Clone)]
pub(super) struct Ways {
    nodes: Arc<Vec<(String, ServerAddr)>>,
    tls: rustls::ClientConfig,
}

impl Ways {
    /// The ways that the orders describe.
    pub(super) fn new(orders: &Orders) -> Result<Self> {
        let address = |node: &NodeOrder| {
            let address = node.url.parse().with_context(|| format!("{}: {} is no address", node.name, node.url))?;
            Ok((node.name.clone(), address))
        };
        let nodes = orders.nodes.iter().map(address).collect::<Result<_>>()?;
        Ok(Self { nodes: Arc::new(nodes), tls: unibus_tls::trusting(&orders.ca_file)? })
    }
}

/// A user.
#[derive(Clone)]
pub(super) struct BusUser {
    identity: Arc<Identity>,
    ways: Ways,
}

impl BusUser {
    /// The user with this identity.
    pub(super) fn new(identity: Identity, ways: Ways) -> Self {
        Self { identity: Arc::new(identity), ways }
    }

    /// Its name.
    pub(super) fn handle(&self) -> &Handle {
        &self.identity.handle
    }

    /// What proves that it is it.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The same, for whoever keeps it.
    pub(super) fn shared_identity(&self) -> Arc<Identity> {
        self.identity.clone()
    }

    /// Its public key.
    pub(super) fn sign_pub(&self) -> unibus_core::domain::SignPub {
        self.identity.sign_pub
    }

    /// A subject of its own.
    pub(super) fn subject(&self, rest: &str) -> String {
        format!("{}.{rest}", bus::inbox(self.identity.handle.as_str()))
    }

    /// Connects to one node and proves that the connection is served. Returns the server's own name.
    pub(super) async fn connect_once(&self, node: usize) -> Result<String, Failure> {
        Ok(self.connect(node).await?.server_info().server_name)
    }

    /// A connection to one node, which is known to be served. When it is cut it comes back there, or gives up soon.
    pub(super) async fn connect(&self, node: usize) -> Result<Client, Failure> {
        let Some((name, address)) = self.ways.nodes.get(node) else { return Err(Failure::certain("no such node")) };
        let connected = self.options().max_reconnects(1).connect(address.clone()).await;
        let client = connected.map_err(|error| {
            let why = format!("{name}: {error}");
            match error.kind() {
                ConnectErrorKind::TimedOut => Failure::unknown(why),
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => Failure::denied(why),
                _ => Failure::certain(why),
            }
        })?;
        // An Ok of connect() is no proof of an admission.
        if self.is_served(&client).await {
            return Ok(client);
        }
        Err(Failure::unknown(format!("{name}: connected, but nothing came back")))
    }

    /// Whether a connection is served, and all that was asked on it before is done. A flush would only empty our own buffer: a
    /// message that comes back is the proof.
    pub(super) async fn is_served(&self, client: &Client) -> bool {
        let subject = self.subject("here");
        let round_trip = async {
            let mut back = client.subscribe(subject.clone()).await.ok()?;
            client.publish(subject.clone(), "".into()).await.ok()?;
            back.next().await
        };
        matches!(tokio::time::timeout(ROUND_TRIP, round_trip).await, Ok(Some(_)))
    }

    /// A connection that lasts: to `first` if possible, else to any other node, and back to some node whenever it is cut.
    pub(super) async fn connection(&self, first: usize) -> Result<Client> {
        let mut addresses: Vec<ServerAddr> = self.ways.nodes.iter().map(|(_, address)| address.clone()).collect();
        let count = addresses.len();
        addresses.rotate_left(first % count.max(1));
        let options = self.options().retain_servers_order().retry_on_initial_connect();
        options.connect(addresses).await.context("cannot begin to connect")
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::with_nkey(self.identity.nkey_seed().to_owned())
            .name("membershipd load")
            .custom_inbox_prefix(bus::inbox(self.identity.handle.as_str()))
            .ignore_discovered_servers()
            .connection_timeout(CONNECT)
            .ping_interval(PING)
            .reconnect_delay_callback(pause)
            .require_tls(true)
            .tls_client_config(self.ways.tls.clone())
    }
}

/// The first attempt at once, so that a client with all addresses tries the next one without delay.
fn pause(attempt: usize) -> Duration {
    let steps = u32::try_from(attempt.saturating_sub(3)).unwrap_or(u32::MAX);
    Duration::from_millis(50).saturating_mul(steps).min(MOST_PAUSE)
}
