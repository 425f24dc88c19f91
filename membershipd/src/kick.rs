//! Ending connections in this node's engine, and the engine itself where it does not obey.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::gate::{ConnectionId, Gate};
use unibus_core::bus;
use unibus_core::domain::SignPub;
use unibus_core::faults::Fault;
use unibus_store::link::Link;

/// Kicks that are under way at once.
const AT_ONCE: usize = 64;
/// Connections in one page of the engine's list; its own default.
const PAGE: usize = 1024;
/// Attempts at reading a list of several pages in which nothing ends meanwhile.
const READINGS: usize = 4;
/// Users up to whom the engine is asked for each one's connections instead of all.
const FEW: usize = 8;
/// Pause before an attempt is repeated.
const PAUSE: Duration = Duration::from_millis(20);

/// The means to cut connections of one node.
#[derive(Debug, Clone)]
pub struct Kicker {
    /// The engine that runs now.
    pub engine: watch::Receiver<Option<Engine>>,
    /// The connections to it.
    pub link: watch::Receiver<Option<Arc<Link>>>,
    /// Who was admitted.
    pub gate: Arc<Gate>,
}

/// Whose connections are looked for once those that are known were cut.
#[derive(Debug, Clone, Copy)]
enum Look<'a> {
    /// Everybody's: nobody may be connected.
    All,
    /// Those of the users with these keys, as far as they have more than their users.
    Users(&'a BTreeSet<SignPub>),
    /// Those that were not admitted here, or that have more than their users.
    Strays,
}

impl Kicker {
    /// Cuts every member's connection, as [`Self::cut_off`].
    pub async fn cut_all(&self) {
        let connections = self.gate.admitted().into_iter().collect();
        self.cut(connections, Look::All, Instant::now() + bus::CONFIRM).await;
    }

    /// Cuts these connections, and whatever else the users with these keys have that they may not have any more. An engine that
    /// does not confirm all of it until `deadline` is killed, which cuts everybody: when this returns none of them is served.
    pub async fn cut_off(&self, connections: BTreeSet<ConnectionId>, users: &BTreeSet<SignPub>, deadline: Instant) {
        self.cut(connections, Look::Users(users), deadline).await;
    }

    /// Ends every connection that this daemon has not admitted, or whose admission it no longer stands behind, as [`Self::cut_off`].
    /// Returns what `link`'s engine listed.
    pub async fn cut_strays(&self, link: &Link) -> Result<HashSet<ConnectionId>> {
        let listed = listed(link, &self.gate).await?;
        let mut strays = self.gate.uncovered(listed.iter().copied());
        if !strays.is_empty() {
            // What ended since the list was made was forgotten since.
            let still = self::listed(link, &self.gate).await?;
            strays.retain(|id| still.contains(id));
        }
        if !strays.is_empty() {
            let unknown = strays.iter().filter(|id| !self.gate.has_admitted(**id)).count();
            if unknown > 0 {
                tracing::warn!(unknown, "the engine has connections that this daemon did not admit; ending them");
            }
            self.cut(strays, Look::Strays, Instant::now() + bus::CONFIRM).await;
        }
        Ok(listed)
    }

    /// Ends connections whose users are allowed more, so that they come back with it, as far as the engine can be asked now.
    pub async fn send_away(&self, connections: Vec<ConnectionId>) {
        let Some(link) = self.link.borrow().clone() else { return };
        if !connections.is_empty() {
            tracing::info!(count = connections.len(), "ending connections that are to come back with more");
        }
        let link = &*link;
        let kicks = futures::stream::iter(connections).map(|id| async move {
            if let Err(error) = link.kick(id).await {
                tracing::debug!(connection = id, "not sent away: {error:#}");
            }
        });
        kicks.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn cut(&self, connections: BTreeSet<ConnectionId>, look: Look<'_>, deadline: Instant) {
        if Fault::NoKick.active() {
            return;
        }
        // A later engine has other connections; this one takes its own along when it ends.
        let Some(engine) = self.engine.borrow().clone() else { return };
        let count = connections.len();
        let confirmed = tokio::select! {
            cut = tokio::time::timeout_at(deadline.into(), self.until_gone(connections, look)) => cut,
            _ = engine.exited() => return,
        };
        match confirmed {
            Ok(more) if count + more > 0 => tracing::info!(count, more, "connections cut"),
            Ok(_) => {}
            Err(_) => {
                tracing::error!(count, pid = engine.pid, "the engine did not confirm a kick in time: killing it");
                engine.kill();
                engine.exited().await;
            }
        }
    }

    /// Kicks until the engine has confirmed it and lists nobody that would have to be kicked, however often it takes. Says how
    /// many there were beyond those known.
    async fn until_gone(&self, mut connections: BTreeSet<ConnectionId>, look: Look<'_>) -> usize {
        let mut links = self.link.clone();
        let mut more = 0;
        loop {
            let link = links.wait_for(Option::is_some).await.ok().and_then(|link| link.clone());
            let Some(link) = link else { std::future::pending().await };
            match self.kick(&link, &connections, look).await {
                Ok(left) if left.is_empty() => return more,
                Ok(left) => {
                    more += left.difference(&connections).count();
                    connections = left;
                }
                Err(error) => tracing::debug!("a kick was not confirmed: {error:#}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One attempt. Says who is left.
    async fn kick(
        &self,
        link: &Link,
        connections: &BTreeSet<ConnectionId>,
        look: Look<'_>,
    ) -> Result<BTreeSet<ConnectionId>> {
        // A confirmed kick, or the engine's word that there is no such connection, is the same to us.
        futures::stream::iter(connections.iter().copied())
            .map(|id| link.kick(id))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        match look {
            Look::All => Ok(listed(link, &self.gate).await?.into_iter().collect()),
            Look::Strays => Ok(self.gate.uncovered(listed(link, &self.gate).await?)),
            Look::Users(users) => Ok(self.gate.uncovered(listed_of(link, users).await?)),
        }
    }
}

/// Ids of the members' connections that the engine lists.
async fn listed(link: &Link, gate: &Gate) -> Result<HashSet<ConnectionId>> {
    let listed = list(link, json!({ "acc": bus::ACCOUNT_BUS, "auth": true })).await?;
    // The daemon is among the members, too. Where nothing is authenticated a member may show its key, but was admitted all the same.
    let own = |(id, user): &(ConnectionId, String)| *user == link.bus_key && !gate.has_admitted(*id);
    Ok(listed.into_iter().filter(|entry| !own(entry)).map(|(id, _)| id).collect())
}

/// Ids of these users' connections that the engine lists.
async fn listed_of(link: &Link, users: &BTreeSet<SignPub>) -> Result<Vec<ConnectionId>> {
    let of_all = json!({ "acc": bus::ACCOUNT_BUS, "auth": true });
    let named: BTreeSet<String> = users.iter().map(|key| key.to_nkey()).collect();
    if users.len() > FEW {
        let listed = list(link, of_all).await?.into_iter();
        return Ok(listed.filter(|(_, user)| named.contains(user)).map(|(id, _)| id).collect());
    }
    let of_each = named.iter().map(|user| list(link, json!({ "acc": bus::ACCOUNT_BUS, "auth": true, "user": user })));
    let listed = futures::future::try_join_all(of_each).await?;
    Ok(listed.into_iter().flatten().map(|(id, _)| id).collect())
}

/// The connections that the engine lists, and their users where it was asked for them.
///
/// The list is in the order of the ids and comes in pages by number. What ends meanwhile moves the rest forward, past us: so each
/// page begins with the last connection of the one before, or the reading begins anew.
async fn list(link: &Link, mut query: Value) -> Result<Vec<(ConnectionId, String)>> {
    for _ in 0..READINGS {
        let mut found: Vec<(ConnectionId, String)> = Vec::new();
        loop {
            let offset = found.len().saturating_sub(1);
            if let Value::Object(map) = &mut query {
                map.extend([("offset".to_owned(), json!(offset)), ("limit".to_owned(), json!(PAGE))]);
            }
            let answer = link.ask("CONNZ", query.clone()).await?;
            let page = answer.pointer("/data/connections").and_then(Value::as_array);
            let page = page.context("the engine's list of connections is not understood")?;
            let entries = page.iter().map(|entry| {
                let user = entry.get("authorized_user").and_then(Value::as_str).unwrap_or_default();
                entry
                    .get("cid")
                    .and_then(Value::as_u64)
                    .map(|id| (id, user.to_owned()))
                    .context("a connection without id")
            });
            let mut entries = entries.collect::<Result<Vec<_>>>()?.into_iter();
            if let Some(last) = found.last()
                && entries.next().as_ref() != Some(last)
            {
                break;
            }
            found.extend(entries);
            if page.len() < PAGE {
                return Ok(found);
            }
        }
    }
    bail!("connections end faster than they can be listed")
}

/// Ids of the members' connections of this engine, as they end.
pub async fn ended(link: &Link) -> Result<impl Stream<Item = ConnectionId> + Unpin + use<>> {
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
