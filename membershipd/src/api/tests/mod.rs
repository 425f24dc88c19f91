//! The whole way in, with a real gate and a real store behind it, and no engine: what the tests of it share.

mod access;
mod answers;
mod invites;
mod keys;
mod rooms;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;

use super::entrance::router;
use super::shared::Shared;
use crate::blobs::Blobs;
use crate::commands::{Commands, Gated, Pace, Patience, Real, WaitOut};
use crate::config::{BusAuth, Config, Typed};
use crate::copies::Copies;
use crate::engine::Binary;
use crate::gate::Gate;
use crate::history::Histories;
use crate::peers::Peers;
use crate::posture::Observer;
use crate::presence::Presence;
use unibus_client::identity::Identity;
use unibus_core::bus::{AUTHORIZATION_TIMEOUT, Bucket};
use unibus_core::clock;
use unibus_core::domain::{Role, State, User};
use unibus_core::view::{claim_key, user_key};
use unibus_http_signature::{BodyDigest, Nonce, RequestHead, Signer};
use unibus_store::SqliteStore;
use unibus_store::faulty::FaultyStore;

const HOST: &str = "localhost:8470";

/// Who is there: an admin, two users, one of them switched off, and somebody whom nobody knows.
const PEOPLE: [(&str, Role, State); 4] = [
    ("admin", Role::Admin, State::Active),
    ("alice", Role::User, State::Active),
    ("bob", Role::User, State::Active),
    ("gone", Role::User, State::Disabled),
];

pub(super) fn identity(handle: &str) -> Identity {
    let mut entropy = [9; 64];
    let (sign, hpke) = entropy.split_at_mut(32);
    for seed in [sign, hpke] {
        seed.iter_mut().zip(handle.bytes()).for_each(|(seed, byte)| *seed = byte);
    }
    Identity::from_entropy(handle.parse().unwrap(), entropy).unwrap()
}

struct Node {
    shared: Arc<Shared>,
    router: Router,
    faulty: Arc<FaultyStore>,
    file: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.file);
    }
}

/// A node that has a lease, proven at this moment, and takes `rate` requests a second of one key.
fn node_with(rate: &str) -> Node {
    node_of(Typed { api_rate: Some(rate.to_owned()), ..Typed::default() })
}

/// A node that has a lease, configured like this.
fn node_of(typed: Typed) -> Node {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("unibus-api-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&file).unwrap();
    let now = Instant::now();
    let gate = Arc::new(Gate::new(BusAuth::Enforce, now.checked_sub(AUTHORIZATION_TIMEOUT).unwrap()));
    for (revision, (handle, role, state)) in (1..).step_by(2).zip(PEOPLE) {
        let sign_pub = identity(handle).sign_pub;
        let user = User { handle: handle.parse().unwrap(), sign_pub, role, state };
        let put = |key: &str, value: &[u8], revision| gate.apply(Bucket::Users, key, value, revision).unwrap();
        put(&claim_key(&sign_pub), &serde_json::to_vec(&user.handle).unwrap(), revision);
        put(&user_key(&user.handle), &serde_json::to_vec(&user).unwrap(), revision + 1);
    }
    gate.renew(now);
    let (link, engine) = (watch::channel(None).1, watch::channel(None).1);
    let observer = Observer {
        config: Arc::new(Config::from_typed(typed, 0).unwrap()),
        binary: Arc::new(Binary { path: PathBuf::new(), version: String::new(), sha256: String::new() }),
        boot: "0123456789abcdef".to_owned(),
        gate: gate.clone(),
        copies: Arc::new(Copies::new(1)),
        engine,
        link,
    };
    let sqlite = SqliteStore::open(&file.join("store.sqlite"), Arc::new(clock::unix_ms)).unwrap();
    let faulty = Arc::new(FaultyStore::new(Arc::new(sqlite)));
    let commands = commands(&gate, &faulty);
    let shared = Arc::new(shared(observer, commands));
    Node { router: router(shared.clone()), shared, faulty, file }
}

/// What requests share, counted from now.
fn shared(observer: Observer, commands: Arc<Commands>) -> Shared {
    let histories = Histories::new(observer.gate.clone(), observer.link.clone(), observer.copies.clone());
    let blobs = Blobs::new(observer.link.clone());
    let peers = Peers::new(observer, Arc::new(Presence::default()));
    Shared::new(peers, commands, histories, blobs, Instant::now())
}

/// Commands on the view of `gate`, with a fence of a moment.
fn commands(gate: &Arc<Gate>, store: &Arc<FaultyStore>) -> Arc<Commands> {
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let fence = WaitOut::of(Duration::from_millis(1), pace.clone());
    let patience = Patience { budget: Duration::from_secs(5), ..Patience::default() };
    Arc::new(Commands::new(store.clone(), Gated::new(gate.clone(), pace.clone()), fence, pace, patience))
}

fn node() -> Node {
    node_with("1000")
}

/// An answer: its status, its fields of interest, its document.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The slug of the problem that it is.
    fn slug(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status.as_u16());
        assert!(document["instance"].as_str().unwrap().starts_with("urn:uuid:01234567-89ab-8"), "{document}");
        document["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned()
    }
}

impl Node {
    async fn send_from(&self, peer: &str, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = String::from_utf8(to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec()).unwrap();
        Answer { status, headers, text }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        self.send_from("192.0.2.7:1000", request).await
    }

    async fn ask(&self, who: &str, method: &str, target: &str) -> Answer {
        self.send(signed(who, method, target, &[], b"")).await
    }

    async fn put(&self, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(signed("admin", "PUT", "/v1/users/carol", fields, body)).await
    }
}

/// A request that is signed as it must be.
fn signed(who: &str, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Request<Body> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let lines: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let head = RequestHead { method, authority: HOST, path, query, fields: &lines };
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let signer = Signer::new(identity(who).key_pair().unwrap()).unwrap();
    let signature = signer.sign(&head, BodyDigest::of(body), clock::unix(), Nonce::from_entropy(nonce)).unwrap();
    let mut request = Request::builder().method(method).uri(target).header("host", HOST);
    for (name, value) in fields.iter().copied().chain(signature.fields()) {
        request = request.header(name, value);
    }
    if !body.is_empty() && !fields.iter().any(|(name, _)| *name == "content-length") {
        request = request.header("content-length", body.len());
    }
    request.body(Body::from(body.to_vec())).unwrap()
}

fn plain(method: &str, target: &str) -> Request<Body> {
    Request::builder().method(method).uri(target).header("host", HOST).body(Body::empty()).unwrap()
}

const JSON: (&str, &str) = ("content-type", "application/json");
