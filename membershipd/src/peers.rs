//! What this node asks of the whole cluster on the system account, where no user is: what each daemon says of itself, and who is
//! connected to each engine. Each node has a limited time to answer, and those that did not are named.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::engine_list;
use crate::gate::ConnectionId;
use crate::posture::{Observer, Posture};
use crate::presence::Presence;
use unibus_core::bus;
use unibus_core::domain::{Handle, SignPub};
use unibus_names::printable::one_line;
use unibus_store::link::Link;

/// Characters that are told of what a client says about itself.
const CLIENT_CHARACTERS: usize = 64;

/// A member's connection to the engine of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its number in that engine, for as long as the engine runs.
    pub id: ConnectionId,
    /// Its user; none where nothing is authenticated.
    pub user: Option<Handle>,
    /// Where its client is.
    pub address: Option<SocketAddr>,
    /// Since when there is this connection, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Language and version of the client, as it says itself.
    pub client: Option<String>,
}

/// The other nodes, as this one can ask them.
#[derive(Debug, Clone)]
pub struct Peers {
    observer: Observer,
    presence: Arc<Presence>,
}

/// Answers of nodes, by their names, and who did not answer.
#[derive(Debug)]
pub struct Answers<T> {
    /// What each said.
    pub said: BTreeMap<String, T>,
    /// Nodes that are known and said nothing in time.
    pub silent: Vec<String>,
}

impl Peers {
    /// The nodes of which heartbeats arrive at `presence`.
    pub fn new(observer: Observer, presence: Arc<Presence>) -> Self {
        Self { observer, presence }
    }

    /// What this node knows of itself.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Name of this node.
    pub fn own(&self) -> &str {
        &self.observer.config.node
    }

    /// As many nodes as the configuration speaks of.
    pub fn expected(&self) -> usize {
        self.observer.config.expected_nodes()
    }

    /// The nodes of the cluster: those whose heartbeats arrive and, up to as many as it has, those that were heard of before.
    pub fn nodes(&self) -> BTreeSet<String> {
        let mut nodes: BTreeSet<String> = self.presence.nodes(Instant::now()).into_iter().collect();
        nodes.insert(self.own().to_owned());
        let before = self.observer.gate.view(|view| view.nodes().cloned().collect::<Vec<_>>());
        for node in self.presence.known().into_iter().chain(before) {
            if nodes.len() < self.expected() {
                nodes.insert(node);
            }
        }
        nodes
    }

    /// The posture of each node.
    pub async fn postures(&self) -> Answers<Posture> {
        let nodes = self.nodes();
        let (own, others) = futures::join!(self.observer.posture(), self.others(&nodes));
        let mut said = others.unwrap_or_else(|error| {
            tracing::debug!("the other nodes are not asked what they are: {error:#}");
            BTreeMap::new()
        });
        said.insert(own.node.clone(), own);
        let silent = nodes.into_iter().filter(|node| !said.contains_key(node)).collect();
        Answers { said, silent }
    }

    async fn others(&self, nodes: &BTreeSet<String>) -> Result<BTreeMap<String, Posture>> {
        let mut said = BTreeMap::new();
        if nodes.len() < 2 {
            return Ok(said);
        }
        let link = self.link()?;
        let inbox = link.system.new_inbox();
        let mut answers = link.system.subscribe(inbox.clone()).await.context("cannot listen")?;
        link.system.publish_with_reply(bus::POSTURE_SUBJECT, inbox, "".into()).await.context("cannot ask")?;
        let all = async {
            while said.len() + 1 < nodes.len() {
                let Some(answer) = answers.next().await else { break };
                match serde_json::from_slice::<Posture>(&answer.payload) {
                    Ok(posture) if posture.node != self.own() => {
                        said.insert(posture.node.clone(), posture);
                    }
                    // The engine's word that no daemon listens is one, too.
                    answer => tracing::debug!("the answer of a node is not understood: {:?}", answer.err()),
                }
            }
        };
        let _ = tokio::time::timeout(bus::POSTURE_TIME, all).await;
        Ok(said)
    }

    /// The members' connections to each node's engine, by their numbers; those of `user` alone, where one is named.
    pub async fn connections(&self, nodes: BTreeSet<String>, user: Option<&SignPub>) -> Answers<Vec<Connection>> {
        let asked = join_all(nodes.into_iter().map(|node| async move {
            let listed = tokio::time::timeout(bus::POSTURE_TIME, self.connections_of(&node, user)).await;
            (node, listed.unwrap_or_else(|_| Err(anyhow!("it did not list its connections in time"))))
        }));
        let (mut said, mut silent) = (BTreeMap::new(), Vec::new());
        for (node, listed) in asked.await {
            match listed {
                Ok(connections) => {
                    said.insert(node, connections);
                }
                Err(error) => {
                    tracing::info!(node, "an engine does not say who is connected: {error:#}");
                    silent.push(node);
                }
            }
        }
        Answers { said, silent }
    }

    async fn connections_of(&self, node: &str, user: Option<&SignPub>) -> Result<Vec<Connection>> {
        let link = self.link()?;
        let link = &*link;
        let mut query = json!({ "acc": bus::ACCOUNT_BUS, "auth": true });
        if let (Some(map), Some(user)) = (query.as_object_mut(), user) {
            map.insert("user".to_owned(), user.to_nkey().into());
        }
        let listed = engine_list::list(|query| link.ask_node(node, "CONNZ", query), query, Listed::read).await?;
        Ok(listed.into_iter().filter_map(|listed| self.of_member(listed)).collect())
    }

    /// A connection of a member: the daemons have some in the same account.
    fn of_member(&self, Listed { authorized_user, connection }: Listed) -> Option<Connection> {
        let Some(nkey) = authorized_user else { return Some(connection) };
        let key = SignPub::from_nkey(&nkey).ok()?;
        let user = self.observer.gate.view(|view| view.user_of_key(&key).map(|user| user.handle.clone()));
        Some(Connection { user: Some(user?), ..connection })
    }

    /// A member's connection to the engine of `node`, and the id of that engine; none: there is no such connection.
    pub async fn find(&self, node: &str, id: ConnectionId) -> Result<Option<(Connection, String)>> {
        let query = json!({ "acc": bus::ACCOUNT_BUS, "auth": true, "cid": id });
        let answer = self.link()?.ask_node(node, "CONNZ", query).await?;
        let server = answer.pointer("/server/id").and_then(Value::as_str).context("an engine without id")?;
        let listed = answer.pointer("/data/connections").and_then(Value::as_array);
        let listed = listed.context("the engine's list of connections is not understood")?;
        let in_account = |entry: &&Value| entry.get("account").and_then(Value::as_str) == Some(bus::ACCOUNT_BUS);
        let found = listed.iter().filter(in_account).filter_map(Listed::read).find(|found| found.connection.id == id);
        Ok(found.and_then(|found| self.of_member(found)).map(|found| (found, server.to_owned())))
    }

    /// Ends a connection to the engine with the id `server`. It has ended when this returns.
    pub async fn close(&self, server: &str, id: ConnectionId) -> Result<()> {
        self.link()?.kick_at(server, id).await
    }

    fn link(&self) -> Result<Arc<Link>> {
        self.observer.link.borrow().clone().context("this node has no session with its engine")
    }
}

/// An entry of an engine's list.
#[derive(Debug, PartialEq)]
struct Listed {
    authorized_user: Option<String>,
    connection: Connection,
}

impl Listed {
    fn read(entry: &Value) -> Option<Self> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let ip: Option<IpAddr> = text("ip").and_then(|ip| ip.parse().ok());
        let port = entry.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let since = text("start").and_then(|start| OffsetDateTime::parse(start, &Rfc3339).ok());
        let client: Vec<&str> = ["lang", "version"].into_iter().filter_map(text).collect();
        let client: String = client.join(" ").chars().take(CLIENT_CHARACTERS).collect();
        let connection = Connection {
            id: entry.get("cid")?.as_u64()?,
            user: None,
            address: ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port)),
            since_ms: since.and_then(|since| i64::try_from(since.unix_timestamp_nanos() / 1_000_000).ok()),
            client: Some(one_line(&client).into_owned()).filter(|client| !client.is_empty()),
        };
        Some(Self { authorized_user: text("authorized_user").map(str::to_owned), connection })
    }
}

/// Tells the other daemons what this one is, until the connection ends.
pub async fn answer(link: &Link, observer: &Observer) -> Result<()> {
    let mut questions =
        link.system.subscribe(bus::POSTURE_SUBJECT).await.context("cannot listen to the other nodes")?;
    while let Some(question) = questions.next().await {
        let Some(reply) = question.reply else { continue };
        let (observer, client) = (observer.clone(), link.system.clone());
        tokio::spawn(async move {
            let posture = serde_json::to_vec(&observer.posture().await).context("cannot say it");
            let sent = async { Ok::<_, anyhow::Error>(client.publish(reply, posture?.into()).await?) };
            if let Err(error) = sent.await {
                tracing::debug!("another node was not told what this one is: {error:#}");
            }
        });
    }
    bail!("the connection on which other nodes ask ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_lists_is_read_and_what_a_client_says_is_one_harmless_line() {
        let entry = json!({
            "cid": 7, "ip": "192.0.2.7", "port": 4711, "start": "2026-11-30T01:02:03.5Z", "lang": "py\u{1b}[2J\n", "version": "2",
            "authorized_user": "U1"
        });
        let listed = Listed::read(&entry).unwrap();
        let Connection { id, address, since_ms, client, .. } = listed.connection;
        assert_eq!(
            (id, address.unwrap().to_string().as_str(), since_ms),
            (7, "192.0.2.7:4711", Some(1_796_000_523_500))
        );
        let client = client.unwrap();
        assert!(client.starts_with("py") && !client.contains(['\u{1b}', '\n']), "{client:?}");
        assert_eq!(listed.authorized_user.as_deref(), Some("U1"));
        let bare = Listed::read(&json!({ "cid": 8 })).unwrap();
        assert_eq!((bare.authorized_user, bare.connection.client, bare.connection.since_ms), (None, None, None));
        assert_eq!(Listed::read(&json!({ "ip": "192.0.2.7" })), None, "without a number it cannot be named");
    }
}
