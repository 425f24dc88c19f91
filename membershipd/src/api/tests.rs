//! The whole way in, with a real gate and a real store behind it, and no engine: who gets through, and what is said to whom.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use super::call::Target;
use super::entrance::router;
use super::routes::{self, Access, On, ROUTES, Route};
use super::shared::Shared;
use crate::bus::{AUTHORIZATION_TIMEOUT, Bucket, LEASE};
use crate::clock;
use crate::config::{BusAuth, Config, Typed};
use crate::copies::Copies;
use crate::domain::{Role, State, User};
use crate::engine::Binary;
use crate::gate::Gate;
use crate::identity::Identity;
use crate::posture::Observer;
use crate::signature::{BodyDigest, Nonce, RequestHead, Signer};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::{SqliteStore, Store};
use crate::users::Users;
use crate::view::{claim_key, user_key};

const HOST: &str = "localhost:8470";

/// Who is there: an admin, two users, one of them switched off, and somebody whom nobody knows.
const PEOPLE: [(&str, Role, State); 4] = [
    ("admin", Role::Admin, State::Active),
    ("alice", Role::User, State::Active),
    ("bob", Role::User, State::Active),
    ("gone", Role::User, State::Disabled),
];

fn identity(handle: &str) -> Identity {
    let mut entropy = [9; 64];
    entropy.iter_mut().zip(handle.bytes()).for_each(|(seed, byte)| *seed = byte);
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
    let typed = Typed { api_rate: Some(rate.to_owned()), ..Typed::default() };
    let observer = Observer {
        config: Arc::new(Config::from_typed(typed, 0).unwrap()),
        binary: Arc::new(Binary { path: PathBuf::new(), version: String::new(), sha256: String::new() }),
        boot: "0123456789abcdef".to_owned(),
        gate: gate.clone(),
        copies: Arc::new(Copies::new(1)),
        engine,
        link: link.clone(),
    };
    let sqlite = SqliteStore::open(&file.join("store.sqlite"), Arc::new(clock::unix)).unwrap();
    let faulty = Arc::new(FaultyStore::new(Arc::new(sqlite)));
    let shared = Arc::new(Shared::new(observer, Users::new(gate, link), faulty.clone(), now));
    Node { router: router(shared.clone()), shared, faulty, file }
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
    let signer = Signer::new(&identity(who)).unwrap();
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

/// Routes that answer without a signature. The list may only become shorter.
const WITHOUT_SIGNATURE: [&str; 4] = ["/healthz", "/livez", "/openapi.json", "/metrics"];

/// Who may use each route: an admin; a user, on somebody else; a user, on himself.
const MAY: [(&str, &str, [bool; 3]); 8] = [
    ("GET", "/v1/me", [true, true, true]),
    ("GET", "/v1/directory", [true, true, true]),
    ("GET", "/v1/users", [true, false, false]),
    ("GET", "/v1/users/{handle}", [true, false, true]),
    ("PUT", "/v1/users/{handle}", [true, false, false]),
    ("PATCH", "/v1/users/{handle}", [true, false, false]),
    ("DELETE", "/v1/users/{handle}", [true, false, false]),
    ("GET", "/v1/audit", [true, false, false]),
];

#[test]
fn every_route_has_an_authorization_case() {
    let node = node();
    let may = |route: &Route, who: &str, on: &str| {
        let Access::Signed(signed) = &route.access else { panic!("{} needs a signature", route.template) };
        let target = |user: &User| signed.on.target(|_| Some(on.to_owned()), user);
        let key = identity(who).sign_pub;
        let allowed = routes::authorize(&node.shared, &key, signed, target, Instant::now());
        let allowed = allowed.map(|(user, target)| {
            assert_eq!(user.handle.as_str(), who);
            match signed.on {
                On::Bus => assert_eq!(target, Target::Bus),
                On::Caller => assert_eq!(target, Target::User(user.handle)),
                On::User => assert_eq!(target, Target::User(on.parse().unwrap())),
                On::NewUser => assert_eq!(target, Target::NewUser(on.parse().unwrap())),
            }
        });
        allowed.is_ok()
    };
    for route in ROUTES {
        let (method, template) = (route.method.as_str(), route.template);
        if WITHOUT_SIGNATURE.contains(&template) {
            assert!(
                !matches!(route.access, Access::Signed(_)) && method == "GET",
                "{method} {template}: list it no more"
            );
            continue;
        }
        let case = MAY.iter().find(|(m, t, _)| (*m, *t) == (method, template));
        let (.., wanted) = case.unwrap_or_else(|| panic!("{method} {template} has no authorization case"));
        let got = [may(route, "admin", "bob"), may(route, "alice", "bob"), may(route, "alice", "alice")];
        assert_eq!(got, *wanted, "{method} {template}");
        assert!(!may(route, "gone", "gone"), "{method} {template}: a disabled user");
        assert!(!may(route, "nobody", "bob"), "{method} {template}: an unknown key");
    }
    assert_eq!(ROUTES.len(), MAY.len() + WITHOUT_SIGNATURE.len(), "a case for a route that is not there");
    assert!(ROUTES.iter().filter(|route| matches!(route.access, Access::Loopback(_))).count() == 1);
}

#[tokio::test]
async fn without_a_signature_nothing_but_the_list_is_answered() {
    let node = node();
    for route in ROUTES {
        let target = route.template.replace("{handle}", "bob");
        let answer = node.send(plain(route.method.as_str(), &target)).await;
        match route.access {
            Access::Open(_) => assert!(answer.status == 200, "{target} {answer:?}"),
            Access::Loopback(_) => assert_eq!(answer.slug(), "not-found", "{target}"),
            Access::Signed(_) => {
                assert_eq!(answer.slug(), "signature-missing", "{target}");
                assert!(answer.headers.contains_key("www-authenticate"));
            }
        }
    }
    let nowhere = node.send(plain("GET", "/v1/nowhere")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.slug().as_str()), (404, "not-found"));
    for made_up in ["POST", "OPTIONS", "TRACE", "FROBNICATE"] {
        let answer = node.send(plain(made_up, "/v1/users/bob")).await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (405, "method-not-allowed"), "{made_up}");
        assert_eq!(answer.headers["allow"], "GET, PUT, PATCH, DELETE, HEAD");
    }
    let metrics = node.send_from("127.0.0.1:1000", plain("GET", "/metrics")).await;
    assert!(metrics.text.contains("unibus_api_refusals_total{problem=\"signature-missing\"} 8"), "{}", metrics.text);
    assert!(metrics.text.contains("route=\"none\",method=\"GET\",status=\"404\"} 1"), "{}", metrics.text);
    assert!(metrics.text.contains("method=\"other\",status=\"405\"} 2"), "{}", metrics.text);
}

#[tokio::test]
async fn who_may_is_answered() {
    let node = node();
    let me = node.ask("alice", "GET", "/v1/me").await;
    assert_eq!(
        (me.status.as_u16(), &me.json()["handle"], &me.headers["etag"].to_str().unwrap()),
        (200, &json!("alice"), &"\"4\"")
    );
    assert_eq!(me.headers["cache-control"], "no-store");
    let directory = node.ask("alice", "GET", "/v1/directory").await.json();
    let handles: Vec<_> = directory["users"].as_array().unwrap().iter().map(|user| &user["handle"]).collect();
    assert_eq!(handles, ["admin", "alice", "bob"], "only who is admitted");
    assert!(directory["users"][0].get("role").is_none() && directory.get("next").is_none(), "{directory}");
    assert_eq!(node.ask("alice", "GET", "/v1/users").await.slug(), "not-admin");
    assert_eq!(node.ask("alice", "GET", "/v1/users/bob").await.slug(), "not-admin");
    assert_eq!(node.ask("admin", "GET", "/v1/users/nobody").await.slug(), "not-found");
    for bad in ["/v1/users/A", "/v1/users/a.b", "/v1/users/%2A", "/v1/users/%3E", "/v1/users/a%20b", "/v1/users/%ff"] {
        assert_eq!(node.ask("admin", "GET", bad).await.slug(), "bad-path", "{bad}");
    }
    let head = node.send(signed("admin", "HEAD", "/v1/users/bob", &[], b"")).await;
    assert_eq!((head.status.as_u16(), &head.headers["etag"].to_str().unwrap()), (200, &"\"6\""));

    // Every page once, none twice.
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = node.ask("admin", "GET", &format!("/v1/users?limit=3{after}")).await.json();
        seen.extend(page["users"].as_array().unwrap().iter().map(|user| user["handle"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["admin", "alice", "bob", "gone"]);
    for bad in ["limit=0", "limit=501", "after=x", "limit=1&limit=1", "more=1", "%FF"] {
        assert_eq!(node.ask("admin", "GET", &format!("/v1/users?{bad}")).await.slug(), "bad-query", "{bad}");
    }

    for number in 0..3 {
        node.faulty.append(json!({ "what": number }).to_string().as_bytes()).await.unwrap();
    }
    let first = node.ask("admin", "GET", "/v1/audit?limit=2").await.json();
    let rest = node.ask("admin", "GET", &format!("/v1/audit?after={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!(
        (&first["records"][1]["record"], &rest["records"][0]["record"]),
        (&json!({"what": 1}), &json!({"what": 2}))
    );
    assert_eq!((rest["records"].as_array().unwrap().len(), rest.get("next")), (1, None));
    let foreign = cursor_of_users();
    assert_eq!(node.ask("admin", "GET", &format!("/v1/audit?after={foreign}")).await.slug(), "bad-query");
}

fn cursor_of_users() -> String {
    super::paging::cursor(&identity("bob").handle)
}

#[tokio::test]
async fn a_nonce_counts_once_and_only_when_it_is_known_to() {
    let node = node();
    let twice = || {
        let request = signed("alice", "GET", "/v1/me", &[], b"");
        let mut again = plain("GET", "/v1/me");
        *again.headers_mut() = request.headers().clone();
        (request, again)
    };
    let (first, again) = twice();
    assert_eq!(node.send(first).await.status, 200);
    let replayed = node.send(again).await;
    assert_eq!((replayed.status.as_u16(), replayed.slug().as_str()), (401, "nonce-used"));
    // Whatever the store does at the insert, nobody gets in, and the same request does not either later if it may have been done.
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Stale) {
        node.faulty.arm(Some((node.faulty.calls().len(), fault)));
        let (first, again) = twice();
        let answer = node.send(first).await;
        assert!(node.faulty.fired(), "{fault:?}");
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (503, "nonce-unknown"), "{fault:?}");
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(!answer.text.contains("injected"), "why is for the log: {answer:?}");
        let later = node.send(again).await;
        let landed = matches!(fault, Fault::LostAnswer | Fault::Late);
        assert_eq!(later.status, if landed { 401 } else { 200 }, "{fault:?}");
    }
    let metrics = node.send_from("127.0.0.1:1000", plain("GET", "/metrics")).await;
    assert!(metrics.text.contains("unibus_store_errors_total 4"), "{}", metrics.text);
}

#[tokio::test]
async fn without_a_lease_there_is_no_answer_but_503() {
    let node = node();
    let stale = Arc::new(Gate::new(BusAuth::Enforce, Instant::now().checked_sub(LEASE * 3).unwrap()));
    stale.renew(Instant::now().checked_sub(LEASE).unwrap());
    let mut observer = node.shared.observer.clone();
    observer.gate = stale.clone();
    let users = Users::new(stale, observer.link.clone());
    let shared = Arc::new(Shared::new(observer, users, node.faulty.clone(), Instant::now()));
    let blind = Node { router: router(shared.clone()), shared, faulty: node.faulty.clone(), file: PathBuf::new() };
    blind.faulty.arm(None);
    for who in ["admin", "alice", "gone", "nobody"] {
        let answer = blind.ask(who, "GET", "/v1/me").await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (503, "unavailable"), "{who}");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(blind.faulty.calls().len(), 0, "no nonce was spent");
    let health = blind.send(plain("GET", "/healthz")).await;
    assert_eq!((health.status.as_u16(), &health.json()["status"]), (503, &json!("unavailable")));
    assert!(health.json().get("posture").is_none(), "the network sees four words");
}

#[tokio::test]
async fn bad_requests_are_told_apart() {
    let node = node();
    node.faulty.arm(None);
    let key = json!({ "sign_pub": identity("carol").sign_pub }).to_string();
    let body = |text: &str| text.as_bytes().to_vec();
    for (slug, fields, body) in [
        ("media-type", vec![], body(&key)),
        ("media-type", vec![("content-type", "text/plain")], body(&key)),
        ("bad-json", vec![JSON], body("")),
        ("bad-json", vec![JSON], body("{")),
        ("bad-json", vec![JSON], b"{\"sign_pub\":\"\xff\"}".to_vec()),
        ("bad-json", vec![JSON], body(&key.replace('}', ",\"extra\":1}"))),
        ("bad-json", vec![JSON], body(&key.replace('}', ",\"role\":\"owner\"}"))),
        ("bad-json", vec![JSON], body(&key.replace('}', ",\"role\":1e400}"))),
        ("bad-json", vec![JSON], body(&format!("{key}{key}"))),
        ("bad-json", vec![JSON], body("{\"sign_pub\":\"00\"}")),
        ("bad-json", vec![JSON], vec![b'['; 1 << 20]),
        ("too-large", vec![JSON], vec![b' '; (1 << 20) + 1]),
        ("precondition-unsupported", vec![JSON, ("if-match", "\"1\"")], body(&key)),
        ("precondition-unsupported", vec![JSON, ("if-none-match", "*")], body(&key)),
        ("precondition-malformed", vec![JSON, ("if-match", "1")], body(&key)),
        // All is well, and there is no session with an engine to write it through.
        ("unavailable", vec![JSON], body(&key)),
    ] {
        let answer = node.put(&fields, &body).await;
        assert_eq!(answer.slug(), slug, "{fields:?} {}", String::from_utf8_lossy(body.get(..60).unwrap_or(&body)));
        assert!(answer.text.len() < 1000, "{}", answer.text.len());
    }
    let patch = |fields: &[(&str, &str)], body: &str| {
        let request = signed("admin", "PATCH", "/v1/users/bob", fields, body.as_bytes());
        async { node.send(request).await.slug() }
    };
    assert_eq!(patch(&[JSON], "{\"state\":\"disabled\"}").await, "precondition-required");
    assert_eq!(patch(&[JSON, ("if-match", "*")], "{}").await, "bad-json");
    assert_eq!(patch(&[JSON, ("if-match", "*")], "{\"state\":\"removed\"}").await, "bad-json");
    let delete = signed("admin", "DELETE", "/v1/users/bob", &[], b"x");
    assert_eq!(node.send(delete).await.slug(), "body-unexpected");
    let inserts = node.faulty.calls().iter().all(|call| call.bucket == Bucket::Nonces);
    assert!(inserts, "nothing else was asked of the store: {:?}", node.faulty.calls());

    let mut changed = signed("admin", "PUT", "/v1/users/carol", &[JSON], key.as_bytes());
    *changed.body_mut() = Body::from(key.to_uppercase());
    assert_eq!(node.send(changed).await.slug(), "digest-mismatch");
    let mut other = signed("admin", "GET", "/v1/me", &[], b"");
    *other.uri_mut() = "/v1/directory".parse().unwrap();
    assert_eq!(node.send(other).await.slug(), "signature-invalid");
    let mut many = signed("admin", "GET", "/v1/me", &[], b"");
    many.headers_mut().insert("x-padding", "x".repeat(17 * 1024).parse().unwrap());
    let answer = node.send(many).await;
    assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (431, "head-too-large"));
    assert_eq!(node.ask("gone", "GET", "/v1/me").await.slug(), "user-disabled");
    assert_eq!(node.ask("nobody", "GET", "/v1/me").await.slug(), "key-unknown");
}

#[tokio::test]
async fn a_key_uses_up_its_own_rate_and_nobody_else_s() {
    let node = node_with("2");
    let mut limited = 0;
    for _ in 0..10 {
        let answer = node.ask("alice", "GET", "/v1/me").await;
        if answer.status == 429 {
            assert_eq!(
                (answer.slug().as_str(), answer.headers["retry-after"].to_str().unwrap()),
                ("rate-limited", "1")
            );
            limited += 1;
        }
    }
    assert!((1..=6).contains(&limited), "{limited}");
    // A signature that is not his does not count against him.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for _ in 0..4 {
        let mut forged = signed("alice", "GET", "/v1/me", &[], b"");
        *forged.uri_mut() = "/v1/directory".parse().unwrap();
        assert_eq!(node.send(forged).await.slug(), "signature-invalid");
    }
    assert_eq!(node.ask("alice", "GET", "/v1/me").await.status, 200);
    assert_eq!(node.ask("bob", "GET", "/v1/me").await.status, 200);
    // The address is limited, too, and whoever watches the node is not.
    let mut slugs = Vec::new();
    for _ in 0..30 {
        slugs.push(node.send(plain("GET", "/v1/nowhere")).await.slug());
    }
    assert!(slugs.contains(&"rate-limited".to_owned()), "{slugs:?}");
    assert_eq!(node.send(plain("GET", "/livez")).await.status, 200);
    assert_eq!(node.send_from("192.0.2.8:1", plain("GET", "/v1/nowhere")).await.slug(), "not-found");
}
