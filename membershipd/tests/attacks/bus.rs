//! A member who takes of a node's bus what others need: connections, logins, subscriptions, what waits to be read, and cuts by the
//! hundred.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use unibus_client::identity::Identity;

use crate::common::nats::Client;
use crate::common::requests::{ask, ask_if, seed_admin, user};
use crate::common::wire::Wire;
use crate::common::{Daemon, alive, membershipd, said, signal};

/// Connections that a user may have where no setting says otherwise.
const CONNECTIONS: usize = 32;

/// A node with these users, who have a room `den` in clear on `room.den`, of the first of them.
fn start(extra: &[&str], handles: &[&str]) -> (Daemon, Vec<Identity>) {
    let daemon = Daemon::start(extra);
    let root = seed_admin(&daemon);
    let users: Vec<Identity> = handles.iter().map(|handle| user(&daemon, &root, handle)).collect();
    let policy = json!({ "encrypt": false, "persist": false, "sign": false });
    let made = ask(&daemon, &users[0], "PUT", "/v1/rooms/den", &json!({ "subject": "room.den", "policy": policy }));
    assert_eq!(made["changed"], true, "{made}");
    for (who, handle) in users.iter().zip(handles).skip(1) {
        let path = format!("/v1/rooms/den/members/{handle}");
        ask(&daemon, &users[0], "PUT", &path, &json!({ "role": "member" }));
        let joined = ask(&daemon, who, "PUT", &format!("{path}/acceptance"), &Value::Null);
        assert_eq!(joined["member"]["state"], "joined", "{joined}");
    }
    (daemon, users)
}

/// A stock client that listens to what daemons tell its user.
fn listener(daemon: &Daemon, handle: &str) -> Client {
    let (mut client, answer) = Client::connect(daemon, &daemon.seed(handle), &format!("_INBOX.{handle}"));
    assert_eq!(answer["ok"], true, "{answer}\n{}", daemon.log());
    assert!(client.subscribe(&format!("unibus.user.{handle}.bounds")));
    client
}

/// The bound of which a user was told last.
fn told(listener: &mut Client) -> Value {
    let (_, event) = listener.received(1).pop().unwrap();
    serde_json::from_str(&event).unwrap()
}

/// Resident memory of the engine, in MiB.
fn memory(engine: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{engine}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// The most memory that the engine had so far, in MiB.
fn peak(engine: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{engine}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// What all threads of the engine have had of the processors.
fn processor_time(engine: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{engine}/task")).unwrap();
    let of = |path: std::path::PathBuf| std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
    let spent =
        threads.map(|thread| of(thread.unwrap().path()).split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0));
    Duration::from_nanos(spent.sum())
}

#[test]
fn one_connection_more_than_a_user_may_have_is_refused_without_harm_and_the_reason_is_told() {
    let (daemon, users) = start(&[], &["bob", "alice"]);
    let [bob, alice] = [&users[0], &users[1]];
    assert_eq!(daemon.status().unwrap()["engine_bounds"]["connections_by_user"], CONNECTIONS);
    let mut alices = Wire::connect(&daemon, alice, None);
    let mut hears = listener(&daemon, "bob");
    let mut wires: Vec<Wire> = (1..CONNECTIONS).map(|_| Wire::connect(&daemon, bob, None)).collect();

    let (_, answer) = Client::connect(&daemon, &daemon.seed("bob"), "_INBOX.bob");
    assert_eq!(answer["ok"], false, "a stock client: {answer}");
    assert!(Wire::try_connect(&daemon, bob, None).is_err());
    wires.iter_mut().for_each(Wire::settle);
    alices.settle();
    Wire::connect(&daemon, alice, None);

    let event = told(&mut hears);
    let expected =
        json!({ "schema": 1, "event": "bound_met", "node": "standalone", "bound": "connections", "most": 32 });
    assert_eq!(event, expected);
    let url = format!("http://{}:8470", daemon.address);
    let mut say = membershipd(daemon.dir.path());
    let output = say.args(["say", "den", "hello", "--identity", "bob.toml", "--url", &url]).output().unwrap();
    let why = "you have 32 connections to standalone, the most that a user may have";
    assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("as much of the bus as one may")).collect();
    assert!(lines.len() == 1 && lines[0].contains("bob"), "{lines:?}");
    assert!(ask(&daemon, alice, "GET", "/v1/bus", &Value::Null)["met"].is_null(), "it is nothing to alice");

    // A place that is given back can be had, and no more than that.
    wires.pop();
    daemon.wait("a place that bob gave back", || {
        let next = Wire::try_connect(&daemon, bob, None);
        let came = next.is_ok();
        wires.extend(next);
        came
    });
    assert!(Wire::try_connect(&daemon, bob, None).is_err());

    // A node that was restarted counts from none, and as far.
    drop(wires);
    let address = daemon.address;
    let daemon = Daemon::launch(daemon.stop(), address, &[]);
    daemon.wait_for_lease();
    let again: Vec<Wire> = (0..CONNECTIONS).map(|_| Wire::connect(&daemon, bob, None)).collect();
    assert!(Wire::try_connect(&daemon, bob, None).is_err());
    drop(again);
}

#[test]
fn logins_that_were_given_up_before_the_verdict_hold_no_places_for_long() {
    let (daemon, users) = start(&[], &["bob"]);
    // A node that stands still for a moment: the engine gives those who wait up, and the daemon admits them when it goes on.
    signal(daemon.child.id(), Signal::STOP);
    let mut given_up: Vec<Wire> = (0..CONNECTIONS).map(|_| Wire::begin(&daemon, &users[0], None)).collect();
    let refused = given_up.iter_mut().filter_map(|wire| wire.settled().err()).count();
    signal(daemon.child.id(), Signal::CONT);
    assert_eq!(refused, CONNECTIONS);
    // The engine says nothing of a connection that ended before it heard the verdict.
    let mut wires = Vec::new();
    daemon.wait("all places of bob", || {
        wires.extend(Wire::try_connect(&daemon, &users[0], None));
        wires.len() == CONNECTIONS
    });
    wires.iter_mut().for_each(Wire::settle);
}

#[test]
fn many_logins_in_flight_count() {
    let (daemon, users) = start(&[], &["bob"]);
    let mut wires: Vec<Wire> = (0..3 * CONNECTIONS).map(|_| Wire::begin(&daemon, &users[0], None)).collect();
    let served = wires.iter_mut().filter_map(|wire| wire.settled().ok()).count();
    assert_eq!(served, CONNECTIONS);
}

#[test]
fn logins_of_one_user_have_a_rate_and_others_get_in() {
    let (daemon, users) = start(&["--logins-by-user", "2"], &["bob", "alice"]);
    let mut hears = listener(&daemon, "bob");
    let began = Instant::now();
    let got_in = (0..60).filter(|_| Wire::try_connect(&daemon, &users[0], None).is_ok()).count();
    let most = 8 + 2 * (began.elapsed().as_secs() + 2);
    assert!(u64::try_from(got_in).unwrap() <= most, "{got_in} of 60, and {most} are the most");
    Wire::connect(&daemon, &users[1], None);
    assert_eq!(told(&mut hears)["bound"], "logins");
    assert_eq!(ask(&daemon, &users[0], "GET", "/v1/bus", &Value::Null)["met"]["bound"], "logins");
    daemon.wait("a login of bob", || Wire::try_connect(&daemon, &users[0], None).is_ok());
}

#[test]
fn a_user_with_too_many_subscriptions_loses_the_largest_connection_and_no_other_user_any() {
    let bounds = ["--subscriptions-by-user", "1000", "--subscriptions-by-connection", "600"];
    let (daemon, users) = start(&bounds, &["bob", "alice"]);
    let (mut hears, mut alices) = (listener(&daemon, "bob"), Wire::connect(&daemon, &users[1], None));
    let subscribe = |wire: &mut Wire, count: usize| {
        let orders: String = (0..count).map(|number| format!("SUB room.den.{number} {number}\r\n")).collect();
        wire.send(orders.as_bytes());
        wire.settled()
    };
    subscribe(&mut alices, 500).unwrap();
    let [mut small, mut large] = [(); 2].map(|()| Wire::connect(&daemon, &users[0], None));
    // What the engine itself refuses: more than a connection may have, and subjects of very many tokens.
    let said = subscribe(&mut large, 700).unwrap();
    assert!(said.contains("maximum subscriptions exceeded"), "{said}");
    small.send(format!("SUB room.den.{}x 9\r\n", "a.".repeat(1000)).as_bytes());
    let said = small.settled();
    assert!(said.as_ref().is_ok_and(|said| said.to_lowercase().contains("too many tokens")), "{said:?}");

    let _ = subscribe(&mut small, 500);
    daemon.wait("end of the largest connection", || large.settled().is_err());
    assert_eq!(told(&mut hears)["bound"], "subscriptions");
    small.settle();
    alices.settle();
}

#[test]
fn a_hundred_thousand_subscriptions_take_no_memory_that_others_need() {
    let (daemon, users) = start(&[], &["bob", "alice"]);
    let mut alices = Wire::connect(&daemon, &users[1], None);
    let engine = daemon.engine_pid().unwrap();
    let before = memory(engine);
    let (deep, began) = ("aaaaaaa.".repeat(11), Instant::now());
    let mut wires: Vec<Wire> = (0..25).map(|_| Wire::connect(&daemon, &users[0], None)).collect();
    for (number, wire) in wires.iter_mut().enumerate() {
        let subjects = (0..4_000).map(|of| format!("SUB room.den.{number}.{of}.{deep}x {of}\r\n"));
        wire.send(subjects.collect::<String>().as_bytes());
    }
    while wires.len() > 3 {
        assert!(began.elapsed() < Duration::from_secs(150), "{} connections go on\n{}", wires.len(), daemon.log());
        wires.retain_mut(|wire| wire.settled().is_ok());
        alices.settle();
    }
    let took = peak(engine).saturating_sub(before);
    println!("100,000 subscriptions: {took} MiB at most above {before} MiB, in {:?}", began.elapsed());
    println!("{:?}", daemon.log().lines().filter(|line| line.contains("as much of the bus")).collect::<Vec<_>>());
    assert!(took < 1_000, "{took} MiB more than the {before} MiB before");
    assert_eq!(daemon.engine_pid(), Some(engine));
}

#[test]
fn readers_who_do_not_read_are_disconnected_before_they_hold_what_others_need() {
    let (daemon, users) = start(&["--pending-by-user", "4194304"], &["alice", "bob"]);
    let [alice, bob] = [&users[0], &users[1]];
    let engine = daemon.engine_pid().unwrap();
    let before = memory(engine);
    let mut hears = listener(&daemon, "bob");
    let mut stalled: Vec<Wire> = (0..20)
        .map(|_| {
            let mut wire = Wire::connect(&daemon, bob, None);
            wire.send(b"SUB room.den 1\r\n");
            wire.settle();
            wire
        })
        .collect();
    let (mut says, mut other) = (Wire::connect(&daemon, alice, None), Wire::connect(&daemon, alice, None));
    let payload = vec![b'x'; 512 << 10];
    // 20 MiB for each: less than the engine itself lets wait for one connection.
    for _ in 0..40 {
        says.send(format!("PUB room.den {}\r\n", payload.len()).as_bytes());
        says.send(&[&payload, &b"\r\n"[..]].concat());
        says.settle();
        other.settle();
    }
    assert_eq!(told(&mut hears)["bound"], "pending");
    daemon.wait("end of most of them", || {
        stalled.retain_mut(|wire| wire.takes(b"PING\r\n"));
        stalled.len() <= 4
    });
    let took = peak(engine).saturating_sub(before);
    println!("20 readers who do not read: {took} MiB at most above {before} MiB");
    // The engine closes those, too, to whom it cannot write for 5 s.
    let log = daemon.log();
    assert!(log.contains("connections of a user above its share were closed user=bob bound=Pending"), "{log}");
    assert_eq!(daemon.engine_pid(), Some(engine));
}

#[test]
fn long_message_ids_stay_in_no_memory() {
    let (daemon, users) = start(&["--store", "kv"], &["bob"]);
    let policy = json!({ "encrypt": false, "persist": true, "sign": true });
    let made = ask(&daemon, &users[0], "PUT", "/v1/rooms/hall", &json!({ "subject": "room.hall", "policy": policy }));
    assert_eq!(made["changed"], true, "{made}");
    let engine = daemon.engine_pid().unwrap();
    let before = memory(engine);
    let mut wire = Wire::connect(&daemon, &users[0], None);
    for number in 0..4_000 {
        let id = format!("NATS/1.0\r\nNats-Msg-Id: {number}-{}\r\n\r\n", "x".repeat(62_000));
        wire.publish("room.hall.bob", id.as_bytes(), b"no frame");
        if number % 50 == 0 {
            wire.settle();
        }
    }
    wire.settle();
    let took = memory(engine).saturating_sub(before);
    println!("248 MB of message ids: {took} MiB above {before} MiB");
    assert!(took < 150, "{took} MiB more than the {before} MiB before");
}

#[test]
fn a_crowd_is_cut_by_an_engine_that_is_short_of_time_and_no_other_user_notices() {
    let (daemon, users) = start(&["--connections-by-user", "500", "--logins-by-user", "1000"], &["mallory"]);
    let mallory = &users[0];
    let root = Identity::load(&daemon.dir.path().join("root.toml")).unwrap();
    let mut alices = Wire::connect(&daemon, &user(&daemon, &root, "alice"), None);
    let mut crowd: Vec<Wire> = Vec::new();
    while crowd.len() < 400 {
        crowd.extend((0..50).map(|_| Wire::connect(&daemon, mallory, None)));
        crowd.iter_mut().for_each(Wire::settle);
        alices.settle();
    }

    let engine = daemon.engine_pid().unwrap();
    let room = ask(&daemon, mallory, "GET", "/v1/rooms/den", &Value::Null);
    let revision = room["revision"].as_u64().unwrap_or_else(|| panic!("{room}"));
    let cut = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // It is stopped again and again once it has begun with the cut, and goes on in between for as long as some kicks take.
            for _ in 0..6 {
                let before = processor_time(engine);
                while processor_time(engine) < before + Duration::from_millis(8) {
                    if cut.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                signal(engine, Signal::STOP);
                std::thread::sleep(Duration::from_millis(250));
                signal(engine, Signal::CONT);
            }
        });
        let moved = json!({ "subject": "room.attic" });
        let moved = ask_if(&daemon, mallory, "PATCH", "/v1/rooms/den", &moved, Some(revision));
        cut.store(true, Ordering::Relaxed);
        assert_eq!(moved["changed"], true, "{moved}");
    });
    let served = crowd.iter_mut().filter_map(|wire| wire.settled().ok()).count();
    let log = daemon.log();
    println!("{:?}", log.lines().filter(|line| line.contains("connections cut")).collect::<Vec<_>>());
    assert_eq!(served, 0, "all of the crowd had rights on the old subject\n{log}");
    assert!(!log.contains("killing it"), "{log}");
    alices.settle();
    assert_eq!(daemon.engine_pid(), Some(engine));
}

#[test]
fn an_engine_that_answers_nothing_is_killed_before_it_serves_who_lost_a_right() {
    let (daemon, users) = start(&[], &["bob"]);
    let mut bobs = Wire::connect(&daemon, &users[0], None);
    let engine = daemon.engine_pid().unwrap();
    signal(engine, Signal::STOP);
    let output = daemon.ask(&["user", "disable", "bob", "--json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(answer["fence"], "acknowledged", "{answer}");
    assert!(!alive(engine), "{}", daemon.log());
    assert!(bobs.settled().is_err());
    daemon.wait("another engine", || daemon.engine_pid().is_some_and(|now| now != engine));
    assert!(Wire::try_connect(&daemon, &users[0], None).is_err());
}
