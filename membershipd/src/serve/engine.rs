//! The engine and what hangs on it: started again when it ends, and a session after the other with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::StreamExt;
use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::notify;
use super::view_sync::ViewSync;
use crate::blobs::Blobs;
use crate::callout::Responder;
use crate::config::Config;
use crate::engine::{Engine, EngineHost};
use crate::fence;
use crate::history::Histories;
use crate::keeping::NodeKeeper;
use crate::kick;
use crate::peers;
use crate::posture::Observer;
use crate::sweeper;
use crate::tell::{Events, Teller};
use crate::usage;
use unibus_core::bus;
use unibus_store::link::Link;

/// Pause before a failed engine is started again; doubled up to `RESTART_MOST`, and reset by a run of a minute.
const RESTART_LEAST: Duration = Duration::from_millis(250);
const RESTART_MOST: Duration = Duration::from_secs(4);
const STEADY: Duration = Duration::from_secs(60);
/// Pause between attempts to connect to an engine that is coming up: clients that come before the daemon are refused.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How soon after a user met the bound of connections: some of them may have ended without a word.
const DOUBT: Duration = Duration::from_secs(1);

/// Keeps the engine running, and with it what needs a session.
pub(super) struct EngineSupervisor {
    pub(super) config: Arc<Config>,
    pub(super) host: EngineHost,
    pub(super) view: ViewSync,
    pub(super) histories: Histories,
    pub(super) keeper: Arc<NodeKeeper>,
    pub(super) blobs: Blobs,
    pub(super) observer: Observer,
    pub(super) engine_now: watch::Sender<Option<Engine>>,
    pub(super) link_now: watch::Sender<Option<Arc<Link>>>,
    pub(super) stop: CancellationToken,
}

impl EngineSupervisor {
    /// Keeps an engine running, and a session with it, until told to stop; then stops the engine by lame duck.
    pub(super) async fn run(self) -> Result<()> {
        let mut pause = RESTART_LEAST;
        let mut ready = false;
        loop {
            let engine = self.host.launch().await?;
            let launched = Instant::now();
            tracing::info!(pid = engine.pid, "engine started");
            self.engine_now.send_replace(Some(engine.clone()));
            // The session goes on while the engine leaves: a client that connected a moment before is still answered.
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
            self.view.gate.engine_ended();
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
                    if failures.is_multiple_of(250) {
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
        let open = Arc::new(AtomicBool::new(false));
        let (teller, events) = Teller::new(&self.config.node, self.view.presence.clone());
        let teller = Arc::new(teller);
        let gate = self.view.gate.clone();
        let responder = Responder::new(link.clone(), (issuer, xkey), gate, teller.clone(), open.clone());
        tokio::select! {
            ended = responder.run() => ended?,
            Err(error) = self.work(link, &open, &teller, events) => return Err(error),
        }
        anyhow::bail!("a task of the session ended")
    }

    /// All tasks of a session but the one that answers the engine, which admits clients once this says that it is `open`.
    async fn work(
        &self,
        link: &Arc<Link>,
        open: &AtomicBool,
        teller: &Teller,
        mut events: Events,
    ) -> Result<std::convert::Infallible> {
        let engine = self.config.engine();
        // Before a client is admitted that may say something.
        let listener = self.keeper.listen(&engine).await?;
        open.store(true, Ordering::Release);
        let copies = self.config.kv_replicas;
        tokio::select! {
            ended = self.view.run(link, teller) => ended?,
            ended = events.publish(&link.bus) => match ended? {},
            ended = self.forget_ended(link) => ended?,
            never = usage::keep(link, &self.view.gate, teller) => match never {},
            ended = fence::answer(link, &self.view.ledger) => ended?,
            ended = peers::answer(link, &self.observer) => ended?,
            never = self.keeper.run(link, &engine, listener) => match never {},
            never = self.histories.keep(link, |now| teller.speaks(now)) => match never {},
            never = sweeper::keep(link, copies, &self.blobs, &self.view.gate, teller, self.view.backing.file()) => match never {},
        }
        anyhow::bail!("a task of the session ended")
    }

    /// Forgets recorded connections that have ended: by the engine's word, and now and then by its list, because an
    /// admission that the client did not wait for ends without a word. By that list it also ends what it does not stand behind, and
    /// what has had less than its user for long.
    async fn forget_ended(&self, link: &Link) -> Result<()> {
        let mut ended = kick::ended(link).await?;
        let (mut tick, mut due) = (tokio::time::interval(DOUBT), Instant::now());
        loop {
            tokio::select! {
                id = ended.next() => self.view.gate.ended(id.context("the engine's events ended")?),
                _ = tick.tick() => {
                    let now = Instant::now();
                    if self.view.gate.take_doubt() || now >= due {
                        due = now + bus::STRAYS;
                        let listed = self.view.kicker.cut_strays(link).await?;
                        let now = Instant::now();
                        self.view.gate.reconcile(&listed, now);
                        self.view.kicker.send_away(self.view.gate.outdated(now)).await;
                    }
                }
            }
        }
    }
}
