//! What an operator does to a running daemon: it is told to stop while it has work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::common::requests::{API_PORT, assert_closed, exchange, seed_admin, signed};
use crate::common::{Daemon, Dir, alive, own_address, signal};
use rustix::process::Signal;

#[test]
fn a_daemon_that_is_to_stop_answers_what_is_under_way_and_only_then_ends_its_engine() {
    // Its users are in the engine: without one nothing could be answered.
    let mut daemon = Daemon::start(&["--store", "kv"]);
    let root = seed_admin(&daemon);
    let engine = daemon.engine_pid().unwrap();
    let body = br#"{"subject":"room.hall"}"#;
    let length = body.len().to_string();
    let fields =
        [("content-type", "application/json"), ("content-length", length.as_str()), ("expect", "100-continue")];
    let request = signed(&daemon, &root, "PUT", "/v1/rooms/hall", body, &fields);
    let (head, body) = request.split_at(request.len() - body.len());
    let mut under_way = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    under_way.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    under_way.write_all(head).unwrap();
    // It says so when it waits for the body.
    let mut go_on = [0; 25];
    under_way.read_exact(&mut go_on).unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"), "{}", String::from_utf8_lossy(&go_on));
    // Another one is kept open for requests to come.
    let mut idle = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(idle.read(&mut [0; 1024]).unwrap() > 0);

    signal(daemon.child.id(), Signal::TERM);
    daemon.wait("end of the listener", || TcpStream::connect((daemon.address, API_PORT)).is_err());
    assert!(alive(engine) && daemon.child.try_wait().unwrap().is_none(), "{}", daemon.log());
    under_way.write_all(body).unwrap();
    let answer = assert_closed(under_way, Duration::from_secs(10));
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_closed(idle, Duration::from_secs(10));
    assert!(daemon.child.wait().unwrap().success(), "{}", daemon.log());
    assert!(!alive(engine) && !daemon.log().contains("panicked"), "{}", daemon.log());

    // What was answered is there.
    let dir = std::mem::replace(&mut daemon.dir, Dir::new());
    let daemon = Daemon::launch(dir, own_address(), &["--store", "kv"]);
    daemon.wait_for_lease();
    let room = exchange(&daemon, &signed(&daemon, &root, "GET", "/v1/rooms/hall", b"", &[]));
    assert!(room.starts_with("HTTP/1.1 200") && room.contains("room.hall"), "{room}");
}
