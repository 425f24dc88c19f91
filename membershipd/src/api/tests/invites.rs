//! Invites over the API, and the one request of somebody who is nobody yet.

use axum::body::Body;
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};

use super::super::limits::{NEWCOMER_BYTES, NEWCOMERS_A_SECOND, NEWCOMERS_BURST_S};
use super::{Answer, JSON, Node, identity, node, signed};
use unibus_core::bus::Bucket;
use unibus_core::clock;
use unibus_core::domain::{Invite, Role, Token};
use unibus_store::{Event, Position, Records, Store};

fn token(seed: u8) -> Token {
    Token::from_entropy([seed; 32])
}

fn registration(token: &Token) -> Vec<u8> {
    json!({ "token": token.reveal() }).to_string().into_bytes()
}

/// A request to register with `token`, as `who` will be.
fn registering(who: &str, token: &Token) -> Request<Body> {
    signed(who, "PUT", "/v1/register", &[JSON], &registration(token))
}

/// A node whose gate sees what users are made. A test needs a thread beside its own for it.
async fn following() -> Node {
    let node = node();
    let mut events = node.faulty.truth().await.watch(Records::Users, Position::default()).await.unwrap();
    let gate = node.shared.gate.clone();
    tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            let Event::Changed(changed) = event else { continue };
            let revision = changed.entry.revision.get();
            gate.apply(Bucket::Users, changed.key.as_str(), &changed.entry.value, revision).unwrap();
        }
    });
    node
}

async fn make(node: &Node, seed: u8, body: Value) -> Answer {
    let target = format!("/v1/invites/{}", token(seed).id());
    node.send(signed("admin", "PUT", &target, &[JSON], body.to_string().as_bytes())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_invite_is_made_used_once_and_listed() {
    let node = following().await;
    let carol = json!({ "handle": "carol" });
    let made = make(&node, 1, carol.clone()).await;
    assert_eq!((made.status.as_u16(), &made.json()["invite"]["state"]), (201, &json!("open")));
    let again = make(&node, 1, carol).await;
    assert_eq!((again.status.as_u16(), &again.json()["changed"]), (200, &json!(false)));
    assert_eq!(make(&node, 1, json!({ "handle": "dave" })).await.slug(), "invite-exists");
    assert_eq!(make(&node, 2, json!({ "handle": "bob" })).await.slug(), "handle-taken");
    assert_eq!(node.ask("admin", "DELETE", &format!("/v1/invites/{}", token(2).id())).await.slug(), "not-found");
    assert_eq!(node.ask("admin", "DELETE", "/v1/invites/4BB0").await.slug(), "bad-path");
    assert_eq!(make(&node, 3, json!({ "handle": "dave", "role": "admin" })).await.status, 201);

    let request = registering("carol", &token(1));
    let mut replay = registering("carol", &token(1));
    *replay.headers_mut() = request.headers().clone();
    let done = node.send(request).await;
    assert_eq!(done.status, 201, "{done:?}");
    assert_eq!((&done.json()["user"]["handle"], &done.json()["user"]["role"]), (&json!("carol"), &json!("user")));
    assert_eq!(node.ask("carol", "GET", "/v1/me").await.status, 200);
    assert_eq!(node.send(replay).await.slug(), "nonce-used");
    let again = node.send(registering("carol", &token(1))).await;
    assert_eq!((again.status.as_u16(), &again.json()["changed"]), (200, &json!(false)));
    assert_eq!(again.headers["etag"], done.headers["etag"]);
    assert_eq!(node.send(registering("mallory", &token(1))).await.slug(), "invite-refused");
    assert_eq!(node.send(registering("carol", &token(3))).await.slug(), "key-taken");
    assert_eq!(node.ask("admin", "DELETE", &format!("/v1/invites/{}", token(1).id())).await.slug(), "invite-used");
    let revoked = node.ask("admin", "DELETE", &format!("/v1/invites/{}", token(3).id())).await;
    assert_eq!((revoked.status.as_u16(), &revoked.json()["invite"]["state"]), (200, &json!("revoked")));

    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = node.ask("admin", "GET", &format!("/v1/invites?limit=1{after}")).await.json();
        let invites = page["invites"].as_array().unwrap();
        seen.extend(invites.iter().map(|invite| format!("{} {}", invite["handle"], invite["state"]).replace('"', "")));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["carol spent", "dave revoked"]);
    let two = [registering("erin", &token(4)), registering("frank", &token(4))];
    assert_eq!(make(&node, 4, json!({ "handle": "erin" })).await.status, 201);
    let [one, other] = two.map(|request| node.send_from("192.0.2.99:1", request));
    let (one, other) = tokio::join!(one, other);
    let mut said = [one.status.as_u16(), other.status.as_u16()];
    said.sort_unstable();
    assert_eq!(said, [201, 403], "{one:?} {other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_has_no_good_token_learns_nothing_and_writes_nothing() {
    let node = following().await;
    let old = Invite::new("old".parse().unwrap(), Role::User, "admin".parse().unwrap(), clock::unix() - 604_800);
    let gone =
        Invite { made_at: clock::unix(), expires_at: clock::unix() + 9, by: "gone".parse().unwrap(), ..old.clone() };
    let open = Invite { by: "admin".parse().unwrap(), ..gone.clone() };
    let claimed = open.claimed(identity("alice").sign_pub);
    for (seed, invite) in [(1, &old), (2, &gone), (3, &open.revoked()), (4, &claimed), (5, &open)] {
        let key = format!("invite.{}", token(seed).id()).parse().unwrap();
        node.faulty.create(Records::Invites, &key, &serde_json::to_vec(invite).unwrap()).await.unwrap();
    }
    node.faulty.arm(None);
    let mut answers = Vec::new();
    for seed in [0, 1, 2, 3, 4] {
        let mut answer = node.send(registering("carol", &token(seed))).await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (403, "invite-refused"), "{seed}");
        let instance = answer.json()["instance"].as_str().unwrap().to_owned();
        answer.text = answer.text.replace(&instance, "");
        answers.push((answer.text, answer.headers));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "one answer, whatever the reason: {answers:?}");
    assert!(node.faulty.calls().iter().all(|call| call.verb == "read"), "{:?}", node.faulty.calls());

    // What is wrong in any other way is told, and never with the token.
    let good = token(5);
    let from = |peer: &'static str, request| node.send_from(peer, request);
    let put = |fields: &[(&str, &str)], target: &str, body: &[u8]| signed("carol", "PUT", target, fields, body);
    let text = String::from_utf8(registration(&good)).unwrap();
    for (number, (slug, request)) in [
        ("bad-json", put(&[JSON], "/v1/register", text.replace("\"}", "A\"}").as_bytes())),
        ("bad-json", put(&[JSON], "/v1/register", text.replace('}', ",\"handle\":\"root\"}").as_bytes())),
        ("media-type", put(&[], "/v1/register", text.as_bytes())),
        ("bad-query", put(&[JSON], "/v1/register?handle=root", text.as_bytes())),
        ("precondition-unsupported", put(&[JSON, ("if-match", "*")], "/v1/register", text.as_bytes())),
        ("too-large", put(&[JSON], "/v1/register", &vec![b' '; NEWCOMER_BYTES + 1])),
        ("digest-mismatch", {
            let mut request = registering("carol", &good);
            *request.body_mut() = Body::from(registration(&token(6)));
            request
        }),
        ("signature-invalid", {
            let mut request = registering("carol", &good);
            let other = registering("carol", &good);
            request.headers_mut().insert("signature", other.headers()["signature"].clone());
            request
        }),
        ("user-disabled", registering("gone", &good)),
        ("method-not-allowed", signed("carol", "POST", "/v1/register", &[JSON], text.as_bytes())),
    ]
    .into_iter()
    .enumerate()
    {
        let peer = ["192.0.2.10:1", "192.0.2.11:1"][number % 2];
        let answer = from(peer, request).await;
        assert_eq!(answer.slug(), slug);
        assert!(!answer.text.contains(&good.reveal()), "{answer:?}");
    }
    assert!(node.faulty.calls().iter().all(|call| call.verb == "read"), "{:?}", node.faulty.calls());

    // An address has a few tries, whatever its keys; others are not concerned.
    let tries = NEWCOMERS_A_SECOND * NEWCOMERS_BURST_S + 3;
    let mut slugs = Vec::new();
    for _ in 0..tries {
        slugs.push(from("198.51.100.1:1", registering("carol", &token(0))).await.slug());
    }
    assert!(slugs.contains(&"rate-limited".to_owned()), "{slugs:?}");
    assert_eq!(from("198.51.100.2:1", registering("carol", &good)).await.status, 201);
}
