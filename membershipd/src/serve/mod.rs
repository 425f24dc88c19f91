//! The daemon, top down: guards, what it is made of, its tasks, drain.
//!
//! `run` is the composition root: it makes each part once and hands it to those who need it. `engine` keeps the engine and the
//! session with it, `view_sync` what this node knows.

mod engine;
mod view_sync;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum_server::Handle;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::engine::EngineSupervisor;
use self::view_sync::ViewSync;
use crate::api::{Api, Renewal};
use crate::blobs::Blobs;
use crate::bootstrap::{self, Beginning};
use crate::commands::{self, Commands, Fence, Gated, Pace, Patience, Real};
use crate::config::{Config, StoreKind, make_default_directory};
use crate::control::{self, Repairing};
use crate::copies::Copies;
use crate::deadman::DeadMan;
use crate::engine::{Binary, EngineHost, StoreGuard, render};
use crate::expiry;
use crate::fence::{Cuts, Ledger, Process, RevocationFence};
use crate::gate::Gate;
use crate::heartbeat::{self, Rounds};
use crate::history::{Histories, Keeping};
use crate::keeping::KeeperAccess;
use crate::kick::Kicker;
use crate::level::{self, RaiseLevel};
use crate::peers::Peers;
use crate::posture::Observer;
use crate::presence::Presence;
use crate::probe::Probes;
use crate::transfer::unpack_in_place;
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::Author;
use unibus_core::private_file;
use unibus_core::random;
use unibus_keeper::Keeper;
use unibus_store::link::Link;
use unibus_store::{Backing, KvStore, SqliteStore};

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

    let boot: [u8; 8] = random::bytes()?;
    let boot = data_encoding::HEXLOWER.encode(&boot);
    let gate = Arc::new(Gate::bounded(config.bus_auth, config.engine_bounds, started));
    let ledger = Arc::new(Ledger::new(Process { node: config.node.clone(), boot: boot.clone() }));
    let rounds = Arc::new(Rounds::new(ledger.clone()));
    let (cuts, cutter) = Cuts::new(ledger.clone());
    let (engine_now, engine) = watch::channel(None);
    let (link_now, link) = watch::channel(None);
    let kicker = Kicker { engine: engine.clone(), link: link.clone(), gate: gate.clone() };
    let backing = open(&config, link.clone())?;
    let (store, settling) = (backing.store(), backing.clone());
    if let (StoreKind::Sqlite(path), false) = (&config.store, config.begin_at_lowest_level) {
        let begun = bootstrap::begin_own_file(&*store).await;
        begun.with_context(|| format!("cannot write the feature level into {}", path.display()))?;
    }
    let fence = RevocationFence::new(ledger.clone(), link.clone());
    let pace: Arc<dyn Pace> = Arc::new(Real::new()?);
    let copies = Arc::new(Copies::new(config.kv_replicas));
    let histories = Histories::new(gate.clone(), link.clone(), copies.clone());
    let blobs = Blobs::new(link.clone());
    let passing: Arc<dyn Fence> = Keeping::new(fence, histories.clone());
    let state = Gated::new(gate.clone(), pace.clone());
    let commands = Commands::new(store.clone(), state, passing.clone(), pace.clone(), Patience::default());
    let commands = Arc::new(commands.recording(&config.bounds.hourly));
    let root: Author = format!("root@{}", config.node).parse().context("the name of the node")?;
    let repairing = Repairing {
        gate: gate.clone(),
        store: store.clone(),
        fence: passing,
        pace: pace.clone(),
        by: root.clone(),
        histories: histories.clone(),
    };
    let observer = Observer {
        config: config.clone(),
        binary: Arc::new(binary.clone()),
        boot,
        gate: gate.clone(),
        copies: copies.clone(),
        engine,
        link: link.clone(),
    };

    let presence = Arc::new(Presence::default());
    let peers = Peers::new(observer.clone(), presence.clone());
    let api = Api::bind(peers, commands.clone(), histories.clone(), blobs.clone())?;
    let (renewal, certificates) = (api.renewal(), observer.certificates());
    let api_handle = Handle::new();
    let probes = Probes::new(gate.clone(), store.clone());
    let (seen, given) = (observer.clone(), commands.clone());
    let control = control::serve(&runtime_dir, seen, given, blobs.clone(), probes, repairing, ledger.clone())?;
    let stop = CancellationToken::new();
    let keeper =
        Keeper::new(&config.node, KeeperAccess::new(gate.clone(), presence.clone(), histories.clone(), config.keeping));
    let beginning = Beginning {
        record: config.bootstrap.clone(),
        at_lowest_level: config.begin_at_lowest_level,
        node: config.node.clone(),
        presence: presence.clone(),
        gate: gate.clone(),
        commands: commands.clone(),
        raise: RaiseLevel { by: root, ledger: ledger.clone(), nodes: config.expected_nodes() },
    };
    let view = ViewSync {
        node: config.node.clone(),
        copies: config.kv_replicas,
        backing,
        gate: gate.clone(),
        ledger,
        rounds: rounds.clone(),
        presence,
        cuts,
        kicker: kicker.clone(),
    };
    let supervisor = EngineSupervisor {
        config: config.clone(),
        host: EngineHost::new(binary, engine_config, config.engine_bounds.engine_memory)?,
        view,
        histories,
        keeper,
        blobs,
        observer,
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
        tokio::spawn(copies.keep_looking(link, gate.clone()));
    }
    tokio::spawn(renew_on_hangup(renewal)?);
    tokio::spawn(expiry::keep_warning(certificates));
    tokio::spawn(level::keep_noted(config.nats_store.clone(), gate, store));
    tokio::spawn(beginning.keep());
    let mut engine_task = tokio::spawn(supervisor.run());

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

/// Takes the API's certificate anew whenever the operator says so (`systemctl reload`).
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
    make_default_directory(path)?;
    // A copy that `cargo xtask backup` made becomes the store.
    unpack_in_place(path)?;
    Ok(Backing::Sqlite(Arc::new(SqliteStore::open(path, Arc::new(clock::unix_ms))?)))
}

fn make_runtime_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the runtime directory {} (--runtime-dir)", path.display()))?;
    // One that has another store: what it left behind when it ended does not answer.
    let socket = control::socket(path);
    ensure!(
        UnixStream::connect(&socket).is_err(),
        "another daemon answers at {}; remedy: stop it, or give this one a directory of its own with --runtime-dir",
        socket.display()
    );
    Ok(())
}

// The engine would find out too, but only its log would say so, again and again.
fn ports_free(config: &Config) -> Result<()> {
    let mut wanted = vec![
        ("--client-port", SocketAddr::new(config.bind, config.ports.client)),
        ("--api-port", SocketAddr::new(config.bind, config.ports.api)),
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

// Without a service manager there is none to tell, which is no failure.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("cannot notify the service manager: {error}");
    }
}
