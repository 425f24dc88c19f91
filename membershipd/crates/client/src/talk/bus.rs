//! A connection to the bus, at whichever node takes us; its end is told, and another one is for who uses it to make.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client as Connection, ConnectOptions, Event, HeaderMap, ServerError, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use super::error::TalkError;
use crate::api::{Client, Race, Request};
use crate::identity::Identity;
use unibus_api_types::bodies;
use unibus_core::bus;
use unibus_core::domain::{FeatureLevel, Handle};
use unibus_crypto::{FrameVersion, MessageId, RosterHead};

/// Patience with an engine.
const WAIT: Duration = Duration::from_secs(5);

/// A connection.
#[derive(Debug)]
pub struct Bus {
    connection: Connection,
    handle: Handle,
    level: u32,
    lost: CancellationToken,
    forbidden: Arc<Mutex<Option<String>>>,
}

impl Bus {
    /// Connects as `identity` to the first node of `api` that takes it; where one is silent the next one is tried beside it.
    pub async fn connect(api: &Client, identity: &Identity) -> Result<Self, TalkError> {
        let bodies::Bus { port, tls, level, .. } =
            api.ask_for(&Request::get("/v1/bus")).await.map_err(TalkError::api("ask where the bus is"))?;
        let attempts = api.nodes().into_iter().map(|node| {
            async move { (node, Self::to(identity, &format!("{}:{port}", node.host()), tls, api.ca()).await) }.boxed()
        });
        let (mut race, mut why, mut met) = (Race::of(attempts), Vec::new(), None);
        while let Some((node, connected)) = race.next().await {
            match connected {
                Ok(bus) => return Ok(Self { level, ..bus }),
                Err(error) => {
                    why.push(format!("{}: {error:#}", node.host()));
                    // The engine tells no reason, but its daemon does.
                    let asked = api.ask_one::<bodies::Bus>(node, &Request::get("/v1/bus")).await;
                    met = met.or(asked.ok().and_then(|bus| bus.met));
                }
            }
        }
        Err(met.map_or_else(|| TalkError::Bus(why.join("; ")), TalkError::Bound))
    }

    async fn to(identity: &Identity, address: &str, tls: bool, ca: Option<&Path>) -> anyhow::Result<Self> {
        let (lost, forbidden) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
        let (on_loss, on_refusal) = (lost.clone(), forbidden.clone());
        let mut options = ConnectOptions::with_nkey(identity.nkey_seed().to_owned())
            .name("membershipd")
            .ignore_discovered_servers()
            .connection_timeout(WAIT)
            .custom_inbox_prefix(bus::inbox(identity.handle.as_str()))
            .max_reconnects(1)
            .event_callback(move |event| {
                match event {
                    // What is done about it depends on what is still allowed: whoever uses the connection asks.
                    Event::Disconnected | Event::Closed | Event::SlowConsumer(_) => on_loss.cancel(),
                    Event::ServerError(ServerError::Other(why)) if why.contains("ermissions") => {
                        *on_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    }
                    _ => {}
                }
                std::future::ready(())
            });
        if tls {
            let ca = ca.ok_or_else(|| anyhow::anyhow!("the bus speaks TLS: say --ca FILE"))?;
            options = options.require_tls(true).tls_client_config(unibus_tls::trusting(ca)?);
        }
        let connection = options.connect(address).await?;
        let level = FeatureLevel::default().number();
        let bus = Self { connection, handle: identity.handle.clone(), level, lost, forbidden };
        // That connect() returns is no proof of an admission.
        bus.settle().await?;
        Ok(bus)
    }

    /// The version of frames that a cluster at this level writes: at the first level there are clients that read no other.
    pub fn frames(&self) -> FrameVersion {
        if self.daemons_keep() { FrameVersion::V2 { roster: RosterHead::NONE } } else { FrameVersion::V1 }
    }

    /// Whether daemons keep what is said in rooms that persist, and may refuse to.
    pub fn daemons_keep(&self) -> bool {
        self.level >= FeatureLevel::Kept.number()
    }

    /// Subscribes.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscriber, TalkError> {
        self.connection.subscribe(subject.to_owned()).await.map_err(|error| TalkError::Bus(error.to_string()))
    }

    /// Publishes a frame. It is on its way when this returns, no more.
    pub async fn publish(&self, subject: &str, id: MessageId, frame: Bytes) -> Result<(), TalkError> {
        let mut headers = HeaderMap::new();
        headers.insert(bus::MESSAGE_ID, id.to_string());
        let published = self.connection.publish_with_headers(subject.to_owned(), headers, frame).await;
        published.map_err(|error| TalkError::Bus(error.to_string()))
    }

    /// Waits until the engine has taken everything that was sent before, and says whether it refused any of it.
    pub async fn settle(&self) -> anyhow::Result<Option<String>> {
        // What comes back on our own inbox went through the engine behind all of that.
        let subject = format!(
            "{}.{}",
            bus::inbox(self.handle.as_str()),
            self.connection.new_inbox().rsplit('.').next().unwrap_or("x")
        );
        let mut back = self.connection.subscribe(subject.clone()).await?;
        self.connection.publish(subject, Bytes::new()).await?;
        let came = tokio::time::timeout(WAIT, back.next()).await;
        anyhow::ensure!(matches!(came, Ok(Some(_))), "connected, but the engine does not serve this user");
        Ok(self.forbidden.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Ends when the connection is lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether it is lost.
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }
}
