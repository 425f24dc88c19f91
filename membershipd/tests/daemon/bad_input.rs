//! What no client should send, to the API of a real daemon over TLS: each is answered with a problem of the client's, or the
//! connection is closed; nothing panics, nothing is stored, and the log names nothing of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::common::requests::{API_PORT, assert_closed, seed_admin, signed};
use crate::common::wire::trusting;
use crate::common::{Authority, Daemon, Dir, TLS, own_address, said};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use unibus_client::identity::Identity;

/// A word that stands in everything that is sent, and must not stand in the log.
const SECRET: &str = "salaries";

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn start() -> (Daemon, Arc<ClientConfig>) {
    let (dir, address) = (Dir::new(), own_address());
    Authority::new(&dir).leaf(&dir, address, 365);
    let config = trusting(&dir.path().join("ca.crt"));
    let daemon = Daemon::launch(dir, address, &[&TLS[..], &["--api-rate", "1000", "--log-format", "json"]].concat());
    daemon.wait_for_lease();
    (daemon, config)
}

/// A connection on which the handshake is done.
fn connect(daemon: &Daemon, config: &Arc<ClientConfig>) -> Tls {
    let tcp = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(config.clone(), daemon.address.into()).unwrap(), tcp);
    tls.conn.complete_io(&mut tls.sock).unwrap();
    tls
}

/// What is said to these bytes until the connection is closed.
fn exchange(daemon: &Daemon, config: &Arc<ClientConfig>, bytes: &[u8]) -> String {
    let mut tls = connect(daemon, config);
    // The server may close before it has read everything.
    let _ = tls.write_all(bytes).and_then(|()| tls.flush());
    let mut answer = Vec::new();
    let ended = tls.read_to_end(&mut answer);
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "still open");
    String::from_utf8_lossy(&answer).into_owned()
}

/// One way to be wrong: what it is, what is said to it (slugs or bare statuses), and the bytes.
type Case = (String, &'static [&'static str], Vec<u8>);

/// What the HTTP library refuses by itself.
const NO_HTTP: &[&str] = &["400", ""];
const SUBJECT: &[&str] = &["bad-subject", "subject-wildcard", "subject-reserved"];

/// A request with a body, right but for what is in it.
fn with_body(daemon: &Daemon, who: &Identity, method: &str, target: &str, body: &[u8], etag: Option<&str>) -> Vec<u8> {
    let length = body.len().to_string();
    let mut fields = vec![("content-type", "application/json"), ("content-length", &length)];
    fields.extend(etag.map(|etag| ("if-match", etag)));
    signed(daemon, who, method, target, body, &fields)
}

fn bodies(daemon: &Daemon, who: &Identity) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let many = "\"1\",".repeat(20);
    let mut case = |wanted: &'static [&'static str], method: &str, target: &str, body: &[u8], etag| {
        let shown: String = String::from_utf8_lossy(body).chars().take(60).collect();
        cases.push((format!("{method} {target} {shown}"), wanted, with_body(daemon, who, method, target, body, etag)));
    };
    let room = format!("/v1/rooms/{SECRET}");
    let long = "a".repeat(200);
    for subject in [
        "",
        ".",
        "*",
        ">",
        "room",
        "room.",
        "room..a",
        ".room.a",
        "room.*",
        "room.>",
        "room.a b",
        "room.a\\tb",
        "room.A",
        "room.\\u0000",
        "room.\u{e4}",
        "$SYS.a",
        "$JS.API.INFO",
        "_INBOX.x.y",
        "unibus.event.x",
        "other.a",
        "room.a.b.c.d.e.f.g.h",
        &format!("room.{long}"),
    ] {
        case(SUBJECT, "PUT", &room, format!("{{\"subject\":\"{subject}\"}}").as_bytes(), None);
        case(SUBJECT, "PATCH", "/v1/rooms/hall", format!("{{\"subject\":\"{subject}\"}}").as_bytes(), Some("*"));
    }
    let nested = format!("{{\"subject\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let oversized = format!("{{\"subject\":\"room.{}\"}}", "a".repeat(1 << 20));
    for body in [
        &b""[..],
        b"{}",
        b"null",
        b"[]",
        b"\"room.a\"",
        b"{",
        b"{\"subject\":\"room.a\"",
        b"{\"subject\":\"room.a\"}x",
        b"{\"subject\":\"room.\xff\"}",
        b"\xef\xbb\xbf{\"subject\":\"room.a\"}",
        b"{\"subject\":\"\\ud800\"}",
        b"{\"subject\":7}",
        b"{\"subject\":1e999}",
        b"{\"subject\":99999999999999999999999999999999}",
        b"{\"subject\":[\"room.a\"]}",
        b"[\"room.a\",null]",
        b"{\"subject\":\"room.a\",\"subject\":\"room.a\"}",
        b"{\"subject\":\"room.a\",\"owner\":\"root\"}",
        b"{\"subject\":\"room.a\",\"policy\":7}",
        b"{\"subject\":\"room.a\",\"policy\":[true,true,true]}",
        b"{\"subject\":\"room.a\",\"policy\":{\"encrypt\":true,\"persist\":true}}",
        b"{\"subject\":\"room.a\",\"policy\":{\"encrypt\":1,\"persist\":true,\"sign\":true}}",
        b"{\"subject\":\"room.a\",\"policy\":{\"encrypt\":true,\"persist\":true,\"sign\":true,\"keep\":1e308}}",
        nested.as_bytes(),
    ] {
        case(&["bad-json"], "PUT", &room, body, None);
    }
    // It is refused while it is still being sent: the answer may be lost to the reset.
    case(&["too-large", ""], "PUT", &room, oversized.as_bytes(), None);
    for body in [
        "{\"role\":\"admin\"}",
        "{\"role\":7}",
        "{\"role\":null}",
        "{\"role\":\"\"}",
        "[\"reader\"]",
        "{\"role\":\"reader\",\"until\":1}",
    ] {
        case(&["bad-json"], "PUT", "/v1/rooms/hall/members/bob", body.as_bytes(), None);
        case(&["bad-json"], "PATCH", "/v1/rooms/hall/members/root", body.as_bytes(), Some("*"));
    }
    let key = "ab".repeat(32);
    for body in [
        "{\"sign_pub\":\"\"}".to_owned(),
        format!("{{\"sign_pub\":\"01{}\"}}", "00".repeat(31)),
        format!("{{\"sign_pub\":\"{key}{key}\"}}"),
        format!("{{\"sign_pub\":\"{key}\",\"role\":\"owner\"}}"),
        format!("{{\"sign_pub\":\"{key}\",\"handle\":\"x\"}}"),
        format!("[\"{key}\",null]"),
    ] {
        case(&["bad-json"], "PUT", &format!("/v1/users/{SECRET}"), body.as_bytes(), None);
    }
    for etag in ["7", "\"7", "W/7", "\"a b\"", "*,\"1\"", &many] {
        case(&["precondition-malformed"], "PATCH", "/v1/rooms/hall", b"{\"subject\":\"room.other\"}", Some(etag));
    }
    cases
}

/// Entity tags that no revision has: well-formed, so what was to be changed is in the audit.
fn outdated(daemon: &Daemon, who: &Identity) -> Vec<Case> {
    let case = |etag: &str| -> Case {
        let bytes = with_body(daemon, who, "PATCH", "/v1/users/root", b"{\"role\":\"user\"}", Some(etag));
        (etag.to_owned(), &["precondition-failed"], bytes)
    };
    ["\"99999999999999999999999\"", "\"-1\"", "\"07\"", "W/\"1\"", "\"\""].map(case).to_vec()
}

fn names_and_queries(daemon: &Daemon, who: &Identity) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let long = "a".repeat(65);
    for name in [
        "a.b", ".", "..", "*", "%2A", "%3E", "a%20b", "%20", "%00", "%0A", "%FF", "%C3%A9", "A", "-a", "a%2Fb", "$SYS",
        &long,
    ] {
        for (target, body) in [
            (format!("/v1/rooms/{name}"), "{\"subject\":\"room.a\"}"),
            (format!("/v1/rooms/{name}/members/bob"), "{\"role\":\"reader\"}"),
            (format!("/v1/rooms/hall/members/{name}"), "{\"role\":\"reader\"}"),
            (format!("/v1/users/{name}"), "{\"sign_pub\":\"00\"}"),
        ] {
            // Of several mistakes any one may be named.
            let wanted: &[&str] = &["bad-path", "bad-json"];
            cases.push((target.clone(), wanted, with_body(daemon, who, "PUT", &target, body.as_bytes(), None)));
        }
    }
    for target in ["/v1/rooms/", "/v1/rooms//members/bob", "/v1//rooms", "/v1/rooms/hall/members/"] {
        let wanted: &[&str] = &["not-found", "bad-path", "method-not-allowed"];
        cases.push((target.to_owned(), wanted, with_body(daemon, who, "PUT", target, b"{\"role\":\"reader\"}", None)));
    }
    for query in [
        "limit=0",
        "limit=-1",
        "limit=501",
        "limit=99999999999999999999999",
        "limit=1e2",
        "limit=%FF",
        "limit=",
        "after=*",
        "after=%00",
        "after=cm9vbXM6YS5i",
        "limit=1&limit=2",
        "room=hall",
        "%FF=1",
    ] {
        let target = format!("/v1/rooms?{query}");
        cases.push((target.clone(), &["bad-query"], signed(daemon, who, "GET", &target, b"", &[])));
    }
    cases
}

/// Heads that are none.
fn heads(daemon: &Daemon, who: &Identity) -> Vec<Case> {
    let host = format!("Host: {}:{API_PORT}\r\n", daemon.address);
    let plain = |text: String| text.into_bytes();
    let put = |fields: &[(&str, &str)], body: &[u8]| signed(daemon, who, "PUT", "/v1/rooms/a", body, fields);
    let json = ("content-type", "application/json");
    vec![
        ("a space in the target".to_owned(), NO_HTTP, plain(format!("GET /v1/rooms/a b HTTP/1.1\r\n{host}\r\n"))),
        (
            "a control character in the target".to_owned(),
            NO_HTTP,
            plain(format!("GET /v1/\x01 HTTP/1.1\r\n{host}\r\n")),
        ),
        (
            "a bare >".to_owned(),
            &["400", "", "signature-missing"],
            plain(format!("GET /v1/rooms/> HTTP/1.1\r\n{host}Connection: close\r\n\r\n")),
        ),
        ("another version".to_owned(), NO_HTTP, plain(format!("GET /v1/me HTTP/9.9\r\n{host}\r\n"))),
        (
            "a long method".to_owned(),
            &["431", "400", ""],
            plain(format!("{} /v1/me HTTP/1.1\r\n{host}\r\n", "G".repeat(70_000))),
        ),
        ("a zero in a field".to_owned(), NO_HTTP, plain(format!("GET /v1/me HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"))),
        ("a folded field".to_owned(), NO_HTTP, plain(format!("GET /v1/me HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"))),
        ("a space in a name".to_owned(), NO_HTTP, plain(format!("GET /v1/me HTTP/1.1\r\n{host}X y: a\r\n\r\n"))),
        (
            "no signature".to_owned(),
            &["signature-missing"],
            plain(format!("GET /v1/me HTTP/1.1\r\n{host}Connection: close\r\n\r\n")),
        ),
        ("a field that is no UTF-8".to_owned(), &["signature-malformed"], {
            let mut text = plain(format!(
                "GET /v1/me HTTP/1.1\r\n{host}Connection: close\r\nContent-Digest: x\r\nSignature: a=:AA==:\r\nSignature-Input: "
            ));
            text.extend_from_slice(b"sig=(\xff\xfe)\r\n\r\n");
            text
        }),
        ("a negative length".to_owned(), NO_HTTP, put(&[json, ("content-length", "-1")], b"{}")),
        ("a length in words".to_owned(), NO_HTTP, put(&[json, ("content-length", "1e3")], b"{}")),
        (
            "a length beyond 64 bits".to_owned(),
            NO_HTTP,
            put(&[json, ("content-length", "99999999999999999999")], b"{}"),
        ),
        (
            "a huge chunk".to_owned(),
            &["body-broken", "too-large", "400", ""],
            put(&[json, ("transfer-encoding", "chunked")], b"FFFFFFFFFFFFFFFFFF\r\nx"),
        ),
        (
            "a chunk of no size".to_owned(),
            &["body-broken", "400", ""],
            put(&[json, ("transfer-encoding", "chunked")], b"x\r\n{}\r\n0\r\n\r\n"),
        ),
    ]
}

#[test]
fn whatever_is_sent_is_answered_by_a_problem_or_nothing_and_leaves_nothing() {
    let (daemon, config) = start();
    let root = seed_admin(&daemon);
    let hall = with_body(&daemon, &root, "PUT", "/v1/rooms/hall", b"{\"subject\":\"room.hall\"}", None);
    assert!(exchange(&daemon, &config, &hall).starts_with("HTTP/1.1 201"));
    refused(&daemon, &config, outdated(&daemon, &root));
    let before = content(&daemon, "before.db");

    // Those that say too little, or do not listen: they have their time, while all others are served.
    let hello = records(&daemon, &config);
    let mut slow = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    slow.write_all(&hello[..7]).unwrap();
    let deaf = connect_deaf(&daemon, &config);

    let cases = [bodies(&daemon, &root), names_and_queries(&daemon, &root), heads(&daemon, &root)].concat();
    assert!(cases.len() > 150, "{}", cases.len());
    refused(&daemon, &config, cases);

    // TLS that ends in the middle: of the first message, of a record with half a request, or with one that nobody can open.
    let half = with_body(&daemon, &root, "PUT", &format!("/v1/rooms/{SECRET}"), b"{\"subject\":\"room.a\"}", None);
    for (what, spoil) in [("cut", 40), ("garbled", 0)] {
        let mut tls = connect(&daemon, &config);
        tls.conn.writer().write_all(&half).unwrap();
        let mut record = Vec::new();
        while tls.conn.wants_write() {
            tls.conn.write_tls(&mut record).unwrap();
        }
        let end = record.len();
        match spoil {
            0 => record[end / 2] ^= 1,
            less => record.truncate(end - less),
        }
        tls.sock.write_all(&record).unwrap();
        tls.sock.shutdown(std::net::Shutdown::Write).unwrap();
        // What comes is a TLS alert, or nothing.
        let rest = assert_closed(tls.sock, Duration::from_secs(5));
        assert!(!rest.contains("HTTP"), "{what}: {rest}");
    }
    for end in [0, 1, 5, hello.len() / 2, hello.len() - 1] {
        let mut tcp = TcpStream::connect((daemon.address, API_PORT)).unwrap();
        tcp.write_all(&hello[..end]).unwrap();
        tcp.shutdown(std::net::Shutdown::Write).unwrap();
        assert_closed(tcp, Duration::from_secs(5));
    }
    assert_closed(slow, Duration::from_secs(15));
    deaf.join().unwrap();

    // Nothing happened, and everything still works.
    assert_eq!(content(&daemon, "after.db"), before, "something was stored");
    let me = exchange(&daemon, &config, &signed(&daemon, &root, "GET", "/v1/me", b"", &[]));
    assert!(me.starts_with("HTTP/1.1 200"), "{me}");
    let host = format!("Host: {}:{API_PORT}\r\nConnection: close\r\n\r\n", daemon.address);
    let metrics = exchange(&daemon, &config, format!("GET /metrics HTTP/1.1\r\n{host}").as_bytes());
    assert!(metrics.contains("problem=\"bad-subject\"") && !metrics.contains("status=\"5"), "{metrics}");

    // The log: a line of JSON for each event, none of them a panic, and in none what was sent.
    let log = daemon.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let refused = lines.iter().filter(|line| line["fields"]["message"] == "request refused");
    assert!(refused.clone().count() > 100, "{log}");
    for line in refused {
        assert!(
            line["timestamp"].is_string() && line["level"] == "INFO" && line["fields"]["problem"].is_string(),
            "{line}"
        );
        let route = line["fields"]["route"].as_str().unwrap();
        assert!(route == "none" || route.starts_with("/v1/") && !route.contains("hall"), "{line}");
    }
    for word in ["panicked", SECRET, "room.hall", "room.a", &daemon.seed("root")] {
        assert!(!log.contains(word), "{word} is in the log: {log}");
    }
}

/// Sends each, and compares what is said.
fn refused(daemon: &Daemon, config: &Arc<ClientConfig>, cases: Vec<Case>) {
    for (what, wanted, bytes) in cases {
        let answer = exchange(daemon, config, &bytes);
        let problem = || answer.contains("content-type: application/problem+json");
        let fits = |wanted: &&str| match *wanted {
            "" => answer.is_empty(),
            status if status.len() == 3 => answer.starts_with(&format!("HTTP/1.1 {status}")),
            slug => answer.starts_with("HTTP/1.1 4") && problem() && answer.contains(&format!("\"/problems/{slug}\"")),
        };
        assert!(wanted.iter().any(fits), "{what}: {answer}");
    }
}

/// What the store holds but for heartbeats and nonces, the audit log included.
fn content(daemon: &Daemon, file: &str) -> Value {
    let exported = daemon.ask(&["export", "--json", "--db", file]);
    assert!(exported.status.success(), "{}", said(&exported));
    let answer: Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert!(answer["content_sha256"].is_string() && answer["entries"]["UNIBUS_audit"].is_u64(), "{answer}");
    json!([answer["content_sha256"], answer["entries"]])
}

/// The first message of a handshake.
fn records(daemon: &Daemon, config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut hello = Vec::new();
    ClientConnection::new(config.clone(), daemon.address.into()).unwrap().write_tls(&mut hello).unwrap();
    assert!(hello.len() > 100);
    hello
}

/// A client that asks and asks, and takes nothing of what is said: cut off after a time, so its writes fail.
fn connect_deaf(daemon: &Daemon, config: &Arc<ClientConfig>) -> std::thread::JoinHandle<()> {
    let mut tls = connect(daemon, config);
    let ask = format!("GET /openapi.json HTTP/1.1\r\nHost: {}:{API_PORT}\r\n\r\n", daemon.address).repeat(64);
    tls.sock.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    std::thread::spawn(move || {
        let begun = std::time::Instant::now();
        while tls.write_all(ask.as_bytes()).and_then(|()| tls.flush()).is_ok() {}
        assert!(begun.elapsed() < Duration::from_secs(25), "it was never cut off");
    })
}
