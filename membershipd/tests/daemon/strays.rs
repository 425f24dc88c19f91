//! A connection that the daemon did not admit, by whatever fault: here another program answers the engine with the node's own keys.

use std::path::Path;
use std::thread;

use async_nats::ConnectOptions;
use data_encoding::BASE64URL_NOPAD;
use futures::StreamExt;
use nkeys::{KeyPair, XKey};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::requests::identity;
use crate::common::wire::Wire;
use crate::common::{Daemon, Dir, own_address, signal};

fn token(issuer: &KeyPair, mut claims: Value) -> String {
    claims["iss"] = json!(issuer.public_key());
    claims["iat"] = json!(1_700_000_000);
    claims["jti"] = json!("one");
    let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
    format!("{body}.{}", BASE64URL_NOPAD.encode(&issuer.sign(body.as_bytes()).unwrap()))
}

/// Admits the client that asks next to everything.
async fn admit_next(daemon: &Daemon, secrets: &Path, ready: impl FnOnce()) {
    let secret = |name: &str| std::fs::read_to_string(secrets.join(format!("{name}.nk"))).unwrap();
    let (issuer, xkey) = (KeyPair::from_seed(&secret("issuer")).unwrap(), XKey::from_seed(&secret("xkey")).unwrap());
    let url = format!("nats://{}:4250", daemon.address);
    let client = ConnectOptions::with_nkey(secret("callout")).connect(url).await.unwrap();
    let mut requests = client.subscribe("$SYS.REQ.USER.AUTH").await.unwrap();
    client.flush().await.unwrap();
    // Answered once the engine has taken the subscription.
    let own = client.new_inbox();
    let mut back = client.subscribe(own.clone()).await.unwrap();
    client.publish(own, "".into()).await.unwrap();
    back.next().await.unwrap();
    ready();
    let message = requests.next().await.unwrap();
    let key = message.headers.as_ref().unwrap().get("Nats-Server-Xkey").unwrap();
    let key = XKey::from_public_key(key.as_str()).unwrap();
    let request = String::from_utf8(xkey.open(&message.payload, &key).unwrap()).unwrap();
    let claims = BASE64URL_NOPAD.decode(request.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let request: Value = serde_json::from_slice(&claims).unwrap();
    let (user, server) = (&request["nats"]["user_nkey"], &request["nats"]["server_id"]["id"]);
    let nats = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
    let admitted = token(&issuer, json!({ "sub": user, "aud": "BUS", "nats": nats }));
    let nats = json!({ "type": "authorization_response", "version": 2, "jwt": admitted });
    let answer = token(&issuer, json!({ "sub": user, "aud": server, "nats": nats }));
    let sealed = xkey.seal(answer.as_bytes(), &key).unwrap();
    client.publish(message.reply.unwrap(), sealed.into()).await.unwrap();
    client.flush().await.unwrap();
}

#[test]
fn a_connection_that_the_daemon_did_not_admit_is_ended() {
    let dir = Dir::new();
    dir.write("secrets/issuer.nk", &KeyPair::new_account().seed().unwrap(), 0o600);
    dir.write("secrets/xkey.nk", &XKey::new().seed().unwrap(), 0o600);
    for name in ["callout", "control", "system", "bus"] {
        dir.write(&format!("secrets/{name}.nk"), &KeyPair::new_user().seed().unwrap(), 0o600);
    }
    let daemon = Daemon::launch(dir, own_address(), &["--secrets-dir", "secrets"]);
    daemon.wait_for_lease();
    // The bus has no such user.
    let mallory = identity(&daemon, "mallory");
    let mut wire = thread::scope(|scope| {
        let (ready, waiting) = std::sync::mpsc::channel();
        let daemon = &daemon;
        scope.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let secrets = daemon.dir.path().join("secrets");
            runtime.block_on(admit_next(daemon, &secrets, || ready.send(()).unwrap()));
        });
        waiting.recv().unwrap();
        // So that the daemon's refusal is not the first answer.
        signal(daemon.child.id(), Signal::STOP);
        let wire = Wire::connect(daemon, &mallory, None);
        signal(daemon.child.id(), Signal::CONT);
        wire
    });
    daemon.wait("the end of the connection", || daemon.log().contains("connections that this daemon did not admit"));
    wire.until_closed();
    // No other client was cut for it, and the daemon's own connections are not taken for strays.
    assert_eq!(daemon.log().matches("did not admit").count(), 1, "{}", daemon.log());
    assert!(daemon.status().unwrap()["lease"]["valid"] == true);
}
