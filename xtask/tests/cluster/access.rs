//! Who gets in and what they may do there, as a stock client sees it.

use serde_json::json;

use super::client::Client;
use super::harness::{Cluster, NODES, Shared, holds, said};

#[test]
fn a_stock_client_gets_in_with_its_key_and_with_nothing_else() {
    let cluster = Shared::cluster();
    let admin = cluster.admin_seed();
    for node in NODES {
        let mut client = Client::new();
        let answer = client.connect(&cluster, node, &admin);
        assert_eq!((&answer["ok"], &answer["server"]), (&json!(true), &json!(node)), "{answer}");
    }
    strangers_are_refused(&cluster).unwrap();
    signatures_are_checked(&cluster, "victim").unwrap();

    let alice = cluster.add_user("homer", "alice");
    cluster.add_user("homer", "bob");
    rights_end_at_the_own_subjects(&cluster, &alice.seed).unwrap();
    let mut client = Client::new();
    assert_eq!(
        client.connect_with(&cluster, "datardos", json!({"seed": alice.seed, "inbox": "_INBOX.alice"}))["ok"],
        true
    );
    assert_eq!(client.say(json!({"op": "subscribe", "subject": "_INBOX.alice.>"}))["ok"], true);
    assert_eq!(client.say(json!({"op": "subscribe", "subject": "unibus.user.alice.>"}))["ok"], true);
    assert_eq!(client.say(json!({"op": "publish", "subject": "_INBOX.alice.x", "data": "hello"}))["ok"], true);
    let received = client.say(json!({"op": "wait_received", "count": 1}));
    assert_eq!(received["received"], json!([["_INBOX.alice.x", "hello"]]));

    disabling_shuts_out_everywhere(&cluster, &alice.seed);
    nothing_secret_shows(&cluster);
}

/// Whoever shows no known key stays outside, on every node.
pub(crate) fn strangers_are_refused(cluster: &Cluster) -> Result<(), String> {
    let stranger = cluster.identity("stranger");
    for node in NODES {
        for (what, options) in [
            ("an unknown key", json!({ "seed": stranger.seed })),
            ("no key", json!({})),
            ("user and password", json!({ "user": "root", "password": "root" })),
        ] {
            let answer = Client::new().connect_with(cluster, node, options);
            holds(answer["ok"] == false, format!("{node} let {what} in"))?;
            let error = answer["error"].to_string();
            holds(error.contains("Authorization Violation"), format!("{node}, {what}: {answer}"))?;
        }
    }
    Ok(())
}

/// A known key with somebody else's signature stays outside.
pub(crate) fn signatures_are_checked(cluster: &Cluster, victim: &str) -> Result<(), String> {
    let (victim, thief) = (cluster.add_user("magnus", victim), cluster.identity(&format!("thief-of-{victim}")));
    for node in NODES {
        // The same client signs rightly, too: what is refused is the signature and nothing else.
        let right = json!({ "nkey": victim.nkey, "signer": victim.seed });
        let answer = Client::new().connect_with(cluster, node, right);
        holds(answer["ok"] == true, format!("{node} refused a right signature: {answer}"))?;
        let wrong = json!({ "nkey": victim.nkey, "signer": thief.seed });
        let answer = Client::new().connect_with(cluster, node, wrong);
        holds(answer["ok"] == false, format!("{node} took a wrong signature"))?;
    }
    Ok(())
}

/// Beyond its own subjects a user meets violations, and in JetStream's API above all.
pub(crate) fn rights_end_at_the_own_subjects(cluster: &Cluster, seed: &str) -> Result<(), String> {
    let mut client = cluster.connected("magnus", seed);
    for subject in [
        "_INBOX.bob.x",
        "room.board",
        "unibus.user.alice.x",
        "unibus.user.bob.x",
        "$JS.API.STREAM.NAMES",
        "$JS.API.INFO",
        "$KV.UNIBUS_users.user.alice",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.USER.AUTH",
    ] {
        let answer = client.say(json!({ "op": "publish", "subject": subject, "data": "x" }));
        let violation = answer["errors"].to_string().contains("permissions violation");
        holds(violation, format!("publishing to {subject} met no violation: {answer}"))?;
    }
    for subject in [">", "_INBOX.>", "_INBOX.bob.>", "room.>", "unibus.user.bob.>", "$JS.API.>", "$KV.>", "$SYS.>"] {
        let answer = client.say(json!({ "op": "subscribe", "subject": subject }));
        let violation = answer["errors"].to_string().contains("permissions violation");
        holds(violation, format!("subscribing to {subject} met no violation: {answer}"))?;
    }
    let info = client.say(json!({ "op": "jetstream_info" }));
    holds(info["ok"] == false, format!("JetStream answered: {info}"))
}

fn disabling_shuts_out_everywhere(cluster: &Cluster, seed: &str) {
    let mut clients: Vec<Client> = NODES.iter().map(|node| cluster.connected(node, seed)).collect();
    let mut bystander = cluster.connected("homer", &cluster.admin_seed());
    let output = cluster.user("datardos", &["disable", "alice", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    for (node, client) in NODES.iter().zip(&mut clients) {
        assert!(!client.is_connected(), "{node} still serves a disabled user after the answer");
        assert!(!cluster.admits(node, seed), "{node} still admits a disabled user after the answer");
    }
    assert!(bystander.is_connected(), "somebody else was cut too");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bound = cluster.posture("magnus").unwrap()["lease"]["bound_ms"].as_u64().unwrap();
    assert!(answer["waited_ms"].as_u64().unwrap() <= bound + 1000, "{answer}");

    assert!(cluster.user("magnus", &["enable", "alice"]).status.success());
    cluster.connected("magnus", seed);
    // Removed is removed: the handle is not given again, and neither is the key.
    assert!(cluster.user("magnus", &["remove", "alice"]).status.success());
    let again = cluster.identity("again");
    let refused = cluster.user("homer", &["add", "--handle", "alice", "--sign-pub", &again.sign_pub]);
    assert!(said(&refused).contains("never given again"), "{}", said(&refused));
}

/// Secrets are in no command line, log, environment file or git status.
fn nothing_secret_shows(cluster: &Cluster) {
    let mut secrets: Vec<String> = Vec::new();
    for entry in walk(&cluster.state) {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".nk") || name.ends_with(".pass") {
            secrets.push(std::fs::read_to_string(&entry).unwrap().trim().to_owned());
        } else if name.ends_with(".key") {
            let pem = std::fs::read_to_string(&entry).unwrap();
            secrets.push(pem.lines().nth(1).unwrap().to_owned());
        }
    }
    secrets.push(cluster.admin_seed());
    assert!(secrets.len() > 20, "too few secrets found: the test looks in the wrong place");
    let shown = |place: &str, text: &str| {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret shows in {place}");
        }
    };
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        shown(&format!("the command line of process {:?}", entry.file_name()), &String::from_utf8_lossy(&command));
    }
    for node in NODES {
        shown("a log", &cluster.log(node));
        shown("cluster.env", &std::fs::read_to_string(cluster.node(node).join("cluster.env")).unwrap());
    }
    shown("the supervisor's log", &std::fs::read_to_string(cluster.state.join("supervisor.log")).unwrap());
    for node in NODES {
        assert!(!cluster.log(node).contains("room.board"), "a subject shows in the log of {node}");
    }
    let exposed: Vec<_> = walk(&cluster.state)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "key" || e == "nk" || e == "pass"))
        .filter(|path| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(path).unwrap().permissions().mode() & 0o077 != 0
        })
        .collect();
    assert!(exposed.is_empty(), "{exposed:?}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(walk(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}
