//! Cutting connections in this node's engine, and the engine itself where it does not obey.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bus;
use crate::engine::Engine;
use crate::faults::Fault;
use crate::gate::ConnectionId;
use crate::link::Link;

/// Kicks that are under way at once.
const AT_ONCE: usize = 64;
/// Connections in one page of the engine's list; its own default.
const PAGE: usize = 1024;

/// The means to cut connections of one node.
#[derive(Debug, Clone)]
pub struct Kicker {
    /// The engine that runs now.
    pub engine: watch::Receiver<Option<Engine>>,
    /// The connections to it.
    pub link: watch::Receiver<Option<Arc<Link>>>,
}

impl Kicker {
    /// Cuts these connections. An engine that does not confirm all of it in time is killed, which cuts every one: when this
    /// returns none of them is served.
    pub async fn cut(&self, connections: Vec<ConnectionId>) {
        if connections.is_empty() || Fault::NoKick.active() {
            return;
        }
        let count = connections.len();
        match tokio::time::timeout(bus::KICK, self.kick_all(connections)).await {
            Ok(true) => tracing::info!(count, "connections cut"),
            Ok(false) | Err(_) => self.kill(count).await,
        }
    }

    // A confirmed kick, or the engine's word that there is no such connection, is the same to us.
    async fn kick_all(&self, connections: Vec<ConnectionId>) -> bool {
        let Some(link) = self.link.borrow().clone() else { return false };
        futures::stream::iter(connections)
            .map(|id| {
                let link = link.clone();
                async move { link.ask("KICK", json!({ "cid": id })).await.is_ok() }
            })
            .buffer_unordered(AT_ONCE)
            .all(|confirmed| async move { confirmed })
            .await
    }

    async fn kill(&self, count: usize) {
        let Some(engine) = self.engine.borrow().clone() else { return };
        tracing::error!(count, pid = engine.pid, "the engine did not confirm a kick in time: killing it");
        engine.kill();
        engine.exited().await;
    }
}

/// Ids of the members' connections that the engine lists.
pub async fn listed(link: &Link) -> anyhow::Result<HashSet<ConnectionId>> {
    let mut ids = HashSet::new();
    loop {
        let page = json!({ "acc": bus::ACCOUNT_BUS, "offset": ids.len(), "limit": PAGE });
        let answer = link.ask("CONNZ", page).await?;
        let connections = answer.pointer("/data/connections").and_then(Value::as_array).map(Vec::as_slice);
        let connections = connections.unwrap_or_default();
        ids.extend(connections.iter().filter_map(|c| c.get("cid").and_then(Value::as_u64)));
        if connections.len() < PAGE {
            return Ok(ids);
        }
    }
}

/// Ids of the members' connections of this engine, as they end.
pub async fn ended(link: &Link) -> anyhow::Result<impl Stream<Item = ConnectionId> + Unpin + use<>> {
    let subject = format!("$SYS.ACCOUNT.{}.DISCONNECT", bus::ACCOUNT_BUS);
    let events = link.system.subscribe(subject).await.context("cannot subscribe to the engine's events")?;
    let server = link.server.clone();
    // Every engine of the cluster tells everybody.
    let own = move |message: async_nats::Message| {
        let event: Value = serde_json::from_slice(&message.payload).ok()?;
        let from = event.pointer("/server/id").and_then(Value::as_str)?;
        event.pointer("/client/id").and_then(Value::as_u64).filter(|_| from == server)
    };
    Ok(Box::pin(events.filter_map(move |message| std::future::ready(own(message)))))
}
