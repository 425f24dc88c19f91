//! The API from the outside: signed requests, to whichever node answers.
//!
//! Every request may be repeated: changes are PUT and DELETE of what the client names, or name the revision that they are for.
//! So a node that does not answer, or that cannot say, is followed by the next. Only if all of them leave it open is the outcome
//! unknown, and that is said.

mod answers;
mod blobs;
mod error;
mod explain;
mod invite_link;
mod url;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
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

/// A client.
#[derive(Debug)]
pub struct Client {
    http: Http,
    nodes: Vec<NodeUrl>,
    signer: Signer,
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
        Ok(Self { http: http(tls, from), nodes, signer: Signer::new(identity.key_pair()?)? })
    }

    /// Asks, and returns the body of the answer.
    pub async fn ask(&self, request: &Request) -> Result<Value, ClientError> {
        let odd =
            |body: &Bytes| serde_json::from_slice(body).map_err(|error| format!("an answer that is no JSON: {error}"));
        self.ask_by(&self.nodes, &Wire::of(request), |body| odd(&body)).await
    }

    /// Asks this node alone, for an answer of a known form.
    pub async fn ask_one<T: DeserializeOwned>(&self, node: &NodeUrl, request: &Request) -> Result<T, ClientError> {
        let read = |body: Bytes| {
            serde_json::from_slice(&body).map_err(|error| format!("an answer that is not what was asked for: {error}"))
        };
        self.ask_by(std::slice::from_ref(node), &Wire::of(request), read).await
    }

    /// Asks one of `nodes` after the other, until `read` understands an answer.
    async fn ask_by<T>(
        &self,
        nodes: &[NodeUrl],
        request: &Wire<'_>,
        read: impl Fn(Bytes) -> Result<T, String>,
    ) -> Result<T, ClientError> {
        let mut tried = Tried::default();
        for node in nodes {
            match self.ask_node(node, request, &read).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(refused)) if refused.elsewhere() => {
                    tried.note(node, refused.leaves_open() && request.changes(), refused.to_string());
                }
                // It may be our own change that is in the way.
                Ok(Err(refused)) if tried.open && refused.is_stale() => {
                    tried.note(node, true, refused.to_string());
                }
                Ok(Err(refused)) => return Err(ClientError::Refused(Box::new(refused))),
                Err(failed) => tried.note(node, failed.sent && request.changes(), failed.why),
            }
        }
        Err(if tried.open { ClientError::Unknown(tried) } else { ClientError::Nobody(tried) })
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

    async fn ask_node<T>(
        &self,
        node: &NodeUrl,
        request: &Wire<'_>,
        read: impl Fn(Bytes) -> Result<T, String>,
    ) -> Result<Result<T, Refused>, Failed> {
        let unsent = |why: String| Failed { sent: false, why };
        let message = self.message(node, request).map_err(|error| unsent(format!("{error:#}")))?;
        let late = || Failed { sent: true, why: format!("no answer within {} s", request.patience.as_secs()) };
        let answer = tokio::time::timeout(request.patience, async {
            let response = self
                .http
                .request(message)
                .await
                .map_err(|error| Failed { sent: !error.is_connect(), why: chain(&error) })?;
            let (status, fields) = (response.status(), response.headers().clone());
            let body = Limited::new(response.into_body(), request.most).collect().await;
            let body = body.map_err(|error| Failed { sent: true, why: format!("the answer broke off: {error}") })?;
            Ok((status, fields, body.to_bytes()))
        });
        let (status, fields, body) = answer.await.map_err(|_| late())??;
        if status.is_success() {
            return read(body).map(Ok).map_err(|why| Failed { sent: true, why });
        }
        let refused = Refused::read(node, status, serde_json::from_slice(&body).unwrap_or_default());
        let explanation = explain::explain(&refused.slug, node, &fields, clock::unix());
        Ok(Err(refused.explained(explanation)))
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

/// Why there is no answer.
struct Failed {
    /// Whether the node may have got the request.
    sent: bool,
    why: String,
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

/// An error with its causes; the first alone only says that there was one.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
