//! The API of the real daemon with a real engine: requests that Python signs, every way in which they can be wrong, and
//! clients that mean no good.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::common::requests::{
    API_PORT, answers, assert_closed, exchange, identity, job, now, python, seed_admin, signed, slug,
};
use crate::common::{Daemon, TLS};
use serde_json::{Value, json};
use unibus_client::identity::Identity;

#[test]
fn what_python_signs_works_and_every_change_of_it_is_refused_by_name() {
    let daemon = Daemon::start_tls();
    let address = daemon.address;
    let root = seed_admin(&daemon);
    let [alice, gone, stranger] = ["alice", "gone", "stranger"].map(|handle| identity(&daemon, handle));

    // What is right: reads, a change, the change again, the same user with another key, a page.
    let add = |who: &Identity| {
        job(&daemon, &root, "PUT", &format!("/v1/users/{}", who.handle), &json!({ "sign_pub": who.sign_pub }))
    };
    let other_key = json!({ "sign_pub": stranger.sign_pub });
    let done = python(&[
        job(&daemon, &root, "GET", "/v1/me", &Value::Null),
        add(&alice),
        add(&alice),
        add(&gone),
        job(&daemon, &root, "PUT", "/v1/users/alice", &other_key),
        job(&daemon, &alice, "GET", "/v1/directory?limit=2", &Value::Null),
        job(&daemon, &alice, "GET", "/v1/users", &Value::Null),
    ]);
    let done: Vec<Value> = done.iter().flat_map(answers).collect();
    assert_eq!((&done[0]["handle"], &done[0]["role"]), (&json!("root"), &json!("admin")));
    assert_eq!(
        (&done[1]["changed"], &done[2]["changed"], &done[3]["changed"]),
        (&json!(true), &json!(false), &json!(true))
    );
    assert_eq!(done[1]["user"]["revision"], done[2]["user"]["revision"]);
    assert_eq!(slug(&done[4]), "conflict");
    assert_eq!(done[5]["users"].as_array().unwrap().len(), 2);
    assert!(done[5]["next"].is_string());
    assert_eq!(slug(&done[6]), "not-admin");

    // A change for a revision that is no more, one without any, and one for this revision: it waits for its fence.
    let revision = done[3]["user"]["revision"].as_u64().unwrap();
    let disable = |etag: Option<u64>| {
        let mut job = job(&daemon, &root, "PATCH", "/v1/users/gone", &json!({ "state": "disabled" }));
        if let Some(etag) = etag {
            job["headers"]["If-Match"] = json!(format!("\"{etag}\""));
            job["signatures"][0]["covered"].as_array_mut().unwrap().push(json!("if-match"));
        }
        job
    };
    let changed = python(&[disable(Some(revision - 1)), disable(None), disable(Some(revision))]);
    let changed: Vec<Value> = changed.iter().flat_map(answers).collect();
    assert_eq!((slug(&changed[0]), slug(&changed[1])), ("precondition-failed", "precondition-required"));
    assert_eq!(changed[2]["user"]["state"], "disabled", "{}", changed[2]);
    assert_eq!(changed[2]["fence"], "acknowledged", "{}", changed[2]);

    let right = || job(&daemon, &alice, "PUT", "/v1/users/x?a=1", &json!({ "sign_pub": stranger.sign_pub }));
    let spoil = |wanted: &'static str, change: &dyn Fn(&mut Value)| {
        let mut job = right();
        change(&mut job);
        (vec![wanted], job)
    };
    let first = |job: &mut Value, name: &str, value: Value| job["signatures"][0][name] = value;
    let url = |target: &str| format!("https://{address}:{API_PORT}{target}");
    let me = |who: &Identity| job(&daemon, who, "GET", "/v1/me", &Value::Null);
    let mut thrice = me(&alice);
    thrice["times"] = json!(3);
    let cases = vec![
        (vec!["alice", "nonce-used", "nonce-used"], thrice),
        // Right, and alice may not.
        spoil("not-admin", &|_| {}),
        spoil("signature-invalid", &|job| job["change"] = json!({"method": "PATCH"})),
        spoil("signature-invalid", &|job| job["change"] = json!({"url": url("/v1/users/y?a=1")})),
        spoil("signature-invalid", &|job| job["change"] = json!({"url": url("/v1/users/x?a=2")})),
        spoil("digest-mismatch", &|job| job["change"] = json!({"body": "{}"})),
        spoil("authority-foreign", &|job| job["change"] = json!({"headers": {"Host": "homer.example:8470"}})),
        spoil("signature-invalid", &|job| {
            job["change"] = json!({"headers": {"Host": format!("localhost:{API_PORT}")}})
        }),
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
        spoil("signature-surplus", &|job| {
            let mut second = job["signatures"][0].clone();
            second["label"] = json!("sig2");
            job["signatures"].as_array_mut().unwrap().push(second);
        }),
        spoil("signature-missing", &|job| job["signatures"] = json!([])),
        (vec!["key-unknown"], me(&stranger)),
        (vec!["user-disabled"], me(&gone)),
    ];
    let before = daemon.log().matches("request refused").count();
    let (wanted, jobs): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let mut refused = Vec::new();
    for (wanted, answer) in wanted.iter().zip(python(&jobs)) {
        let answers = answers(&answer);
        assert_eq!(answers.len(), wanted.len());
        for (wanted, answer) in wanted.iter().zip(answers) {
            match answer.get("type") {
                Some(_) => {
                    assert_eq!(slug(&answer), *wanted, "{answer}");
                    refused.push((wanted.to_owned(), answer["instance"].as_str().unwrap().to_owned()));
                }
                None => assert_eq!(answer["handle"], *wanted),
            }
        }
    }
    // Each is logged once, by type and route; what is in path, query and body is not.
    let log = daemon.log();
    assert_eq!(log.matches("request refused").count() - before, refused.len(), "{log}");
    for (wanted, instance) in &refused {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(instance)).collect();
        assert_eq!(lines.len(), 1, "{instance}: {lines:?}");
        assert!(lines[0].contains(wanted) && lines[0].contains("/v1/"), "{}", lines[0]);
    }
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("request refused")).collect();
    assert!(refusals.iter().all(|line| !line.contains("/v1/users/x") && !line.contains("a=1")), "{refusals:#?}");
    let proven =
        |slug: &str| refusals.iter().filter(|line| line.contains(slug)).all(|line| line.contains("proven=true"));
    assert!(proven("nonce-used") && proven("user-disabled") && !proven("signature-invalid"), "{refusals:#?}");
    let known = alice.sign_pub.to_string();
    assert!(refusals.iter().any(|line| line.contains("nonce-used") && line.contains(&known)), "{refusals:#?}");

    // A nonce counts once, also when the daemon and its engine have been started anew in between.
    let once = me(&alice);
    assert_eq!(answers(&python(std::slice::from_ref(&once))[0])[0]["handle"], "alice");
    let list = membershipd_list(&daemon);
    let daemon = Daemon::launch(daemon.stop(), address, &TLS);
    daemon.wait_for_lease();
    assert_eq!(slug(&answers(&python(&[once])[0])[0]), "nonce-used");
    assert_eq!(answers(&python(&[job(&daemon, &alice, "GET", "/v1/me", &Value::Null)])[0])[0]["handle"], "alice");
    assert_eq!(membershipd_list(&daemon), list, "nothing was stored by what was refused");

    // Half a TLS handshake, and none at all.
    for beginning in [&[0x16, 3, 1, 2, 0, 1, 0][..], b"GET /livez HTTP/1.1\r\n\r\n", &[0xff; 100], &[]] {
        let mut stream = TcpStream::connect((address, API_PORT)).unwrap();
        stream.write_all(beginning).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_closed(stream, Duration::from_secs(15));
    }
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

fn membershipd_list(daemon: &Daemon) -> Value {
    serde_json::from_slice(&daemon.ask(&["user", "list", "--json"]).stdout).unwrap()
}

#[test]
fn clients_that_mean_no_good_get_a_problem_or_nothing_and_change_nothing() {
    let daemon = Daemon::start(&["--api-rate", "1000"]);
    let root = seed_admin(&daemon);
    let key = root.sign_pub;
    let before = membershipd_list(&daemon);

    // A head, and a body, that never end: given up after their time, while everybody else is served.
    let mut slow_head = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    slow_head.write_all(b"GET /v1/me HTTP/1.1\r\nHost: ").unwrap();
    let mut slow_body = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    let length = [("content-type", "application/json"), ("content-length", "1000")];
    slow_body.write_all(&signed(&daemon, &root, "PUT", "/v1/users/slow", b"", &length)).unwrap();
    let silent = TcpStream::connect((daemon.address, API_PORT)).unwrap();
    silent.set_nodelay(true).unwrap();

    let host = format!("Host: {}:{API_PORT}\r\n", daemon.address);
    let long = format!("GET /v1/me HTTP/1.1\r\n{host}X: {}\r\nConnection: close\r\n\r\n", "x".repeat(20_000));
    let huge = format!("GET /v1/me HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /v1/me HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(200));
    let json = [("content-type", "application/json"), ("content-length", "18446744073709551616")];
    let too_large = [("content-type", "application/json"), ("content-length", "1048577")];
    let chunked = [("content-type", "application/json"), ("transfer-encoding", "chunked")];
    let mut endless = signed(&daemon, &root, "PUT", "/v1/users/x", b"", &chunked);
    for _ in 0..40 {
        endless.extend_from_slice(b"10000\r\n");
        endless.extend_from_slice(&[b' '; 0x10000]);
        endless.extend_from_slice(b"\r\n");
    }
    let both = [("content-length", "2"), ("transfer-encoding", "chunked")];
    let sized = |body: &[u8]| {
        let length = body.len().to_string();
        let fields = [("content-type", "application/json"), ("content-length", length.as_str())];
        signed(&daemon, &root, "PUT", "/v1/users/x", body, &fields)
    };
    let extra = format!("{{\"sign_pub\":\"{key}\",\"is_admin\":true}}");
    let numbers = format!("{{\"sign_pub\":{}}}", "9".repeat(5_000));
    let cases: Vec<(&str, &[&str], Vec<u8>)> = vec![
        ("a long head", &["head-too-large", ""], long.into_bytes()),
        ("a huge head", &["431", ""], huge.into_bytes()),
        ("many fields", &["431", ""], many.into_bytes()),
        ("no HTTP", &["400", ""], b"\x00\x01\x02\xff\xfe\r\n\r\n".to_vec()),
        ("HTTP/2 by surprise", &["400", ""], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a path that is no UTF-8", &["400", ""], b"GET /v1/\xff HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("an endless length", &["400", ""], signed(&daemon, &root, "PUT", "/v1/users/x", b"", &json)),
        ("a large length", &["too-large"], signed(&daemon, &root, "PUT", "/v1/users/x", b"", &too_large)),
        ("an endless body", &["too-large"], endless),
        ("two lengths", &["400", "body", ""], signed(&daemon, &root, "PUT", "/v1/users/x", b"0\r\n\r\n", &both)),
        ("no JSON", &["bad-json"], sized(b"\xff\xfe")),
        ("deep JSON", &["bad-json"], sized(&vec![b'['; 100_000])),
        ("an unknown field", &["bad-json"], sized(extra.as_bytes())),
        ("a huge number", &["bad-json"], sized(numbers.as_bytes())),
        ("a subject for a name", &["bad-path"], signed(&daemon, &root, "GET", "/v1/users/a.%3E", b"", &[])),
        ("no name", &["not-found"], signed(&daemon, &root, "GET", "/v1/users/", b"", &[])),
        ("another version", &["not-found"], signed(&daemon, &root, "GET", "/v2/users", b"", &[])),
        ("a short body", &["body-broken", ""], {
            let mut short = sized(b"{\"sign_pub\":\"00\"}");
            short.truncate(short.len() - 5);
            short
        }),
    ];
    for (what, wanted, bytes) in cases {
        let mut stream = TcpStream::connect((daemon.address, API_PORT)).unwrap();
        let _ = stream.write_all(&bytes);
        if what == "a short body" {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let said = assert_closed(stream, Duration::from_secs(20));
        let as_wanted = |wanted: &&str| match *wanted {
            "" => said.is_empty(),
            status if status.len() == 3 => said.starts_with(&format!("HTTP/1.1 {status}")),
            slug => said.starts_with("HTTP/1.1 4") && said.contains(&format!("\"/problems/{slug}")),
        };
        assert!(wanted.iter().any(as_wanted), "{what}: {said}");
    }

    let said = assert_closed(slow_body, Duration::from_secs(20));
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("/problems/too-slow"), "{said}");
    assert_eq!(assert_closed(slow_head, Duration::from_secs(20)), "");
    assert_eq!(assert_closed(silent, Duration::from_secs(20)), "");

    // Nothing happened, and everything still works.
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert_eq!(membershipd_list(&daemon), before);
    let me = exchange(&daemon, &signed(&daemon, &root, "GET", "/v1/me", b"", &[]));
    assert!(me.starts_with("HTTP/1.1 200") && me.contains("etag: \""), "{me}");
    let metrics = exchange(&daemon, format!("GET /metrics HTTP/1.1\r\n{host}Connection: close\r\n\r\n").as_bytes());
    for wanted in
        ["unibus_lease_valid 1", "problem=\"too-slow\"} 1", "route=\"/v1/me\",method=\"GET\",status=\"200\"} 1"]
    {
        assert!(metrics.contains(wanted), "{wanted} is not in\n{metrics}");
    }
    let described =
        exchange(&daemon, format!("GET /openapi.json HTTP/1.1\r\n{host}Connection: close\r\n\r\n").as_bytes());
    let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json")).unwrap();
    assert!(described.ends_with(&committed));
}

#[test]
fn of_changes_to_one_revision_one_is_made() {
    let daemon = Daemon::start(&["--api-rate", "1000"]);
    let root = seed_admin(&daemon);
    let alice = identity(&daemon, "alice");
    let body = json!({ "sign_pub": alice.sign_pub }).to_string();
    let send = |method: &str, body: &str, etag: Option<&str>| -> (u16, String) {
        let length = body.len().to_string();
        let mut fields = vec![("content-length", length.as_str())];
        if !body.is_empty() {
            fields.push(("content-type", "application/json"));
        }
        fields.extend(etag.map(|etag| ("if-match", etag)));
        let said = exchange(&daemon, &signed(&daemon, &root, method, "/v1/users/alice", body.as_bytes(), &fields));
        (said[9..12].parse().unwrap(), said)
    };
    let (status, made) = send("PUT", &body, None);
    assert_eq!(status, 201, "{made}");
    let etag = made.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    assert_eq!(send("PUT", &body, None).0, 200, "again: nothing to do");
    let promote = r#"{"role":"admin"}"#;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..8).map(|_| scope.spawn(|| send("PATCH", promote, Some(&etag)).0)).collect();
        sent.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 412)), "{statuses:?}");
    let users = membershipd_list(&daemon);
    let role =
        users["users"].as_array().unwrap().iter().find(|user| user["handle"] == "alice").unwrap()["role"].clone();
    assert_eq!(role, "admin");
    let (status, removed) = send("DELETE", "", None);
    assert!(status == 200 && removed.contains("\"state\":\"removed\""), "{removed}");
    assert_eq!(send("PUT", &body, None).0, 409, "a handle is never given again");
}
