//! The API from the outside: signed requests, to whichever node answers.
//!
//! What only reads is asked of a second node beside the first where that has been silent for a second. A change is sent to one node at
//! a time, which has just answered: one that is frozen would take it and say nothing. Every change may be repeated: changes are PUT and
//! DELETE of what the client names, or name the revision that they are for. So a node that breaks off, or that cannot say, is followed by
//! the next. Only if all of them leave it open is the outcome unknown, and that is said.

mod answers;
mod asking;
mod blobs;
mod error;
mod explain;
mod invite_link;
mod race;
mod url;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use answers::Changed;
pub use error::{ClientError, Refused, Tried};
pub use http::Method;
pub use invite_link::{BadLink, InviteLink, LINK_BYTES};
pub(crate) use race::Race;
pub use unibus_api_types::bodies::{
    AddedBlob, AuditRecord, Blob, ClosedConnection, Connection, Invite, Member, OwnMembership, Room, Status, User,
};
pub use url::NodeUrl;

use crate::identity::Identity;
use unibus_api_types::limits::LIVEZ;
use unibus_core::domain::RoomId;
use unibus_core::{bus, clock, random};
use unibus_http_signature::{BodyDigest, Nonce, RequestHead, Signer};

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// Time for an answer: what a change may take at most, its fence included, and some for the way.
const ANSWER: Duration = Duration::from_secs(40);
const _: () = assert!(ANSWER.as_secs() > 2 * bus::STORE_BUDGET.as_secs() + bus::LEASE.as_secs());
/// Largest answer that is read, bytes: a full page of the longest records is smaller.
const ANSWER_BYTES: usize = 4 << 20;
/// Silence of all nodes after which a patient client says that it waits.
const QUIET: Duration = Duration::from_secs(2);
/// Pause before the nodes are asked again.
const AGAIN: Duration = Duration::from_millis(250);
/// Entries of a page that is asked for.
const PAGE: usize = 500;

/// Where a room is.
pub fn room_path(room: &RoomId) -> String {
    format!("/v1/rooms/{room}")
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// How.
    pub method: Method,
    /// The path, with its query.
    pub target: String,
    /// The body; none: there is no body.
    pub body: Option<Value>,
    /// The revision that it is for.
    pub if_match: Option<u64>,
}

impl Request {
    /// A request for what is there.
    pub fn get(target: impl Into<String>) -> Self {
        Self { method: Method::GET, target: target.into(), body: None, if_match: None }
    }

    /// A request for something to be.
    pub fn put(target: impl Into<String>, body: Option<Value>) -> Self {
        Self { method: Method::PUT, target: target.into(), body, if_match: None }
    }

    /// A request for something to be no more.
    pub fn delete(target: impl Into<String>) -> Self {
        Self { method: Method::DELETE, target: target.into(), body: None, if_match: None }
    }

    /// A request for what is at `revision` to be otherwise.
    pub fn patch(target: impl Into<String>, body: Value, revision: u64) -> Self {
        Self { method: Method::PATCH, target: target.into(), body: Some(body), if_match: Some(revision) }
    }
}

/// The query for the page after `after`. The serializer cannot be sent to another thread: it must not be there while an answer is
/// awaited.
fn next_page(after: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &PAGE.to_string());
    if let Some(after) = after {
        query.append_pair("after", after);
    }
    query.finish()
}

type Http = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How patient a client is where no node can do what is asked, and certainly nothing was changed.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long the nodes are asked again.
    pub most: Duration,
    /// Is told of it once for each request: what the nodes say, and how long the client goes on.
    pub told: fn(&str),
}

/// A client.
#[derive(Debug)]
pub struct Client {
    http: Http,
    nodes: Vec<NodeUrl>,
    ca: Option<PathBuf>,
    signer: Signer,
    patience: Option<Patience>,
    answered: Mutex<Option<Answered>>,
}

/// The node that answered last.
#[derive(Debug)]
struct Answered {
    node: NodeUrl,
    at: Instant,
}

impl Client {
    /// A client that signs as `identity`, and asks `nodes` in this order. Nodes over TLS must have a certificate of the
    /// CA in `ca`, and are not asked without.
    pub fn new(identity: &Identity, nodes: Vec<NodeUrl>, ca: Option<&Path>) -> anyhow::Result<Self> {
        Self::from_address(identity, nodes, ca, None)
    }

    /// The same, from the address `from` of this machine.
    pub fn from_address(
        identity: &Identity,
        nodes: Vec<NodeUrl>,
        ca: Option<&Path>,
        from: Option<IpAddr>,
    ) -> anyhow::Result<Self> {
        let tls = match ca {
            Some(ca) => unibus_tls::trusting(ca)?,
            None => {
                if let Some(node) = nodes.iter().find(|node| node.is_https()) {
                    anyhow::bail!("{node} needs the CA that its certificate is of: say --ca FILE");
                }
                unibus_tls::trusting_none()?
            }
        };
        let signer = Signer::new(identity.key_pair()?)?;
        let (ca, patience, answered) = (ca.map(Path::to_owned), None, Mutex::new(None));
        Ok(Self { http: http(tls, from), nodes, ca, signer, patience, answered })
    }

    /// The same, which asks again where no node can do it. Without this it says so at once.
    pub fn patient(self, patience: Patience) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// The nodes, the one that answered last before the others.
    pub fn nodes(&self) -> Vec<&NodeUrl> {
        let answered = self.answered();
        let is_first = |node: &&NodeUrl| answered.as_ref().is_some_and(|answered| answered.node == **node);
        let (first, others): (Vec<_>, Vec<_>) = self.nodes.iter().partition(is_first);
        [first, others].concat()
    }

    /// The CA that the certificates of the nodes are of.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// Asks, and returns the body of the answer.
    pub async fn ask(&self, request: &Request) -> Result<Value, ClientError> {
        let odd =
            |body: &Bytes| serde_json::from_slice(body).map_err(|error| format!("an answer that is no JSON: {error}"));
        self.ask_by(&Wire::of(request), |body| odd(&body)).await
    }

    /// Asks this node alone, and once, for an answer of a known form.
    pub async fn ask_one<T: DeserializeOwned>(&self, node: &NodeUrl, request: &Request) -> Result<T, ClientError> {
        let read = |body: Bytes| {
            serde_json::from_slice(&body).map_err(|error| format!("an answer that is not what was asked for: {error}"))
        };
        self.ask_once(vec![node], &Wire::of(request), &read).await
    }

    /// Asks the nodes until `read` understands an answer, and again while there is patience and certainly nothing was changed.
    async fn ask_by<T>(&self, request: &Wire<'_>, read: impl Fn(Bytes) -> Result<T, String>) -> Result<T, ClientError> {
        let Some(Patience { most, told }) = self.patience else {
            return self.ask_once(self.nodes(), request, &read).await;
        };
        let begun = Instant::now();
        let mut told = Some(told);
        loop {
            let mut asked = std::pin::pin!(self.ask_once(self.nodes(), request, &read));
            let outcome = tokio::select! {
                outcome = &mut asked => outcome,
                () = tokio::time::sleep(QUIET), if told.is_some() => {
                    let is_answered = self.answered().as_ref().is_some_and(|answered| answered.at > begun);
                    if let Some(told) = told.take_if(|_| !is_answered) {
                        told("no node has answered yet; waiting");
                    }
                    asked.await
                }
            };
            match outcome {
                Err(ClientError::Nobody(tried)) if tried.passes && begun.elapsed() + AGAIN < most => {
                    if let Some(told) = told.take() {
                        told(&format!("no node can do it now ({tried}); asking again for up to {} s", most.as_secs()));
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Asks for an answer of a known form.
    pub async fn ask_for<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ClientError> {
        serde_json::from_value(self.ask(request).await?).map_err(ClientError::Form)
    }

    /// All entries of a list that comes in pages; `field` is where a page has them. The path may have a query.
    pub async fn list(&self, path: &str, field: &str) -> Result<Vec<Value>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let mut page = self.ask(&Request::get(format!("{path}{joint}{}", next_page(after.as_deref())))).await?;
            let Some(Value::Array(entries)) = page.get_mut(field).map(Value::take) else {
                return Err(ClientError::Form(serde::de::Error::custom(format!("a page without {field}"))));
            };
            all.extend(entries);
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
    }

    /// What everybody may ask the first node, unsigned: its health. Says whether it is well.
    pub async fn is_alive(&self) -> anyhow::Result<bool> {
        let node = self.nodes.first().context("there is no node to ask")?;
        let message = http::Request::builder().uri(node.uri(LIVEZ)?).body(Full::default())?;
        let response = tokio::time::timeout(ANSWER, self.http.request(message)).await.context("no answer")??;
        let alive = response.status().is_success();
        response.into_body().collect().await?;
        Ok(alive)
    }

    fn answered(&self) -> MutexGuard<'_, Option<Answered>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn message(&self, node: &NodeUrl, request: &Wire<'_>) -> anyhow::Result<http::Request<Full<Bytes>>> {
        let (path, query) = match request.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (request.target, None),
        };
        let if_match = request.if_match.map(|revision| format!("\"{revision}\""));
        let mut fields: Vec<(&str, &[u8])> = Vec::new();
        if let Some(content_type) = request.content_type {
            fields.push(("content-type", content_type.as_bytes()));
        }
        if let Some(if_match) = &if_match {
            fields.push(("if-match", if_match.as_bytes()));
        }
        let authority = node.authority();
        let head = RequestHead {
            method: request.method.as_str(),
            authority: authority.as_str(),
            path,
            query,
            fields: &fields,
        };
        let entropy: [u8; 16] = random::bytes()?;
        let signed =
            self.signer.sign(&head, BodyDigest::of(&request.body), clock::unix(), Nonce::from_entropy(entropy))?;
        let mut message = http::Request::builder().method(request.method.clone()).uri(node.uri(request.target)?);
        for (name, value) in fields {
            message = message.header(name, value);
        }
        for (name, value) in signed.fields() {
            message = message.header(name, value);
        }
        message.body(Full::from(request.body.clone())).context("the request cannot be made")
    }
}

/// A request as it goes to each node.
struct Wire<'a> {
    method: Method,
    target: &'a str,
    /// Type of the body; none: there is no body.
    content_type: Option<&'static str>,
    body: Bytes,
    if_match: Option<u64>,
    /// Largest answer that is read, in bytes.
    most: usize,
    /// How long an answer is waited for, both ways included.
    patience: Duration,
}

impl<'a> Wire<'a> {
    fn of(request: &'a Request) -> Self {
        Self {
            method: request.method.clone(),
            target: &request.target,
            content_type: request.body.as_ref().map(|_| "application/json"),
            body: request.body.as_ref().map(Value::to_string).unwrap_or_default().into(),
            if_match: request.if_match,
            most: ANSWER_BYTES,
            patience: ANSWER,
        }
    }

    fn changes(&self) -> bool {
        self.method != Method::GET
    }
}

/// Connections with `tls`, from the address `from`.
fn http(tls: ClientConfig, from: Option<IpAddr>) -> Http {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector.set_local_address(from);
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector);
    hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector)
}
