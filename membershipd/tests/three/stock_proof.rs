//! The same clients for longer: at rest, through restarts and losses of the quorum, and a thousand connections at once. `cargo xtask prove
//! stock` runs it; `UNIBUS_PROVE_REST_S`, `_QUORUM_S`, `_PATIENT_S` and `_CONNECTIONS` are for a look that is shorter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Event};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use unibus_client::api::Request;
use unibus_client::identity::Identity;

use crate::common::requests::{identity, seed_admin};
use crate::nodes::{self, NODES, Node};
use crate::stock::{Asker, LANGUAGES, Program, furnish, restarted, started_again};

/// Connections of one user: fewer than a node allows.
const OF_A_USER: usize = 25;
/// Time within which all connections hear again what is said, after a node was restarted.
const SUBSCRIBED: Duration = Duration::from_secs(30);

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn seconds(variable: &str, usual: u64) -> Duration {
    Duration::from_secs(number(variable, usual))
}

/// What the client page names to make a client patient.
const PATIENT: [(&str, &str); 2] =
    [("tls=ssl", "max_reconnect_attempts=-1, tls=ssl"), ("  tls: {", "  maxReconnectAttempts: -1,\n  tls: {")];

/// Many connections, each of which hears what is said in the room.
struct Crowd {
    clients: Vec<Client>,
    heard: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Crowd {
    async fn connect(users: &[Identity], urls: &[String], node: &Node, count: usize) -> Self {
        let (heard, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let connect = |number: usize| {
            let (heard, ended, who) = (heard.clone(), ended.clone(), &users[number / OF_A_USER]);
            let options = ConnectOptions::with_nkey(who.nkey_seed().to_owned())
                .custom_inbox_prefix(format!("_INBOX.{}", who.handle))
                .add_root_certificates(node.dir.path().join("ca.crt"))
                .event_callback(move |event| {
                    if matches!(event, Event::Disconnected | Event::Closed) {
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                    std::future::ready(())
                });
            async move {
                let client = options.connect(urls).await?;
                let mut said = client.subscribe("rpc.crowd").await?;
                tokio::spawn(async move {
                    while said.next().await.is_some() {
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                });
                Ok::<_, async_nats::Error>(client)
            }
        };
        let clients = futures::stream::iter(0..count).map(connect).buffer_unordered(32).try_collect().await.unwrap();
        Self { clients, heard, ended }
    }

    /// Says something until all have heard it; how long that took.
    async fn hear(&self, speaker: &Client, within: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            self.heard.store(0, Ordering::Relaxed);
            speaker.publish("rpc.crowd", "heard?".into()).await.unwrap();
            let _ = speaker.flush().await;
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_secs(1) {
                if self.heard.load(Ordering::Relaxed) >= self.clients.len() {
                    return begun.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let heard = self.heard.load(Ordering::Relaxed);
            assert!(begun.elapsed() < within, "{heard} of {} hear after {within:?}", self.clients.len());
        }
    }
}

/// Users who read in the room of the crowd, which the first of them made.
fn crowd_of(nodes: &[Node], count: usize) -> Vec<Identity> {
    let root = seed_admin_again(nodes);
    let users: Vec<_> = (0..count.div_ceil(OF_A_USER)).map(|n| identity(&nodes[0], &format!("crowd{n}"))).collect();
    let ask = |who: &Identity, path: &str, body| nodes[0].request(who, &Request::put(path, body)).unwrap();
    let policy = json!({ "encrypt": false, "persist": false, "sign": false });
    for (number, who) in users.iter().enumerate() {
        ask(&root, &format!("/v1/users/{}", who.handle), Some(json!({ "sign_pub": who.sign_pub })));
        if number == 0 {
            ask(who, "/v1/rooms/crowd", Some(json!({ "subject": "rpc.crowd", "policy": policy })));
            continue;
        }
        let path = format!("/v1/rooms/crowd/members/{}", who.handle);
        ask(&users[0], &path, Some(json!({ "role": "member" })));
        ask(who, &format!("{path}/acceptance"), None);
    }
    users
}

/// The first admin, who was made with the cluster.
fn seed_admin_again(nodes: &[Node]) -> Identity {
    Identity::load(&nodes[0].dir.path().join("root.toml")).unwrap_or_else(|_| seed_admin(&nodes[0]))
}

/// Two nodes are gone for so long.
fn lose_the_quorum(nodes: &mut [Node; 3], length: Duration) {
    nodes[1].kill();
    nodes[2].kill();
    thread::sleep(length);
    nodes[1].start_again();
    started_again(nodes, 2);
}

#[test]
#[ignore = "half an hour; cargo xtask prove stock"]
fn the_lines_of_the_client_page_live_for_long() {
    let count = usize::try_from(number("UNIBUS_PROVE_CONNECTIONS", 1_000)).unwrap();
    let mut nodes = nodes::start(&["--clear-rooms", "allow"]);
    let people = ["asker", "ada", "bo", "cy"].map(|handle| identity(&nodes[0], handle));
    furnish(&nodes, &people);
    let users = crowd_of(&nodes, count);
    let urls = nodes.each_ref().map(|node| format!("tls://{}:4250", node.address));
    let mut asker = Asker::new(&nodes, &urls, &people[0]);
    let start = |nodes: &[Node; 3], changes: &[(&str, &str)]| {
        let clients = LANGUAGES.iter().zip(&people[1..]);
        clients.map(|(name, who)| Program::start(name, &nodes[0], &urls.join(","), who, changes)).collect::<Vec<_>>()
    };
    let mut programs = start(&nodes, &[]);
    asker.hears_all(&nodes, &mut programs, "the beginning");

    let rest = seconds("UNIBUS_PROVE_REST_S", 30 * 60);
    let said = Program::logs(&nodes[0]);
    thread::sleep(rest);
    asker.hears_all(&nodes, &mut programs, &format!("{rest:?} of rest"));
    assert_eq!(Program::logs(&nodes[0]), said, "no client had anything to tell meanwhile");

    for (which, name) in NODES.iter().enumerate() {
        restarted(&mut nodes, which);
        asker.hears_all(&nodes, &mut programs, &format!("{name} restarted"));
    }
    let loss = seconds("UNIBUS_PROVE_QUORUM_S", 30);
    lose_the_quorum(&mut nodes, loss);
    asker.hears_all(&nodes, &mut programs, &format!("{loss:?} without a quorum, default options"));
    drop(programs);

    let mut programs = start(&nodes, &PATIENT);
    asker.hears_all(&nodes, &mut programs, "patient clients");
    let loss = seconds("UNIBUS_PROVE_PATIENT_S", 5 * 60);
    lose_the_quorum(&mut nodes, loss);
    asker.hears_all(&nodes, &mut programs, &format!("{loss:?} without a quorum, with the option"));
    drop(programs);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let speaking = ConnectOptions::with_nkey(users[0].nkey_seed().to_owned())
        .add_root_certificates(nodes[0].dir.path().join("ca.crt"))
        .custom_inbox_prefix("_INBOX.crowd0");
    let speaker = runtime.block_on(speaking.connect(&urls[..])).unwrap();
    let crowd = runtime.block_on(Crowd::connect(&users, &urls, &nodes[0], count));
    let first = runtime.block_on(crowd.hear(&speaker, Duration::from_secs(120)));
    println!("{count} connections hear after {first:.1?}");
    restarted(&mut nodes, 0);
    let again = runtime.block_on(crowd.hear(&speaker, SUBSCRIBED));
    let ended = crowd.ended.load(Ordering::Relaxed);
    println!(
        "{ended} of {count} connections were at {}, which was restarted; all hear again {again:.1?} after it was ready",
        NODES[0]
    );
    assert!(ended > 0, "none of them was at the node that was restarted");
}
