//! Requests to the API of a daemon under test: signed by Python, signed by us, or not meant to be any.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value, json};
use unibus_client::identity::Identity;
use unibus_http_signature::{BodyDigest, Nonce, RequestHead, Signer, TAG};

use super::Daemon;

/// Port of the API.
pub const API_PORT: u16 = 8470;

/// Seconds since 1970.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// An identity that is made now.
pub fn identity(daemon: &Daemon, handle: &str) -> Identity {
    daemon.identity(handle);
    Identity::load(&daemon.dir.path().join(format!("{handle}.toml"))).unwrap()
}

/// Makes the first admin, as an operator does.
pub fn seed_admin(daemon: &Daemon) -> Identity {
    let root = identity(daemon, "root");
    let record = json!({ "schema": 1, "handle": "root", "sign_pub": root.sign_pub }).to_string();
    let path = daemon.dir.write("bootstrap.json", &record, 0o600);
    daemon.wait("import of the first admin", || !path.exists());
    root
}

/// A request that Python is to sign as `who` and to send: right in every way.
pub fn job(daemon: &Daemon, who: &Identity, method: &str, target: &str, body: &Value) -> Value {
    let (_, seed) = nkeys::decode_seed(who.nkey_seed()).unwrap();
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = if body.is_empty() { json!({}) } else { json!({ "Content-Type": "application/json" }) };
    json!({
        "op": "send",
        "method": method,
        "url": format!("https://{}:{API_PORT}{target}", daemon.address),
        "headers": headers,
        "body": BASE64.encode(body.as_bytes()),
        "signatures": [{
            "seed": HEXLOWER.encode(&seed),
            "keyid": who.sign_pub.to_string(),
            "created": now(),
            "expires": now() + 110,
            "nonce": BASE64.encode(&nonce),
            "label": "sig1",
            "tag": TAG,
            "alg": false,
            "covered": ["@method", "@authority", "@path", "@query", "content-digest"],
        }],
        "change": {},
        "times": 1,
        "ca": daemon.dir.path().join("ca.crt"),
    })
}

/// The answers to one job.
pub fn answers(answer: &Value) -> Vec<Value> {
    answer.as_array().unwrap().iter().map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect()
}

/// The type of a problem.
pub fn slug(problem: &Value) -> &str {
    problem["type"].as_str().and_then(|uri| uri.strip_prefix("/problems/")).unwrap_or_else(|| panic!("{problem}"))
}

/// Has Python do all jobs, and returns its answers.
pub fn python(jobs: &[Value]) -> Vec<Value> {
    let packages = std::env::var_os("UNIBUS_TEST_PYTHON").map(PathBuf::from);
    let packages = packages.expect("UNIBUS_TEST_PYTHON names no packages; remedy: cargo xtask test sets it");
    let mut process = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/signatures.py"))
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(json!(jobs).to_string().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "the client failed; what it said is above");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The head and body that the server sends until it closes the connection, which it must within `patience`.
pub fn assert_closed(mut stream: TcpStream, patience: Duration) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let deadline = Instant::now() + patience;
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            // A reset is a closed connection, too: what we sent was not read to its end.
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&piece[..count]),
            // Another test's tokio handles SIGCHLD in this process, and a read with a time-out is not restarted after a signal,
            // SA_RESTART or not (signal(7)).
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                assert!(Instant::now() < deadline, "still open: {}", String::from_utf8_lossy(&said));
            }
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// A request that is right, by our own signer. Of the further fields If-Match is signed, too.
pub fn signed(
    daemon: &Daemon,
    who: &Identity,
    method: &str,
    target: &str,
    body: &[u8],
    more: &[(&str, &str)],
) -> Vec<u8> {
    let authority = format!("{}:{API_PORT}", daemon.address);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let lines: Vec<(&str, &[u8])> = more.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let head = RequestHead { method, authority: &authority, path, query, fields: &lines };
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    let signature = Signer::new(who.key_pair().unwrap())
        .unwrap()
        .sign(&head, BodyDigest::of(body), now(), Nonce::from_entropy(nonce))
        .unwrap();
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in signature.fields().into_iter().chain(more.iter().copied()) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// What the daemon says to these bytes until it closes the connection.
pub fn exchange(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes);
    assert_closed(stream, Duration::from_secs(20))
}

/// What the daemon answers to a request; what is given as If-Match is signed, too.
pub fn ask_if(
    daemon: &Daemon,
    who: &Identity,
    method: &str,
    target: &str,
    body: &Value,
    if_match: Option<u64>,
) -> Value {
    let etag = if_match.map(|revision| format!("\"{revision}\""));
    let mut fields: Vec<(&str, &str)> = etag.iter().map(|etag| ("If-Match", etag.as_str())).collect();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len().to_string();
    if !body.is_empty() {
        fields.extend([("Content-Type", "application/json"), ("Content-Length", length.as_str())]);
    }
    let said = exchange(daemon, &signed(daemon, who, method, target, body.as_bytes(), &fields));
    let (_, answer) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {target}: {said}"));
    serde_json::from_str(answer).unwrap_or_else(|_| panic!("{method} {target}: {said}"))
}

/// The same without a condition.
pub fn ask(daemon: &Daemon, who: &Identity, method: &str, target: &str, body: &Value) -> Value {
    ask_if(daemon, who, method, target, body, None)
}

/// A user that `root` adds.
pub fn user(daemon: &Daemon, root: &Identity, handle: &str) -> Identity {
    let who = identity(daemon, handle);
    let added = ask(daemon, root, "PUT", &format!("/v1/users/{handle}"), &json!({ "sign_pub": who.sign_pub }));
    assert_eq!(added["changed"], true, "{added}");
    who
}
