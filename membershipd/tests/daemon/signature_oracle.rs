//! Signatures against an implementation that nobody here wrote: http-message-signatures and requests, of PyPI.
//!
//! Python signs and sends to a server on loopback that verifies with our code, and verifies what we signed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use unibus_client::identity::Identity;
use unibus_core::domain::SignPub;
use unibus_http_signature::{
    Authority, BodyDigest, Claim, Nonce, NonceError, NonceUse, Nonces, Refusal, RequestHead, Signer, Standing, TAG,
    fields,
};

use crate::common::requests::{self, now};

const ALICE: [u8; 32] = [1; 32];
const DISABLED: [u8; 32] = [2; 32];
const STRANGER: [u8; 32] = [3; 32];

fn public(seed: [u8; 32]) -> SignPub {
    HEXLOWER.encode(SigningKey::from_bytes(&seed).verifying_key().as_bytes()).parse().unwrap()
}

/// A server that says who it takes a request for, or why it refuses.
#[derive(Clone)]
struct Server {
    names: Arc<Vec<Authority>>,
    nonces: Arc<Mutex<BTreeSet<String>>>,
    port: u16,
}

impl Nonces for Server {
    async fn insert(&self, used: &NonceUse) -> Result<(), NonceError> {
        if self.nonces.lock().unwrap().insert(used.entry_key()) { Ok(()) } else { Err(NonceError::Used) }
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
        let names = Arc::new(names.map(|name| name.parse().unwrap()).to_vec());
        let server = Self { names, nonces: Arc::default(), port };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    async fn verify(&self, request: Request) -> Result<&'static str, Refusal> {
        let (parts, body) = request.into_parts();
        let lines = fields(&parts.headers);
        let claim = Claim::read(&RequestHead::received(&parts, &lines), &self.names, now())?;
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let unspent = claim.prove(BodyDigest::of(&body), now(), |key| match *key {
            key if key == public(ALICE) => Some(Standing::Active("alice")),
            key if key == public(DISABLED) => Some(Standing::Disabled),
            _ => None,
        })?;
        Ok(unspent.spend(self).await?.into_user())
    }

    fn url(&self, target: &str) -> String {
        format!("http://127.0.0.1:{}{target}", self.port)
    }
}

async fn answer(State(server): State<Server>, request: Request) -> &'static str {
    server.verify(request).await.unwrap_or_else(|refusal| refusal.slug())
}

/// Has Python do all jobs, and returns its answers.
async fn python(jobs: Vec<Value>) -> Vec<Value> {
    tokio::task::spawn_blocking(move || requests::python(&jobs)).await.unwrap()
}

/// A signature that Python is to make: right, with a new nonce.
fn signature(seed: [u8; 32]) -> Value {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    json!({
        "seed": HEXLOWER.encode(&seed),
        "keyid": public(seed).to_string(),
        "created": now(),
        "expires": now() + 60,
        "nonce": BASE64.encode(&nonce),
        "label": "sig1",
        "tag": TAG,
        "alg": false,
        "covered": ["@method", "@authority", "@path", "@query", "content-digest"],
    })
}

/// A request that Python is to sign and send: right in every way.
fn request(server: &Server) -> Value {
    json!({
        "op": "send",
        "method": "PUT",
        "url": server.url("/v1/rooms/a%2Fb?x=a%20b&y="),
        "headers": {"Content-Type": "application/json"},
        "body": BASE64.encode(b"{\"name\": \"atelier\"}"),
        "signatures": [signature(ALICE)],
        "change": {},
        "times": 1,
    })
}

fn with(server: &Server, change: impl FnOnce(&mut Value)) -> Value {
    let mut job = request(server);
    change(&mut job);
    job
}

#[tokio::test]
async fn what_python_signs_is_accepted() {
    let server = Server::start().await;
    let covering_if_match = |job: &mut Value| {
        job["headers"]["If-Match"] = json!("\"7\"");
        job["signatures"][0]["covered"].as_array_mut().unwrap().push(json!("if-match"));
    };
    let jobs = vec![
        request(&server),
        with(&server, covering_if_match),
        with(&server, |job| job["signatures"][0]["covered"].as_array_mut().unwrap().reverse()),
        with(&server, |job| {
            job["method"] = json!("GET");
            job["body"] = json!("");
        }),
        with(&server, |job| job["url"] = json!(server.url("/v1/users"))),
        with(&server, |job| job["url"] = json!(server.url("/v1/users?"))),
        with(&server, |job| job["url"] = json!(server.url(""))),
        with(&server, |job| job["url"] = json!(server.url("/%C3%A9?q=%3Fa/b?c+d"))),
        with(&server, |job| job["body"] = json!(BASE64.encode(&vec![0xff; 300_000]))),
        with(&server, |job| job["headers"]["Host"] = json!(format!("127.0.0.1:{}", server.port))),
    ];
    let count = jobs.len();
    let answers = python(jobs).await;
    assert_eq!(answers, vec![json!(["alice"]); count]);
    assert_eq!(server.nonces.lock().unwrap().len(), count);
}

#[tokio::test]
async fn what_was_changed_or_is_not_ours_is_refused() {
    let server = Server::start().await;
    let spoil = |wanted: &'static str, change: &dyn Fn(&mut Value)| (json!([wanted]), with(&server, change));
    let (local, elsewhere) = (format!("localhost:{}", server.port), server.url("/v1/rooms/a%2Fb?x=a%20b"));
    let first = |job: &mut Value, name: &str, value: Value| job["signatures"][0][name] = value;
    let cases = vec![
        (json!(["alice", "nonce-used", "nonce-used"]), with(&server, |job| job["times"] = json!(3))),
        spoil("signature-invalid", &|job| job["change"] = json!({"method": "DELETE"})),
        spoil("signature-invalid", &|job| job["change"] = json!({"url": server.url("/v1/rooms/a/b?x=a%20b&y=")})),
        spoil("signature-invalid", &|job| job["change"] = json!({ "url": elsewhere })),
        spoil("signature-invalid", &|job| job["change"] = json!({"headers": {"Host": local}})),
        spoil("authority-foreign", &|job| job["change"] = json!({"headers": {"Host": "homer.example"}})),
        spoil("digest-mismatch", &|job| job["change"] = json!({"body": "{\"name\": \"other\"}"})),
        spoil("signature-component-missing", &|job| job["change"] = json!({"headers": {"If-Match": "\"7\""}})),
        spoil("signature-created-too-old", &|job| {
            first(job, "created", json!(now() - 3600));
            first(job, "expires", json!(now() + 60));
        }),
        spoil("signature-created-in-future", &|job| first(job, "created", json!(now() + 90))),
        spoil("signature-expired", &|job| {
            first(job, "created", json!(now() - 60));
            first(job, "expires", json!(now() - 1));
        }),
        spoil("signature-lifetime-too-long", &|job| first(job, "expires", json!(now() + 300))),
        spoil("signature-expires-missing", &|job| first(job, "expires", Value::Null)),
        spoil("signature-nonce-missing", &|job| first(job, "nonce", Value::Null)),
        spoil("signature-tag-missing", &|job| first(job, "tag", Value::Null)),
        spoil("signature-tag-foreign", &|job| first(job, "tag", json!("other"))),
        spoil("signature-parameter-foreign", &|job| first(job, "alg", json!(true))),
        spoil("signature-keyid-malformed", &|job| first(job, "keyid", json!("alice"))),
        spoil("signature-component-foreign", &|job| {
            job["signatures"][0]["covered"].as_array_mut().unwrap().push(json!("@target-uri"));
        }),
        spoil("signature-surplus", &|job| {
            let mut second = signature(ALICE);
            second["label"] = json!("sig2");
            job["signatures"].as_array_mut().unwrap().push(second);
        }),
        spoil("signature-missing", &|job| job["signatures"] = json!([])),
        spoil("key-unknown", &|job| job["signatures"] = json!([signature(STRANGER)])),
        spoil("user-disabled", &|job| job["signatures"] = json!([signature(DISABLED)])),
        spoil("signature-invalid", &|job| first(job, "seed", json!(HEXLOWER.encode(&STRANGER)))),
    ];
    let (wanted, jobs): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    assert_eq!(python(jobs).await, wanted);
    assert_eq!(server.nonces.lock().unwrap().len(), 1, "only what was accepted spends a nonce");
}

#[tokio::test]
async fn what_we_sign_python_accepts() {
    let identity = Identity::from_entropy("alice".parse().unwrap(), [5; 64]).unwrap();
    let signer = Signer::new(identity.key_pair().unwrap()).unwrap();
    let verify = |method: &str, host: &str, target: &str, if_match: Option<&str>, body: &[u8]| {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let fields: Vec<_> = if_match.iter().map(|value| ("if-match", value.as_bytes())).collect();
        let head = RequestHead { method, authority: host, path, query, fields: &fields };
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let signed = signer.sign(&head, BodyDigest::of(body), now(), Nonce::from_entropy(nonce)).unwrap();
        let mut headers = json!({});
        let mut covered = json!(["@method", "@authority", "@path", "@query", "content-digest"]);
        for (name, value) in signed.fields() {
            headers[name] = json!(value);
        }
        if let Some(value) = if_match {
            headers["if-match"] = json!(value);
            covered.as_array_mut().unwrap().push(json!("if-match"));
        }
        json!({
            "op": "verify", "method": method, "url": format!("https://{host}{target}"), "headers": headers,
            "body": BASE64.encode(body), "keyid": identity.sign_pub.to_string(), "tag": TAG, "covered": covered,
        })
    };
    let right = vec![
        verify("GET", "magnus.example:8470", "/v1/users", None, b""),
        verify("GET", "MAGNUS.example:443", "", None, b""),
        verify("GET", "magnus.example", "/v1/users?limit=10&after=a%2Fb", None, b""),
        verify("PUT", "[::1]:8470", "/v1/rooms/a%2Fb", Some("\"7\""), b"{}"),
        verify("DELETE", "127.0.0.1:8470", "/?", Some("*"), &[0xff; 1000]),
    ];
    let changed = |name: &str, value: Value| {
        let mut job = right[3].clone();
        job[name] = value;
        job
    };
    let mut other_precondition = right[3].clone();
    other_precondition["headers"]["if-match"] = json!("\"8\"");
    let wrong = vec![
        changed("method", json!("POST")),
        changed("url", json!("https://[::1]:8470/v1/rooms/a/b")),
        changed("url", json!("https://[::1]:8470/v1/rooms/a%2Fb?x")),
        changed("url", json!("https://[::1]:8471/v1/rooms/a%2Fb")),
        changed("body", json!(BASE64.encode(b"[]"))),
        changed("tag", json!("other")),
        other_precondition,
    ];
    let (rights, wrongs) = (right.len(), wrong.len());
    let answers = python(right.into_iter().chain(wrong).collect()).await;
    for (number, answer) in answers.iter().enumerate() {
        let shown = format!("number {number}: {answer}");
        if number < rights {
            assert_eq!((&answer[0]["keyid"], &answer[0]["tag"]), (&json!(identity.sign_pub), &json!(TAG)), "{shown}");
        } else {
            assert!(answer.as_str().is_some_and(|error| error.starts_with("InvalidSignature")), "{shown}");
        }
    }
    assert_eq!(answers.len(), rights + wrongs);
}
