//! One hostile member, who does the others as much harm as an ordinary user of the bus can: connections, subscriptions, floods, bytes that
//! no client sends, readers that do not read, requests that are never whole, histories, changes that are denied, rooms and keys
//! without end. What comes of each is not looked at: what the others notice is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::{ConnectOptions, HeaderMap};
use futures::future::join_all;
use serde_json::{Value, json};

use super::crowd::{Crowd, Made};
use super::reading::last_page;
use super::socket::Socket;
use unibus_client::api::{Request, room_path};
use unibus_client::identity::Identity;
use unibus_core::domain::{Handle, RoomId, Subject, own_subject};
use unibus_core::random;

/// Pause after something that failed at once, so that the member harms others and not itself.
const PAUSE: Duration = Duration::from_millis(5);
/// How many of each kind go on at once.
const CHURN: usize = 8;
const HELD: usize = 64;
const FLOODS: usize = 4;
const STALLED: usize = 16;
const HALF_REQUESTS: usize = 48;
const READINGS: usize = 24;
const CHANGES: usize = 16;
/// Subscriptions of a held connection, and bytes of a flood's message.
const SUBSCRIPTIONS: usize = 1_000;
const FLOOD_BYTES: usize = 256 << 10;
/// A header as long as an engine takes.
const LONG_HEADER: usize = 60 << 10;

/// Invites the user `handle` of another crowd to the first room.
pub(super) async fn invite(crowd: &Crowd, handle: &Handle) -> Result<Value> {
    let room = crowd.rooms.first().context("there are no rooms")?;
    let path = format!("{}/members/{handle}", room_path(&room.id));
    Ok(crowd.api(room.user, 0)?.ask(&Request::put(path, Some(json!({ "role": "member" })))).await?)
}

/// Takes `handle` out of the first room, and says how long it took until that was acknowledged.
pub(super) async fn expel(crowd: &Crowd, handle: &Handle) -> Result<Value> {
    let room = crowd.rooms.first().context("there are no rooms")?;
    let began = Instant::now();
    let path = format!("{}/members/{handle}", room_path(&room.id));
    let answer = crowd.api(room.user, 0)?.ask(&Request::delete(path)).await.context("removing the hostile member")?;
    Ok(json!({ "seconds": began.elapsed().as_secs_f64(), "fence": answer.get("fence") }))
}

/// What was tried of each kind, so that a proof whose hostile member did nothing is noticed.
#[derive(Default)]
struct Tried([AtomicU64; KINDS.len()]);

const KINDS: [&str; 8] =
    ["logins", "subscriptions", "floods", "headers", "stalled", "half-requests", "readings", "changes"];

impl Tried {
    fn one(&self, kind: usize) {
        if let Some(counter) = self.0.get(kind) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn told(&self) -> Value {
        KINDS
            .iter()
            .zip(&self.0)
            .map(|(kind, count)| ((*kind).to_owned(), json!(count.load(Ordering::Relaxed))))
            .collect()
    }
}

/// The hostile member.
struct Hostile<'a> {
    crowd: &'a Crowd,
    identity: &'a Identity,
    room: &'a RoomId,
    subject: &'a Subject,
    end: Instant,
    tried: &'a Tried,
}

/// Does everything at once until the time is over.
pub(super) async fn harm(crowd: &Crowd, time: Duration, room: &RoomId, subject: &Subject) -> Result<Value> {
    let identity = &crowd.user(0)?.identity;
    let own = format!("{}/members/{}/acceptance", room_path(room), identity.handle);
    crowd.api(0, 0)?.ask(&Request::put(own, None)).await.context("accepting the invitation")?;
    let tried = Arc::new(Tried::default());
    let end = Instant::now() + time;
    let threads = on_sockets(crowd, identity, subject, end, &tried)?;
    let hostile = Hostile { crowd, identity, room, subject, end, tried: &tried };
    let own = crowd.rooms_of(0);
    futures::join!(
        join_all((0..CHURN).map(|node| hostile.churn(node))),
        join_all((0..HELD).map(|node| hostile.hold(node))),
        join_all((0..FLOODS).map(|node| hostile.flood(node))),
        join_all((0..FLOODS).map(|node| hostile.headers(node))),
        join_all((0..READINGS).map(|node| hostile.read(node, &own))),
        join_all((0..CHANGES).map(|node| hostile.change(node))),
    );
    for thread in threads {
        let _ = thread.join();
    }
    Ok(tried.told())
}

impl Hostile<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }

    async fn connect(&self, node: usize) -> Option<async_nats::Client> {
        let at = self.crowd.engines.get(node % self.crowd.engines.len().max(1))?;
        let (options, _) = self.crowd.way(0).ok()?;
        let options: ConnectOptions = options.max_reconnects(1).subscription_capacity(64);
        options.connect(at.to_string()).await.ok()
    }

    /// Logs in, again and again.
    async fn churn(&self, mut node: usize) {
        while self.goes_on() {
            self.tried.one(0);
            node += 1;
            if self.connect(node).await.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Keeps connections, with subscriptions without end.
    async fn hold(&self, node: usize) {
        while self.goes_on() {
            let Some(client) = self.connect(node).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let mut kept = Vec::new();
            for number in 0..SUBSCRIPTIONS {
                self.tried.one(1);
                let Ok(subscribed) = client.subscribe(format!("{}.x{number}", self.subject)).await else { break };
                kept.push(subscribed);
            }
            let connected = || client.connection_state() == async_nats::connection::State::Connected;
            while self.goes_on() && connected() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Says what is no frame, as fast as it goes.
    async fn flood(&self, node: usize) {
        let own = own_subject(self.subject, &self.identity.handle);
        let bytes = bytes::Bytes::from(vec![b'x'; FLOOD_BYTES]);
        while self.goes_on() {
            let Some(client) = self.connect(node).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while self.goes_on() && client.publish(own.clone(), bytes.clone()).await.is_ok() {
                self.tried.one(2);
                if client.flush().await.is_err() {
                    break;
                }
            }
        }
    }

    /// Sends headers that mean something to the engine, long ones, each another.
    async fn headers(&self, node: usize) {
        const NAMES: [&str; 4] = ["Nats-Msg-Id", "Nats-Expected-Last-Msg-Id", "Nats-Expected-Stream", "Nats-Rollup"];
        let own = own_subject(self.subject, &self.identity.handle);
        let mut number = node;
        while self.goes_on() {
            let Some(client) = self.connect(node).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            while self.goes_on() {
                self.tried.one(3);
                number += 1;
                let mut headers = HeaderMap::new();
                let value = format!("{number}{}", "x".repeat(LONG_HEADER));
                headers.insert(NAMES.get(number % NAMES.len()).copied().unwrap_or_default(), value);
                let sent = client.publish_with_headers(own.clone(), headers, "x".into()).await;
                if sent.is_err() || client.flush().await.is_err() {
                    break;
                }
            }
        }
    }

    /// Reads histories, with a good signature.
    async fn read(&self, mut node: usize, own: &[Made]) {
        let Some(room) = own.first() else { return };
        while self.goes_on() {
            self.tried.one(6);
            node += 1;
            let Ok(api) = self.crowd.api(0, node) else { return };
            if api.ask(&last_page(room)).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Asks for what is denied, makes rooms, and removes them.
    async fn change(&self, mut node: usize) {
        while self.goes_on() {
            self.tried.one(7);
            node += 1;
            let (Ok(api), Ok(token)) = (self.crowd.api(0, node), random::bytes::<6>()) else { return };
            let name = data_encoding::HEXLOWER.encode(&token);
            let denied = Request::delete(room_path(self.room));
            let Ok(id) = format!("x{name}").parse() else { return };
            let subject = format!("room.{}.{name}", self.identity.handle);
            let policy = json!({ "encrypt": false, "persist": true, "sign": true });
            let made = Request::put(room_path(&id), Some(json!({ "subject": subject, "policy": policy })));
            for request in [denied, made, Request::delete(room_path(&id))] {
                if api.ask(&request).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Readers that do not read, and requests that are never whole, on threads of their own: they wait in sockets.
fn on_sockets(
    crowd: &Crowd,
    identity: &Identity,
    subject: &Subject,
    end: Instant,
    tried: &Arc<Tried>,
) -> Result<Vec<thread::JoinHandle<()>>> {
    let mut threads = Vec::new();
    let mut start = |work: Box<dyn Fn() -> Result<Socket> + Send>, kind: usize, alive: &'static [u8]| {
        let tried = tried.clone();
        let go_on = move || {
            while Instant::now() < end {
                tried.one(kind);
                let Ok(mut socket) = work() else {
                    thread::sleep(PAUSE);
                    continue;
                };
                // Something now and then, until the server has had enough of it.
                while Instant::now() < end && socket.send(alive).is_ok() {
                    thread::sleep(Duration::from_millis(500));
                }
            }
        };
        threads.push(thread::spawn(go_on));
    };
    for number in 0..STALLED {
        let at = *crowd.engines.get(number % crowd.engines.len().max(1)).context("there is no engine")?;
        let (tls, seed, all) = (crowd.tls.clone(), identity.nkey_seed().to_owned(), format!("{subject}.>"));
        start(Box::new(move || Socket::to_engine(at, tls.as_ref(), &seed, &all)), 4, b"PING\r\n");
    }
    for number in 0..HALF_REQUESTS {
        let at = *crowd.entrances.get(number % crowd.entrances.len().max(1)).context("there is no node")?;
        let (tls, head) = (crowd.tls.clone(), half_request(&identity.handle, at));
        start(
            Box::new(move || {
                let mut socket = Socket::to_api(at, tls.as_ref())?;
                socket.send(head.as_bytes())?;
                Ok(socket)
            }),
            5,
            b"x",
        );
    }
    Ok(threads)
}

/// A write with a signature that is none, and a body that does not come.
fn half_request(handle: &Handle, at: std::net::SocketAddr) -> String {
    let covered = "(\"@method\" \"@authority\" \"@target-uri\" \"content-digest\");created=1;nonce=\"x\"";
    format!(
        "PUT /v1/rooms/x HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\
         Content-Digest: sha-256=:AAAA:\r\nSignature-Input: s={covered};keyid=\"{handle}\"\r\nSignature: s=:AAAA:\r\n\r\n"
    )
}
