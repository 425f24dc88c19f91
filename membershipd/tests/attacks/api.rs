//! What one member, or a stranger, can take of the API from the others: places, memory, connections, names, keys, the audit.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use unibus_client::identity::Identity;

use crate::common::requests::{API_PORT, ask, assert_closed, exchange, seed_admin, signed, slug, user};
use crate::common::wire::{Wire, trusting};
use crate::common::{Daemon, own_address};

/// Long enough for a machine that does many other things; what a bound gives is there long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the API from `source`.
fn from(daemon: &Daemon, source: IpAddr) -> TcpStream {
    with_window(daemon, source, None)
}

/// One that takes no more than about `window` bytes before it is read.
fn with_window(daemon: &Daemon, source: IpAddr, window: Option<usize>) -> TcpStream {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    if let Some(window) = window {
        set_socket_recv_buffer_size(&stream, window).unwrap();
    }
    bind(&stream, &SocketAddr::new(source, 0)).unwrap();
    connect(&stream, &SocketAddr::new(daemon.address, API_PORT)).unwrap();
    let stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    stream
}

/// The beginning of what was answered; empty: nothing yet.
fn begun(stream: &mut TcpStream) -> String {
    let mut piece = [0; 4096];
    match stream.read(&mut piece) {
        Ok(count) => String::from_utf8_lossy(&piece[..count]).into_owned(),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => String::new(),
        Err(error) => format!("closed: {error}"),
    }
}

/// A signed request with a body of `length` bytes that never comes.
fn without_body(daemon: &Daemon, who: &Identity, target: &str, kind: &str, length: usize) -> Vec<u8> {
    let length = length.to_string();
    signed(daemon, who, "PUT", target, b"", &[("Content-Type", kind), ("Content-Length", length.as_str())])
}

/// The same request with a signature that is none.
fn forged(request: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(request).unwrap();
    let (before, rest) = text.split_once("Signature: ").or_else(|| text.split_once("signature: ")).unwrap();
    let (value, after) = rest.split_once("\r\n").unwrap();
    let (label, _) = value.split_once('=').unwrap();
    let name = &text[before.len()..before.len() + "Signature: ".len()];
    format!("{before}{name}{label}=:{}==:\r\n{after}", "A".repeat(86)).into_bytes()
}

fn make_room(daemon: &Daemon, who: &Identity, id: &str) -> Value {
    let policy = json!({ "encrypt": false, "persist": false, "sign": false });
    ask(daemon, who, "PUT", &format!("/v1/rooms/{id}"), &json!({ "subject": format!("room.{id}"), "policy": policy }))
}

/// That a user who does no harm reads and writes as ever.
fn goes_on(daemon: &Daemon, who: &Identity, id: &str) {
    let me = ask(daemon, who, "GET", "/v1/me", &Value::Null);
    assert_eq!(me["handle"], who.handle.as_str(), "{me}");
    let made = make_room(daemon, who, id);
    assert_eq!(made["changed"], true, "{made}\n{}", daemon.log());
}

#[test]
fn a_stranger_who_names_a_users_key_has_no_body_waited_for() {
    let daemon = Daemon::start(&[]);
    let root = seed_admin(&daemon);
    let alice = user(&daemon, &root, "alice");
    let head = |size| without_body(&daemon, &alice, "/v1/rooms/x", "application/json", size);
    // Many more than fit into the memory for bodies, from one address; their bodies never come.
    let source = own_address();
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let mut stream = from(&daemon, source);
        stream.write_all(&forged(&head(1 << 20))).unwrap();
        waiting.push(stream);
    }
    goes_on(&daemon, &alice, "during");
    // Each was answered, at once.
    let deadline = Instant::now() + Duration::from_secs(9);
    for stream in waiting {
        let said = assert_closed(stream, deadline.saturating_duration_since(Instant::now()));
        assert!(said.starts_with("HTTP/1.1 401") && said.contains("/problems/signature-invalid"), "{said}");
    }
    goes_on(&daemon, &alice, "after");
}

#[test]
fn a_member_whose_bodies_never_come_takes_no_memory_and_no_place_of_others() {
    let daemon = Daemon::start(&["--api-rate", "1000"]);
    let root = seed_admin(&daemon);
    let [alice, mallory] = ["alice", "mallory"].map(|handle| user(&daemon, &root, handle));
    let waiting = |size: usize, count: usize, least: usize| {
        // From the address of all the others, as in an office.
        let mut waiting = Vec::new();
        for _ in 0..count {
            let request = without_body(&daemon, &mallory, "/v1/rooms/x", "application/json", size);
            let mut stream = TcpStream::connect((daemon.address, API_PORT)).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            stream.write_all(&request).unwrap();
            waiting.push(stream);
        }
        let mut refused = 0;
        daemon.wait("refusals of what is beyond a share", || {
            refused += waiting.iter_mut().map(begun).filter(|said| said.contains("/problems/rate-limited")).count();
            refused >= least
        });
        waiting
    };
    // Large ones, for the memory: 8 of a user, 16 of an address, 32 in all.
    let large = waiting(1 << 20, 40, 32);
    let body = json!({ "subject": "room.large", "policy": { "encrypt": false, "persist": false, "sign": false } });
    let mut padded = body.to_string();
    padded.push_str(&" ".repeat((1 << 20) - padded.len()));
    let length = padded.len().to_string();
    let fields = [("Content-Type", "application/json"), ("Content-Length", length.as_str())];
    let said = exchange(&daemon, &signed(&daemon, &alice, "PUT", "/v1/rooms/large", padded.as_bytes(), &fields));
    assert!(said.starts_with("HTTP/1.1 201"), "a large body of another user: {said}");
    goes_on(&daemon, &alice, "large-ones");
    drop(large);
    // Small ones, for the places: 64 of a user.
    let waiting = waiting(10, 100, 30);
    goes_on(&daemon, &alice, "small-ones");
    // What never comes is given up.
    for stream in waiting {
        assert_closed(stream, PATIENCE);
    }
}

#[test]
fn a_member_who_uploads_slowly_takes_no_upload_of_others() {
    let daemon = Daemon::start(&["--api-rate", "1000"]);
    let root = seed_admin(&daemon);
    let [alice, mallory] = ["alice", "mallory"].map(|handle| user(&daemon, &root, handle));
    make_room(&daemon, &alice, "kitchen");
    make_room(&daemon, &mallory, "den");
    let mut waiting = Vec::new();
    for number in 0..45_u32 {
        let content = number.to_be_bytes();
        let name = data_encoding::HEXLOWER.encode(&Sha256::digest(content));
        let length = [("Content-Type", "application/octet-stream"), ("Content-Length", "4")];
        let request = signed(&daemon, &mallory, "PUT", &format!("/v1/rooms/den/blobs/{name}"), &content, &length);
        let mut stream = TcpStream::connect((daemon.address, API_PORT)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.write_all(&request[..request.len() - 4]).unwrap();
        waiting.push(stream);
    }
    let mut refused = 0;
    daemon.wait("refusals of what is beyond a share", || {
        refused += waiting.iter_mut().map(begun).filter(|said| said.contains("/problems/rate-limited")).count();
        refused >= 45 - 32
    });
    let content = b"of alice";
    let name = data_encoding::HEXLOWER.encode(&Sha256::digest(content));
    let length = [("Content-Type", "application/octet-stream"), ("Content-Length", "8")];
    let upload = signed(&daemon, &alice, "PUT", &format!("/v1/rooms/kitchen/blobs/{name}"), content, &length);
    let said = exchange(&daemon, &upload);
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
    let list = ask(&daemon, &alice, "GET", "/v1/rooms/kitchen/blobs", &Value::Null);
    assert_eq!(list["blobs"].as_array().map(Vec::len), Some(1), "{list}");
}

#[test]
fn a_member_who_does_not_take_what_is_read_takes_no_reading_of_others() {
    // Streams capture what is said at this level, so unsigned bytes will do.
    let daemon = Daemon::start(&["--api-rate", "1000", "--store", "kv", "--begin-at-lowest-level"]);
    let root = seed_admin(&daemon);
    let [alice, mallory] = ["alice", "mallory"].map(|handle| user(&daemon, &root, handle));
    let keeping = |who: &Identity, id: &str| {
        let body = json!({ "subject": format!("room.{id}"),
            "policy": { "encrypt": false, "persist": true, "sign": false } });
        let made = ask(&daemon, who, "PUT", &format!("/v1/rooms/{id}"), &body);
        assert_eq!(made["changed"], true, "{made}");
    };
    keeping(&alice, "kitchen");
    let dens: Vec<String> = (0..12).map(|number| format!("den-{number}")).collect();
    let mut wire = None;
    for den in &dens {
        keeping(&mallory, den);
        // The rights of a connection are those at its beginning.
        let wire = wire.insert(Wire::connect(&daemon, &mallory, None));
        for _ in 0..6 {
            wire.publish(&format!("room.{den}"), b"NATS/1.0\r\n\r\n", &vec![b'x'; 150_000]);
        }
        wire.settle();
        let last = || ask(&daemon, &mallory, "GET", &format!("/v1/rooms/{den}/history?limit=1"), &Value::Null);
        daemon.wait("messages that are kept", || last()["last"] == 6);
    }
    let mut waiting: Vec<TcpStream> = Vec::new();
    for den in &dens {
        let mut stream = with_window(&daemon, daemon.address, Some(2048));
        let target = format!("/v1/rooms/{den}/history");
        stream.write_all(&signed(&daemon, &mallory, "GET", &target, b"", &[])).unwrap();
        waiting.push(stream);
    }
    // All but those of the share are told to wait; the others stand, since nothing of their answers is taken.
    let refused = |daemon: &Daemon| daemon.log().matches("problem=\"rate-limited\"").count();
    daemon.wait("refusals of what is beyond a share", || refused(&daemon) >= dens.len() - 8);
    let read = ask(&daemon, &alice, "GET", "/v1/rooms/kitchen/history", &Value::Null);
    assert!(read["messages"].is_array(), "{read}");
    goes_on(&daemon, &alice, "during");
    drop(waiting);
}

#[test]
fn slow_heads_from_many_addresses_shut_nobody_out() {
    let daemon = Daemon::start(&["--api-connections", "40,15", "--api-rate", "1000"]);
    let root = seed_admin(&daemon);
    let alice = user(&daemon, &root, "alice");
    make_room(&daemon, &alice, "kitchen");
    // A request that is under way keeps its connection.
    let content = b"slow but proven";
    let name = data_encoding::HEXLOWER.encode(&Sha256::digest(content));
    let length = [("Content-Type", "application/octet-stream"), ("Content-Length", "15")];
    let upload = signed(&daemon, &alice, "PUT", &format!("/v1/rooms/kitchen/blobs/{name}"), content, &length);
    let mut under_way = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    let (head, body) = upload.split_at(upload.len() - content.len());
    under_way.write_all(head).unwrap();
    ask(&daemon, &alice, "GET", "/v1/me", &Value::Null);

    let mut waiting = Vec::new();
    for source in [(); 4].map(|()| own_address()) {
        for _ in 0..20 {
            let mut stream = from(&daemon, source);
            let _ = stream.write_all(b"GET /v1/me HTTP/1.1\r\nHost: ");
            waiting.push(stream);
        }
        goes_on(&daemon, &alice, &format!("during-{}", waiting.len()));
    }
    // And so does a whole office behind the address of alice that says nothing.
    let office: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect((daemon.address, API_PORT)).unwrap()).collect();
    // Of those that come at one moment any may be the one that makes room: alice comes when they are in.
    office.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    daemon.wait("an address that has no more than its share", || {
        let is_closed = |stream: &&TcpStream| match stream.peek(&mut [0]) {
            Ok(left) => left == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        office.iter().filter(is_closed).count() >= 20 + 1 - 15
    });
    office.iter().for_each(|stream| stream.set_nonblocking(false).unwrap());
    waiting.extend(office);
    goes_on(&daemon, &alice, "in-the-office");
    under_way.write_all(body).unwrap();
    let said = assert_closed(under_way, PATIENCE);
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
    // Nothing of it lasts.
    for stream in waiting {
        assert_closed(stream, PATIENCE);
    }
}

#[test]
fn what_is_no_http_request_is_refused_by_a_problem_document() {
    let daemon = Daemon::start_tls();
    let seeded = seed_admin(&daemon);
    let config = trusting(&daemon.dir.path().join("ca.crt"));
    let speak = |bytes: &[u8]| {
        let tcp = TcpStream::connect((daemon.address, API_PORT)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(config.clone(), daemon.address.into()).unwrap(), tcp);
        let _ = stream.write_all(bytes);
        let mut said = Vec::new();
        // Where the server closes while it is still written to, what it said comes first.
        let _ = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    };
    let problem = |said: &str, wanted: &str| {
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{wanted}: {said}"));
        assert!(head.contains("content-type: application/problem+json"), "{said}");
        let length = format!("content-length: {}", body.len());
        assert!(head.contains(&length), "{said}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(slug(&body), wanted, "{said}");
        assert!(head.starts_with(&format!("HTTP/1.1 {}", body["status"])), "{said}");
    };
    let host = format!("Host: {}:{API_PORT}\r\n", daemon.address);
    problem(&speak(b"\x00\x01\x02\xff\xfe\r\n\r\n"), "no-request");
    problem(&speak(b"GET /v1/me HTTP/1.1\r\nHost: x\r\nbad field\r\n\r\n"), "no-request");
    problem(
        &speak(format!("GET /v1/me HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(200)).as_bytes()),
        "head-too-large",
    );
    // A chunk that is none, of a request that is signed.
    let fields = [("content-type", "application/json"), ("transfer-encoding", "chunked")];
    let mut chunk = signed(&daemon, &seeded, "PUT", "/v1/rooms/x", b"", &fields);
    chunk.extend_from_slice(b"zz\r\nnonsense\r\n");
    problem(&speak(&chunk), "body-broken");
    // After an answer on the same connection, which stays as it is.
    let said = speak(format!("GET /livez HTTP/1.1\r\n{host}\r\nnonsense\r\n\r\n").as_bytes());
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    // All the others are served.
    let alive = speak(format!("GET /livez HTTP/1.1\r\n{host}Connection: close\r\n\r\n").as_bytes());
    assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
}

#[test]
fn a_member_who_makes_and_removes_rooms_uses_up_no_end_of_names() {
    let daemon = Daemon::start(&["--removed-rooms-by-user", "3"]);
    let root = seed_admin(&daemon);
    let [alice, mallory] = ["alice", "mallory"].map(|handle| user(&daemon, &root, handle));
    let mut made = 0;
    let refused = loop {
        let id = format!("name-{made}");
        let answer = make_room(&daemon, &mallory, &id);
        if answer.get("type").is_some() {
            break answer;
        }
        made += 1;
        assert!(made <= 3, "{answer}");
        let removed = ask(&daemon, &mallory, "DELETE", &format!("/v1/rooms/{id}"), &Value::Null);
        assert_eq!(removed["room"]["state"], "removed", "{removed}");
    };
    assert_eq!((made, slug(&refused)), (3, "quota"), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("--removed-rooms-by-user"), "{refused}");
    goes_on(&daemon, &alice, "during");
}

#[test]
fn a_member_who_begins_epochs_without_end_is_told_to_wait_and_others_begin_theirs() {
    let daemon = Daemon::start(&["--rotations-by-user", "5,100"]);
    let root = seed_admin(&daemon);
    let [alice, mallory] = ["alice", "mallory"].map(|handle| user(&daemon, &root, handle));
    for (who, room) in [(&mallory, "den"), (&alice, "kitchen")] {
        let policy = json!({ "encrypt": true, "persist": false, "sign": true });
        let body = json!({ "subject": format!("room.{room}"), "policy": policy });
        let made = ask(&daemon, who, "PUT", &format!("/v1/rooms/{room}"), &body);
        assert_eq!(made["changed"], true, "{made}");
    }
    let begin = |who: &Identity, room: &str, epoch: u32| {
        let body = json!({ "key_id": format!("{epoch:032x}"), "envelopes": {} });
        ask(&daemon, who, "PUT", &format!("/v1/rooms/{room}/keys/{epoch}"), &body)
    };
    for epoch in 1..=5 {
        let begun = begin(&mallory, "den", epoch);
        assert_eq!(begun["changed"], true, "{begun}");
        // What changes nothing costs nothing.
        if epoch == 1 {
            assert_eq!(begin(&mallory, "den", epoch)["changed"], false);
        }
    }
    let refused = begin(&mallory, "den", 6);
    assert_eq!(slug(&refused), "rate-limited", "{refused}");
    assert_eq!(begin(&alice, "kitchen", 1)["changed"], true);
    goes_on(&daemon, &alice, "during");
}

#[test]
fn a_member_who_tries_what_is_denied_pushes_nothing_out_of_the_audit() {
    const TRIES: usize = 300;
    let flags = ["--api-rate", "1000", "--denied-records", "5,50"];
    let daemon = Daemon::start(&flags);
    let root = seed_admin(&daemon);
    let [alice, mallory] = ["alice", "mallory"].map(|handle| user(&daemon, &root, handle));
    make_room(&daemon, &alice, "kitchen");
    for number in 0..TRIES {
        let denied = ask(&daemon, &mallory, "DELETE", "/v1/rooms/kitchen", &Value::Null);
        assert!(denied["status"] == 403 || denied["status"] == 404, "{denied}");
        if number % 100 == 0 {
            goes_on(&daemon, &alice, &format!("during-{number}"));
        }
    }
    // What is counted is written in time, and at the end of the process at the latest.
    let address = daemon.address;
    let daemon = Daemon::launch(daemon.stop(), address, &flags);
    daemon.wait_for_lease();
    let mut records: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let page = ask(&daemon, &root, "GET", &format!("/v1/audit?limit=500{after}"), &Value::Null);
        records.extend(page["records"].as_array().unwrap_or_else(|| panic!("{page}")).iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let of = |who: &str| records.iter().filter(|record| record["who"] == who).collect::<Vec<_>>();
    let counted = |record: &&Value| {
        let with = record["with"].as_str().and_then(|with| with.strip_prefix("count="));
        with.map_or(1, |count| count.parse::<usize>().unwrap())
    };
    let denied = of("mallory");
    assert_eq!(denied.iter().map(counted).sum::<usize>(), TRIES, "none of them is lost: {denied:#?}");
    assert!(denied.len() <= 5 + 5, "and few have a record: {}", denied.len());
    let summed = denied.iter().filter(|record| record["action"] == "denied").count();
    assert!(summed >= 1, "{denied:#?}");
    assert_eq!(of("alice").len(), 2 * 4, "each change of another user has its two records");
}
