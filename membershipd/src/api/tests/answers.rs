//! What is said to whom: answers, refusals by name, and what the store, the lease and the rates have to do with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use serde_json::{Value, json};

use super::super::entrance::router;
use super::{JSON, Node, commands, identity, node, node_of, node_with, plain, shared, signed};
use crate::config::{BusAuth, Typed};
use crate::gate::Gate;
use unibus_core::bus::{Bucket, LEASE};
use unibus_store::Store;
use unibus_store::faulty::Fault;

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

    // Three records, of which two share an entry.
    let record = |id: &str| json!({ "id": id.repeat(32), "at_ms": 1, "who": "admin", "action": "user.add", "user": "bob", "stage": { "done": [["user.bob", 7]] } });
    for records in [vec![record("a"), record("b")], vec![record("c")]] {
        let entry = json!({ "schema": 1, "records": records });
        node.faulty.append(entry.to_string().as_bytes()).await.unwrap();
    }
    for size in 1..4 {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = node.ask("admin", "GET", &format!("/v1/audit?limit={size}{after}")).await.json();
            let records = page["records"].as_array().unwrap();
            assert!(!records.is_empty() && records.len() <= size, "{page}");
            seen.extend(records.iter().map(|record| record["id"].as_str().unwrap()[..1].to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, ["a", "b", "c"], "{size} a page");
    }
    let last = node.ask("admin", "GET", "/v1/audit").await.json()["records"][2].clone();
    assert_eq!((&last["stage"], &last["written"][0]["revision"]), (&json!("done"), &json!(7)), "{last}");
    // The last of them, and those before.
    let ids = |page: &Value| -> Vec<String> {
        page["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| record["id"].as_str().unwrap()[..1].to_owned())
            .collect()
    };
    let last = node.ask("admin", "GET", "/v1/audit?last=2").await.json();
    assert_eq!((ids(&last), last.get("next")), (vec!["b".to_owned(), "c".to_owned()], None), "{last}");
    let earlier = last["earlier"].as_str().unwrap();
    let before = node.ask("admin", "GET", &format!("/v1/audit?last=2&before={earlier}")).await.json();
    assert_eq!((ids(&before), before.get("earlier")), (vec!["a".to_owned()], None), "{before}");
    for (filter, count) in [
        ("who=admin", 3),
        ("who=root@homer", 0),
        ("room=hall", 0),
        ("action=user.add", 3),
        ("since=2", 0),
        ("until=2", 3),
    ] {
        for page in ["", "&last=9"] {
            let found = node.ask("admin", "GET", &format!("/v1/audit?{filter}{page}")).await.json();
            assert_eq!(ids(&found).len(), count, "{filter}{page}: {found}");
        }
    }
    for bad in [
        "last=0",
        "last=501",
        "last=1&limit=1",
        &format!("before={earlier}"),
        "last=1&before=x",
        "since=-1",
        "until=x",
        "who=A",
        "room=A",
    ] {
        assert_eq!(node.ask("admin", "GET", &format!("/v1/audit?{bad}")).await.slug(), "bad-query", "{bad}");
    }
    let foreign = cursor_of_users();
    assert_eq!(node.ask("admin", "GET", &format!("/v1/audit?after={foreign}")).await.slug(), "bad-query");
}

fn cursor_of_users() -> String {
    super::super::paging::cursor(&identity("bob").handle)
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
    let commands = commands(&stale, &node.faulty);
    let shared = Arc::new(shared(observer, commands));
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
async fn what_the_store_did_not_take_is_told_from_what_it_may_have_taken() {
    let key = json!({ "sign_pub": identity("carol").sign_pub }).to_string();
    // After the nonce comes the record of what is to be done; only then is anything changed.
    for (call, fault, slug) in [
        (1, Fault::Error, "unavailable"),
        (1, Fault::Timeout, "unavailable"),
        (2, Fault::Error, "unavailable"),
        (2, Fault::Timeout, "unknown-outcome"),
    ] {
        let node = node();
        node.faulty.arm(Some((call, fault)));
        assert_eq!(node.put(&[JSON], key.as_bytes()).await.slug(), slug, "{fault:?} of call {call}");
        assert!(node.faulty.fired());
    }
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
        slugs.push(node.send(plain("GET", "/v1/me")).await.slug());
    }
    assert!(slugs.contains(&"rate-limited".to_owned()), "{slugs:?}");
    assert_eq!(node.send(plain("GET", "/v1/nowhere")).await.slug(), "rate-limited");
    assert_eq!(node.send(plain("POST", "/v1/me")).await.slug(), "rate-limited");
    assert_eq!(node.send(plain("GET", "/livez")).await.status, 200);
    assert_eq!(node.send_from("192.0.2.8:1", plain("GET", "/v1/nowhere")).await.slug(), "not-found");
}

#[tokio::test]
async fn who_is_behind_a_proxy_has_a_rate_of_his_own() {
    let proxy = "192.0.2.7:1000";
    let proxies = Some("192.0.2.7,127.0.0.1".to_owned());
    let node = node_of(Typed { api_rate: Some("2".to_owned()), trusted_proxies: proxies, ..Typed::default() });
    let nowhere = |client: &str| {
        let mut request = plain("GET", "/v1/nowhere");
        request.headers_mut().insert("x-forwarded-for", client.parse().unwrap());
        request
    };
    let mut slugs = Vec::new();
    for _ in 0..30 {
        slugs.push(node.send_from(proxy, nowhere("10.9.9.9, 203.0.113.5")).await.slug());
    }
    assert!(slugs.contains(&"rate-limited".to_owned()), "{slugs:?}");
    assert_eq!(node.send_from(proxy, nowhere("203.0.113.6")).await.slug(), "not-found");
    // Another spelling of what is in front changes nothing, nor does the same word of somebody who is not believed.
    assert_eq!(node.send_from(proxy, nowhere("x, 203.0.113.5")).await.slug(), "rate-limited");
    assert_eq!(node.send_from("198.51.100.1:1", nowhere("203.0.113.5")).await.slug(), "not-found");
    assert_eq!(node.send_from("198.51.100.1:1", nowhere("nonsense")).await.slug(), "not-found");
    let nonsense = node.send_from(proxy, nowhere("nonsense")).await;
    assert_eq!((nonsense.status.as_u16(), nonsense.slug().as_str()), (400, "forwarded-malformed"));
    // What is for programs of this machine is for nobody behind a proxy, and for no proxy.
    for (peer, request) in [
        (proxy, plain("GET", "/metrics")),
        ("127.0.0.1:1", plain("GET", "/metrics")),
        ("127.0.0.1:1", {
            let mut request = nowhere("127.0.0.1");
            *request.uri_mut() = "/metrics".parse().unwrap();
            request
        }),
    ] {
        assert_eq!(node.send_from(peer, request).await.slug(), "not-found", "{peer}");
    }
    assert_eq!(node.send_from("[::1]:1", plain("GET", "/metrics")).await.status, 200);
}
