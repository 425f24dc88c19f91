//! The daemon, top down: guards, engine, connections to it, listeners, the tasks of a session, drain.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum_server::Handle;
use futures::StreamExt;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Renewal};
use crate::blobs::Blobs;
use crate::bootstrap;
use crate::bus;
use crate::callout::Responder;
use crate::clock;
use crate::commands::{self, Commands, Fence, Gated, Pace, Patience, Real};
use crate::config::{Config, DEFAULT_DB, StoreKind};
use crate::control::{self, Repairing};
use crate::copies::Copies;
use crate::deadman::DeadMan;
use crate::domain::Author;
use crate::engine::{Binary, Engine, EngineHost, StoreGuard, render};
use crate::expiry;
use crate::fence::{self, Cut, Cuts, Ledger, Positions, Process, RevocationFence};
use crate::gate::Gate;
use crate::heartbeat::{self, Rounds};
use crate::history::{Histories, Keeping};
use crate::kick::{self, Kicker};
use crate::link::Link;
use crate::posture::Observer;
use crate::private_file;
use crate::probe::Probes;
use crate::recorded::RecordedUsers;
use crate::store::{Backing, Delivered, KvStore, Records, SqliteStore};
use crate::sweeper;
use crate::tell::Teller;
use crate::transfer;
use crate::users::Users;
use crate::view::{Change, View};

/// Pause before a failed engine is started again; doubled up to `RESTART_MOST`, and reset by a run of a minute.
const RESTART_LEAST: Duration = Duration::from_millis(250);
const RESTART_MOST: Duration = Duration::from_secs(4);
const STEADY: Duration = Duration::from_secs(60);
/// Pause between attempts to connect to an engine that is coming up.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Pause before the messages in a file are carried into the engine once more.
const UNPACK_PAUSE: Duration = Duration::from_secs(1);
/// How often the recorded connections are compared with the engine's own list.
const RECONCILE: Duration = Duration::from_secs(60);
/// Time for requests of the API to end when the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop.
pub async fn run(config: Config, runtime_dir: PathBuf) -> Result<()> {
    let started = Instant::now();
    let config = Arc::new(config);
    let _store = StoreGuard::acquire(&config)?;
    make_runtime_dir(&runtime_dir)?;
    let binary = Binary::find(config.engine.as_deref(), config.engine_sha256.as_deref())?;
    tracing::info!(
        node = config.node,
        engine = binary.version,
        sha256 = binary.sha256,
        path = %binary.path.display(),
        "engine found"
    );
    let engine_config = std::path::absolute(runtime_dir.join("engine.conf"))?;
    private_file::write(&engine_config, render(&config)?.as_bytes())?;
    binary.check(&engine_config)?;

    ports_free(&config)?;

    let mut boot = [0; 8];
    getrandom::fill(&mut boot).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let boot = data_encoding::HEXLOWER.encode(&boot);
    let gate = Arc::new(Gate::new(config.bus_auth, started));
    let ledger = Arc::new(Ledger::new(Process { node: config.node.clone(), boot: boot.clone() }));
    let rounds = Arc::new(Rounds::new(ledger.clone()));
    let (cuts, cutter) = Cuts::new(ledger.clone());
    let (engine_now, engine) = watch::channel(None);
    let (link_now, link) = watch::channel(None);
    let kicker = Kicker { engine: engine.clone(), link: link.clone(), gate: gate.clone() };
    let backing = open(&config, link.clone())?;
    let (store, settling) = (backing.store(), backing.clone());
    let fence = RevocationFence::new(ledger.clone(), link.clone());
    let pace: Arc<dyn Pace> = Arc::new(Real::new().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?);
    let histories = Histories::new(gate.clone(), link.clone());
    let passing: Arc<dyn Fence> = Keeping::new(fence.clone(), histories.clone());
    let state = Gated::new(gate.clone(), pace.clone());
    let commands = Arc::new(Commands::new(store.clone(), state, passing.clone(), pace.clone(), Patience::default()));
    let root: Author = format!("root@{}", config.node).parse().context("the name of the node")?;
    let repairing =
        Repairing { gate: gate.clone(), store: store.clone(), fence: passing, pace: pace.clone(), by: root.clone() };
    let users = Users::new(gate.clone(), store.clone(), fence);
    let users = RecordedUsers::new(users, commands.journal().clone(), root);
    let observer = Observer {
        config: config.clone(),
        binary: Arc::new(binary.clone()),
        boot,
        gate: gate.clone(),
        copies: Arc::new(Copies::new(config.kv_replicas)),
        engine,
        link: link.clone(),
    };

    let copies = observer.copies.clone();
    let api = Api::bind(observer.clone(), users.clone(), commands, store.clone())?;
    let (renewal, certificates) = (api.renewal(), observer.certificates());
    let api_handle = Handle::new();
    let probes = Probes::new(gate.clone(), store.clone());
    let control = control::serve(&runtime_dir, observer, users.clone(), probes, repairing)?;
    let stop = CancellationToken::new();
    let node = Node {
        config: config.clone(),
        backing,
        host: EngineHost::new(binary, engine_config)?,
        gate: gate.clone(),
        rounds: rounds.clone(),
        ledger,
        cuts,
        kicker: kicker.clone(),
        histories,
        blobs: Blobs::new(link.clone()),
        engine_now,
        link_now,
        stop: stop.clone(),
    };
    let mut failed = tokio::spawn(api.serve(api_handle.clone()));
    tokio::spawn(control);
    let (beaten, deadman) = (gate.clone(), DeadMan::new()?);
    let alive = || notify(NotifyState::Watchdog);
    let beating = tokio::spawn(heartbeat::keep(beaten, rounds, deadman.clone(), store.clone(), alive));
    tokio::spawn(cutter.run(kicker.clone()));
    tokio::spawn(commands::put_right(gate.clone(), store.clone()));
    tokio::spawn(cut_without_lease(gate.clone(), kicker, deadman));
    if config.store == StoreKind::Kv {
        tokio::spawn(copies.keep_looking(link));
    }
    tokio::spawn(renew_on_hangup(renewal)?);
    tokio::spawn(expiry::keep_warning(certificates));
    let bootstrap = config.bootstrap.clone();
    tokio::spawn(async move { bootstrap::watch_for(&bootstrap, gate, users, store).await });
    let mut engine_task = tokio::spawn(node.run());

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = &mut failed => ended.context("the API's task broke").flatten(),
        ended = &mut engine_task => ended.context("the engine's task broke").flatten(),
    };
    tracing::info!("stopping");
    notify(NotifyState::Stopping);
    // What is under way may need the engine, so that goes last.
    api_handle.graceful_shutdown(Some(DRAIN));
    if !failed.is_finished() && tokio::time::timeout(DRAIN, failed).await.is_err() {
        tracing::warn!("requests were still under way after {} s", DRAIN.as_secs());
    }
    stop.cancel();
    if !engine_task.is_finished() {
        engine_task.await.context("the engine's task broke").flatten()?;
    }
    beating.abort();
    settling.settle().await;
    let _ = std::fs::remove_file(control::socket(&runtime_dir));
    outcome
}

/// The engine and what hangs on it.
struct Node {
    config: Arc<Config>,
    backing: Backing,
    host: EngineHost,
    gate: Arc<Gate>,
    rounds: Arc<Rounds>,
    ledger: Arc<Ledger>,
    cuts: Cuts,
    kicker: Kicker,
    histories: Histories,
    blobs: Blobs,
    engine_now: watch::Sender<Option<Engine>>,
    link_now: watch::Sender<Option<Arc<Link>>>,
    stop: CancellationToken,
}

impl Node {
    /// Keeps an engine running, and a session with it, until told to stop; then stops the engine by lame duck.
    async fn run(self) -> Result<()> {
        let mut pause = RESTART_LEAST;
        let mut ready = false;
        loop {
            let engine = self.host.launch().await?;
            let launched = Instant::now();
            tracing::info!(pid = engine.pid, "engine started");
            self.engine_now.send_replace(Some(engine.clone()));
            // The session goes on while the engine leaves: whoever connected a moment before is still answered.
            let leave = async {
                self.stop.cancelled().await;
                engine.stop().await;
            };
            let ended = tokio::select! {
                biased;
                () = leave => None,
                status = engine.exited() => Some(status),
                never = self.sessions(&mut ready) => match never {},
            };
            self.link_now.send_replace(None);
            self.engine_now.send_replace(None);
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let status = ended.unwrap_or_default();
            self.gate.engine_ended();
            pause = if launched.elapsed() > STEADY { RESTART_LEAST } else { (pause * 2).min(RESTART_MOST) };
            tracing::error!(status, ?pause, "the engine ended; starting it again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// One session after the other with the engine that runs.
    async fn sessions(&self, ready: &mut bool) -> std::convert::Infallible {
        let mut failures = 0u32;
        loop {
            match Link::connect(&self.config.engine()).await {
                Ok(link) => {
                    failures = 0;
                    let link = Arc::new(link);
                    self.link_now.send_replace(Some(link.clone()));
                    if !*ready {
                        *ready = true;
                        tracing::info!(server = link.server, "ready: the engine lives and the listeners are bound");
                        notify(NotifyState::Ready);
                    }
                    let why = tokio::select! {
                        () = link.lost.cancelled() => anyhow::anyhow!("a connection was lost"),
                        Err(error) = self.session(&link) => error,
                    };
                    self.link_now.send_replace(None);
                    if !self.stop.is_cancelled() {
                        tracing::warn!("session with the engine ended: {why:#}");
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures.is_multiple_of(50) {
                        tracing::warn!(failures, "still no session with the engine: {error:#}");
                    }
                }
            }
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }

    /// The tasks of a session; ends only with an error.
    async fn session(&self, link: &Arc<Link>) -> Result<std::convert::Infallible> {
        let secrets = &self.config.secrets;
        let issuer = nkeys::KeyPair::from_seed(&secrets.issuer.seed()?)?;
        let xkey = nkeys::XKey::from_seed(&secrets.xkey.seed()?)?;
        let responder = Responder::new(link.callout.clone(), link.server.clone(), issuer, xkey, self.gate.clone());
        let (teller, mut events) = Teller::new(&self.config.node);
        let copies = self.config.kv_replicas;
        tokio::select! {
            ended = responder.run() => ended?,
            ended = self.keep_view(link, &teller) => ended?,
            ended = events.publish(&link.bus) => match ended? {},
            ended = self.forget_ended(link) => ended?,
            ended = fence::answer(link, &self.ledger) => ended?,
            never = self.histories.keep(link, |now| teller.speaks(now)) => match never {},
            never = sweeper::keep(link, copies, &self.blobs, &self.gate, &teller, self.backing.file()) => match never {},
        }
        anyhow::bail!("a task of the session ended")
    }

    /// Makes the buckets, loads the view from them, and follows them. Connections with rights that are gone are cut.
    async fn keep_view(&self, link: &Link, teller: &Teller) -> Result<()> {
        self.backing.ensure(link, self.config.kv_replicas).await;
        self.unpack(link).await;
        let since = Instant::now();
        let mut view = View::default();
        let (mut positions, mut entries) = (Vec::new(), 0usize);
        let mut reached = Positions::default();
        for records in Records::DECIDING {
            let bucket = records.bucket();
            let position = loop {
                let loaded = self.backing.load(link, records, |key, value, revision| {
                    entries += 1;
                    if let Change::Heartbeat(node, heartbeat) = view.apply(bucket, key, value, revision)? {
                        self.ledger.heard(bucket, &node, &heartbeat, Instant::now());
                    }
                    Ok(())
                });
                match loaded.await {
                    Ok(position) => break position,
                    Err(error) => {
                        tracing::debug!(bucket = bucket.name(), "cannot load yet: {error:#}");
                        tokio::time::sleep(CONNECT_PAUSE * 3).await;
                    }
                }
            };
            reached.reach(bucket, position.0);
            positions.push((records, position));
        }
        tracing::info!(entries, took = ?since.elapsed(), "loaded what decides");
        let review = self.gate.replace_view(view);
        teller.gained(&review, None);
        let cut = review.cut.into_iter().collect();
        self.kicker.cut_off(cut, &BTreeSet::new(), Instant::now() + bus::CONFIRM).await;
        self.ledger.loaded(&reached);
        let follow = |(records, position): (Records, _)| {
            let bucket = records.bucket();
            self.backing.follow(link, records, position, move |Delivered { key, value, revision, last }| {
                let since = Instant::now();
                let applied = self.gate.apply(bucket, key, value, revision)?;
                teller.applied(&self.gate, &applied, revision, since);
                if let Change::Heartbeat(node, heartbeat) = &applied.change {
                    self.ledger.heard(bucket, node, heartbeat, since);
                    if *node == self.config.node {
                        self.rounds.delivered(bucket, heartbeat);
                    }
                }
                let (connections, users) = (applied.review.cut, applied.lost);
                self.cuts.applied(Cut { bucket, revision, connections, users, since }, last);
                Ok(())
            })
        };
        futures::future::try_join_all(positions.into_iter().map(follow)).await?;
        Ok(())
    }

    /// Carries what was said in rooms, where the store is a file that came from a copy, into the engine. Until that is done there
    /// is no view, and so nobody is let in.
    async fn unpack(&self, link: &Link) {
        let Backing::Sqlite(file) = &self.backing else { return };
        while let Err(error) = transfer::unpack(file, link).await {
            tracing::error!("the messages in the file are not in the engine yet, and nobody is let in: {error}");
            tokio::time::sleep(UNPACK_PAUSE).await;
        }
    }

    /// Forgets recorded connections that have ended: by the engine's word, and now and then by its list, because an
    /// admission that the client did not wait for ends without a word.
    async fn forget_ended(&self, link: &Link) -> Result<()> {
        let mut ended = kick::ended(link).await?;
        let mut tick = tokio::time::interval(RECONCILE);
        loop {
            tokio::select! {
                id = ended.next() => self.gate.ended(id.context("the engine's events ended")?),
                _ = tick.tick() => {
                    let listed = kick::listed(link).await?;
                    self.gate.reconcile(&listed, Instant::now());
                }
            }
        }
    }
}

/// Takes the API's certificate anew whenever somebody says so (`systemctl reload`).
fn renew_on_hangup(renewal: Option<Renewal>) -> Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            match renewal.as_ref().map(|renewal| renewal.renew(clock::unix())) {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let why = format!("{error:#}").replace('\n', " ");
                    tracing::error!("the API goes on with the certificate it has: {why}");
                }
                None => tracing::info!("nothing to reload: the API has no certificate"),
            }
        }
    })
}

/// Cuts every member's connection when the lease ends without having been renewed.
async fn cut_without_lease(gate: Arc<Gate>, kicker: Kicker, deadman: DeadMan) {
    let mut cut_for = None;
    loop {
        let now = Instant::now();
        match gate.lease_expires() {
            Some(end) if end > now => tokio::time::sleep_until(end.into()).await,
            Some(end) if !gate.lease_valid(now) && cut_for != Some(end) => {
                cut_for = Some(end);
                tracing::error!("the lease ended: no quorum proves our view; cutting all connections");
                kicker.cut_all().await;
                deadman.disarm(end + bus::KICK);
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// The store of this node. An SQLite file is locked from here on: who has it, has it alone.
fn open(config: &Config, link: watch::Receiver<Option<Arc<Link>>>) -> Result<Backing> {
    let path = match &config.store {
        StoreKind::Kv => return Ok(Backing::Kv(KvStore::new(link))),
        StoreKind::Sqlite(path) => path,
    };
    // One that was named must be there: what is made below a disk that is not mounted would be another, empty store.
    if let (Some(directory), true) = (path.parent(), path == Path::new(DEFAULT_DB)) {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    Ok(Backing::Sqlite(Arc::new(SqliteStore::open(path, Arc::new(clock::unix_ms))?)))
}

fn make_runtime_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the runtime directory {} (--runtime-dir)", path.display()))
}

// The engine would find out too, but only its log would say so, again and again.
fn ports_free(config: &Config) -> Result<()> {
    let mut wanted = vec![
        ("--client-port", SocketAddr::new(config.bind, config.ports.client)),
        ("--api-port", SocketAddr::new(config.bind, config.ports.api)),
        ("--monitor", config.monitor),
    ];
    if let Some(cluster) = &config.cluster {
        wanted.push(("--route-port", SocketAddr::new(cluster.bind, config.ports.route)));
    }
    let taken: Vec<String> = wanted
        .into_iter()
        .filter_map(|(flag, address)| Some(format!("{address} ({flag}): {}", TcpListener::bind(address).err()?)))
        .collect();
    ensure!(
        taken.is_empty(),
        "cannot listen on {}; remedy: see who does with 'ss -ltnp', or choose other ports",
        taken.join(", ")
    );
    Ok(())
}

// Without a service manager there is nobody to tell, which is no failure.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}
