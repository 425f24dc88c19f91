//! Real engines with the buckets of the bus, one or a cluster, and a link to the first.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions, Event};
use futures::FutureExt;
use futures::future::BoxFuture;
use membershipd::engine::CHILD_VERB;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use unibus_core::bus::{self, Bucket};
use unibus_store::link::{Link, Reading};
use unibus_store::{self, KvStore, Store};

use super::Subject;
use crate::common::{Dir, engine, own_address, signal};
use rustix::process::Signal;

const PORT: u16 = 4250;
const ROUTE: u16 = 6250;
/// Longest wait for engines to work, elections of all buckets included.
const READY: Duration = Duration::from_secs(60);

/// An engine on an address of its own. It is killed with whoever holds it.
struct Engine {
    config: PathBuf,
    address: IpAddr,
    child: Child,
}

fn name(address: IpAddr) -> String {
    format!("n{address}").replace('.', "-")
}

impl Engine {
    fn start(dir: &Dir, address: IpAddr, others: &[IpAddr]) -> Self {
        let mut config = json!({
            "server_name": name(address),
            "host": address,
            "port": PORT,
            "jetstream": { "store_dir": dir.path().join(address.to_string()), "max_file_store": bus::STORE_BYTES, "sync_interval": "always" },
            "accounts": {
                bus::ACCOUNT_SYSTEM: { "users": [ { "user": "system", "password": "test" } ] },
                bus::ACCOUNT_CONTROL: { "jetstream": "enabled", "users": [ { "user": "control", "password": "test" } ] },
            },
            "system_account": bus::ACCOUNT_SYSTEM,
        });
        if !others.is_empty() {
            let routes: Vec<_> = others.iter().map(|other| format!("nats-route://{other}:{ROUTE}")).collect();
            config["cluster"] = json!({
                "name": "suite", "host": address, "port": ROUTE, "pool_size": -1, "no_advertise": true, "routes": routes,
            });
        }
        let config = dir.write(&format!("{address}.conf"), &config.to_string(), 0o600);
        let child = launch(&config);
        Self { config, address, child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

// Through the daemon's own binary, so that an engine never outlives a test that is killed.
fn launch(config: &PathBuf) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(config.with_extension("log")).unwrap();
    let parent = std::process::id().to_string();
    Command::new(crate::common::program())
        .args([CHILD_VERB, "--parent", &parent, "--"])
        .arg(engine())
        .arg("-c")
        .arg(config)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The store on engines of its own.
pub struct Kv {
    engines: Vec<Engine>,
    pub link: watch::Sender<Option<Arc<Link>>>,
    store: Arc<KvStore>,
    _dir: Dir,
}

impl Kv {
    /// One engine on its own.
    pub async fn new() -> Self {
        Self::with(1).await
    }

    /// So many engines, each with a copy of every bucket.
    pub async fn with(engines: usize) -> Self {
        let dir = Dir::new();
        let addresses: Vec<IpAddr> = (0..engines).map(|_| own_address()).collect();
        let start = |address: &IpAddr| {
            let others: Vec<_> = addresses.iter().filter(|other| *other != address).copied().collect();
            Engine::start(&dir, *address, &others)
        };
        let engines: Vec<_> = addresses.iter().map(start).collect();
        let link = watch::Sender::new(None);
        let store = Arc::new(KvStore::new(link.subscribe()));
        let kv = Self { engines, link, store, _dir: dir };
        kv.connect().await;
        kv
    }

    async fn connect(&self) {
        let copies = self.engines.len();
        let ready = async {
            let link = link_to(self.engines[0].address).await;
            unibus_store::ensure(&link, copies).await;
            let link = Arc::new(link);
            // An engine that has just read its buckets may not lead them yet.
            for bucket in Bucket::ALL {
                while unibus_store::get(&link, bucket, "none").await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            self.link.send_replace(Some(link));
        };
        if tokio::time::timeout(READY, ready).await.is_err() {
            panic!("not ready:\n{}", std::fs::read_to_string(self.engines[0].config.with_extension("log")).unwrap());
        }
    }

    /// The store as another process has it that notes nonces both ways for so long.
    pub fn another(&self, both_ways: Duration) -> Arc<KvStore> {
        Arc::new(KvStore::noting_both_ways_for(self.link.subscribe(), both_ways))
    }

    pub fn current(&self) -> Arc<Link> {
        self.link.borrow().clone().expect("a link")
    }

    /// Links to an engine that does not lead `bucket`, so that the leader can be killed and the link stays.
    pub async fn leave_leader(&mut self, bucket: Bucket) {
        if self.leader(bucket).await == 0 {
            self.engines.swap(0, 1);
            self.connect().await;
        }
    }

    /// Kills the engine that leads `bucket`.
    pub async fn kill_leader(&mut self, bucket: Bucket) {
        let leader = self.leader(bucket).await;
        assert_ne!(leader, 0, "it is the one that we are linked to");
        self.engines[leader].kill();
    }

    async fn leader(&self, bucket: Bucket) -> usize {
        let begun = Instant::now();
        loop {
            let replicas = unibus_store::replicas(&self.current(), self.engines.len()).await;
            let leader = replicas.into_iter().find(|replica| replica.bucket == bucket.name()).and_then(|r| r.leader);
            let at = self.engines.iter().position(|engine| leader.as_deref() == Some(name(engine.address).as_str()));
            if let Some(at) = at {
                return at;
            }
            assert!(begun.elapsed() < READY, "nobody leads {}", bucket.name());
        }
    }

    pub fn kill_first(&mut self) {
        self.engines[0].kill();
    }

    /// Says `line` to the engine as a client of the buckets' account, in the engine's own protocol.
    pub fn say(&self, line: &str) {
        let mut stream = TcpStream::connect((self.engines[0].address, PORT)).unwrap();
        stream.set_read_timeout(Some(READY)).unwrap();
        let connect = r#"CONNECT {"verbose":false,"headers":true,"user":"control","pass":"test"}"#;
        stream.write_all(format!("{connect}\r\n{line}PING\r\n").as_bytes()).unwrap();
        let mut answers = BufReader::new(stream).lines();
        assert!(answers.any(|answer| answer.unwrap() == "PONG"), "the engine hung up");
    }

    /// Nothing is answered, and everything that is sent waits in the kernel until [`Self::thaw`].
    pub fn freeze(&self) {
        signal(self.engines[0].child.id(), Signal::STOP);
    }

    pub fn thaw(&self) {
        signal(self.engines[0].child.id(), Signal::CONT);
    }
}

impl Subject for Kv {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn crash(&mut self) -> BoxFuture<'_, ()> {
        async move {
            for engine in &mut self.engines {
                engine.kill();
            }
            self.link.send_replace(None);
            for engine in &mut self.engines {
                engine.child = launch(&engine.config);
            }
            self.connect().await;
        }
        .boxed()
    }
}

/// A link like the daemon's, but to an engine without callout.
async fn link_to(address: IpAddr) -> Link {
    let lost = CancellationToken::new();
    let control = client(address, "control", &lost).await;
    let system = client(address, "system", &lost).await;
    let mut jetstream = jetstream::new(control.clone());
    jetstream.set_timeout(bus::ATTEMPT);
    let server = system.server_info().server_id;
    // Nothing is asked of these.
    let [callout, bus] = [(); 2].map(|()| control.clone());
    let history = Reading { client: control.clone(), breaks: watch::channel(()).1 };
    let (authorizations, bus_key) = (std::sync::Mutex::default(), String::new());
    Link { callout, authorizations, bus, bus_key, history, control, jetstream, system, server, lost }
}

async fn client(address: IpAddr, user: &str, lost: &CancellationToken) -> Client {
    let begun = Instant::now();
    loop {
        let on_event = lost.clone();
        let options = ConnectOptions::with_user_and_password(user.to_owned(), "test".to_owned())
            .max_reconnects(1)
            .request_timeout(None)
            .subscription_capacity(1 << 18)
            .event_callback(move |event| {
                let lost = on_event.clone();
                async move {
                    if matches!(event, Event::Disconnected | Event::Closed) {
                        lost.cancel();
                    }
                }
            });
        match options.connect(format!("nats://{address}:{PORT}")).await {
            Ok(client) => return client,
            Err(error) => assert!(begun.elapsed() < READY, "no engine at {address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
