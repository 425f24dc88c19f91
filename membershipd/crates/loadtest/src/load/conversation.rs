//! A conversation in a room that keeps it: its members say numbered messages through different nodes, sealed and signed as those
//! of people are, now and then with a new key, and each of them reads the whole of it, whenever they are told to look and in the end.
//!
//! They use the client module, so what is acknowledged here is what it calls kept: it has seen it in the room's history.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::{BoxFuture, join_all, try_join_all};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::api_user::ApiUser;
use super::bench::Bench;
use super::kinds::{Content, Failure, Found, Kind};
use super::room::RoomOfRun;
use unibus_client::api::{Client, NodeUrl};
use unibus_client::talk::{From, Heard, Keyring, Listener, People, Pins, Sender, Sent, TalkError};
use unibus_core::bus;
use unibus_core::domain::{Policy, RoomRole};
use unibus_crypto::{Epoch, FrameRefusal};

/// Time for something to be said: what the client module tries by itself, and the attempt that it ends with.
const SAID: Duration = bus::STORE_BUDGET.saturating_add(Duration::from_secs(5));
/// Time to read everything, and attempts at it.
const READ: Duration = Duration::from_secs(12);
const LAST_READS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// After so many of his messages a member begins a new epoch of the room's key.
const ROTATED_AFTER: u64 = 15;
/// Messages of a run, and bytes of one with all that is around it: what a room keeps has to have room for all of them, or else the
/// oldest would make way.
const MESSAGES: u64 = 10_000;
const MESSAGE_BYTES: u64 = 1_000;
const _: () = assert!(MESSAGES * MESSAGE_BYTES <= bus::HISTORY_ROOM_BYTES);

/// The workload.
pub(super) struct Conversation {
    talkers: Vec<Arc<Talker>>,
    /// Where they keep what they have seen of each other.
    _pins: PinsDir,
}

/// One of the members.
struct Talker {
    bench: Arc<Bench>,
    room: RoomOfRun,
    user: ApiUser,
    /// The nodes, beginning with the one that it asks first, and that one's name.
    nodes: Vec<NodeUrl>,
    home: String,
    /// The identity file that its pins would be beside.
    identity: PathBuf,
    /// Until it talks.
    sender: Mutex<Option<Sender>>,
}

impl Conversation {
    /// Makes the room, lets all `users` in, and has each of them say for which key to seal.
    pub(super) async fn begin(bench: Arc<Bench>, users: Vec<ApiUser>, within: Duration) -> Result<Self> {
        let room = RoomOfRun::new(&bench, "conversation")?;
        room.fill(&bench, Policy::CONVERSATION, &users, RoomRole::Member, within).await?;
        let pins = PinsDir::new(&bench.orders.run)?;
        let talkers = users.into_iter().enumerate().map(|(number, user)| {
            let mut nodes = Vec::new();
            for node in &bench.orders.nodes {
                let url: NodeUrl = node.api.parse().with_context(|| format!("{} is no address", node.api))?;
                nodes.push((url, node.name.clone()));
            }
            let first = number % nodes.len().max(1);
            nodes.rotate_left(first);
            let home = nodes.first().map(|(_, name)| name.clone()).context("there is no node")?;
            let nodes = nodes.into_iter().map(|(url, _)| url).collect();
            let identity = pins.0.join(format!("{}.toml", user.handle()));
            let sender = Mutex::default();
            let talker = Talker { bench: bench.clone(), room: room.clone(), user, nodes, home, identity, sender };
            Ok(Arc::new(talker))
        });
        let talkers = talkers.collect::<Result<Vec<_>>>()?;
        // All of them before the first says anything: a key is sealed for those who have one to seal for.
        try_join_all(talkers.iter().map(|talker| talker.introduce(within))).await?;
        Ok(Self { talkers, _pins: pins })
    }
}

impl Workload for Conversation {
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let count = u32::try_from(self.talkers.len()).unwrap_or(u32::MAX).max(1);
        Box::pin(async move {
            join_all(self.talkers.iter().map(|talker| {
                let every = Duration::from_secs(1) * count / talker.bench.orders.rates.says.max(1);
                tokio::spawn(talker.clone().talk(every, MESSAGES / u64::from(count), stop.clone()))
            }))
            .await;
        })
    }

    /// Everybody reads everything so far.
    fn look(self: Arc<Self>) -> BoxFuture<'static, ()> {
        self.look_back()
    }

    /// Everybody reads everything.
    fn look_back(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            join_all(self.talkers.iter().map(|talker| talker.read())).await;
        })
    }
}

impl Talker {
    /// Gets ready to talk, which says for which key to seal.
    async fn introduce(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let (nodes, ca) = (self.nodes.clone(), Some(self.bench.orders.ca_file.clone()));
            let identity = self.user.bus.shared_identity();
            match Sender::new(identity, Pins::beside(&self.identity), nodes, ca, self.room.id.clone()).await {
                Ok(sender) => {
                    *self.sender.lock().await = Some(sender);
                    return Ok(());
                }
                Err(error) if Instant::now() >= deadline => {
                    let whom = self.user.handle();
                    return Err(error).with_context(|| format!("{whom} cannot talk within {} s", within.as_secs()));
                }
                // Also a refusal: a node may not have heard yet of what another has just done.
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Says one message after the other. Its connection ends with it, so nothing is on its way any more when others read.
    async fn talk(self: Arc<Self>, every: Duration, most: u64, stop: CancellationToken) {
        let Some(mut sender) = self.sender.lock().await.take() else { return };
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for number in 1..=most {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            if number.is_multiple_of(ROTATED_AFTER) {
                self.rotate().await;
            }
            // That may have taken its time.
            if stop.is_cancelled() {
                return;
            }
            self.say(&mut sender, &number.to_string()).await;
        }
    }

    async fn say(&self, sender: &mut Sender, text: &str) {
        let mut op = self.bench.history.begin(Kind::Say).key(self.room.key(self.user.handle())).says(text);
        op.tries(&self.home);
        match timeout(SAID, sender.say(&[text])).await {
            Ok(Ok(Sent { seq: Some(seq), .. })) => op.ok_at(&self.home, None, seq),
            Ok(Ok(Sent { seq: None, .. })) => op.ok(&self.home),
            Ok(Err(error)) => op.failed(&failed(&error, !matches!(error, TalkError::Unknown(_)))),
            Err(_) => op.failed(&Failure::unknown(format!("no end within {} s", SAID.as_secs()))),
        }
    }

    /// Begins an epoch, by all that anybody needs to do that: what the sender knows of keys is its own.
    async fn rotate(&self) {
        let mut op = self.bench.history.begin(Kind::Rotate).key(self.room.key(self.user.handle()));
        op.tries(&self.home);
        match timeout(SAID, self.rotate_once()).await {
            Ok(Ok(epoch)) => op.ok_at(&self.home, None, epoch.get().into()),
            // The last of several attempts is the one that is told of.
            Ok(Err(error)) => op.failed(&failed(&error, false)),
            Err(_) => op.failed(&Failure::unknown(format!("no end within {} s", SAID.as_secs()))),
        }
    }

    async fn rotate_once(&self) -> Result<Epoch, TalkError> {
        let (identity, ca) = (self.user.bus.shared_identity(), &self.bench.orders.ca_file);
        let api = Client::new(&identity, self.nodes.clone(), Some(ca)).map_err(TalkError::Identity)?;
        let api = Arc::new(api);
        let mut people = People::new(api.clone(), Pins::beside(&self.identity));
        let own = people.introduce(&identity).await?;
        Keyring::new(api, self.room.id.clone(), identity, own)?.rotate(&mut people).await
    }

    /// Reads all that the room has kept.
    async fn read(&self) {
        let mut op = self.bench.history.begin(Kind::ReadHistory).key(self.room.key(self.user.handle()));
        for attempt in 0..LAST_READS {
            if attempt > 0 {
                sleep(PAUSE).await;
            }
            op.tries(&self.home);
            match timeout(READ, self.read_once()).await {
                Ok(Ok(found)) => return op.ok_with(&self.home, found),
                Ok(Err(error)) => op.failed(&failed(&error, true)),
                Err(_) => op.failed(&Failure::certain(format!("no end within {} s", READ.as_secs()))),
            }
        }
    }

    async fn read_once(&self) -> Result<Vec<Found>, TalkError> {
        let (nodes, ca) = (self.nodes.clone(), Some(self.bench.orders.ca_file.clone()));
        let (identity, pins) = (self.user.bus.shared_identity(), Pins::beside(&self.identity));
        let listener = Listener::new(identity, pins, nodes, ca, self.room.id.clone(), From::After(0)).await?;
        let mut found = Vec::new();
        let heard = |heard| {
            match heard {
                Heard::Message(message) => {
                    let (seq, by) = (message.seq.unwrap_or_default(), message.sender.to_string());
                    // Load says texts, and its rooms have no other members.
                    found.extend(message.contents.iter().filter_map(|content| {
                        let unibus_client::talk::Content::Text(text) = content else { return None };
                        let text = String::from_utf8_lossy(text).into_owned();
                        Some(Found { seq, what: Content::Said { by: by.clone(), text } })
                    }));
                }
                Heard::Refused { why, seq, .. } => {
                    let seq = seq.unwrap_or_default();
                    let what = match why {
                        FrameRefusal::Replayed => Content::Doubled(why.to_string()),
                        _ => Content::Refused(why.to_string()),
                    };
                    found.push(Found { seq, what });
                }
                // None of these is told of what was kept.
                Heard::NotKept(_) | Heard::CaughtUp { .. } | Heard::Lost(_) => {}
            }
            std::ops::ControlFlow::Continue(())
        };
        listener.read_kept(heard).await?;
        Ok(found)
    }
}

fn failed(error: &TalkError, certain: bool) -> Failure {
    Failure { code: error.code().to_owned(), certain, why: error.to_string() }
}

/// A directory for the pins of one run, which goes with it. They are public keys: it does no harm where it stays, because this
/// process was killed.
struct PinsDir(PathBuf);

impl PinsDir {
    fn new(run: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("unibus-load-{run}-{}", std::process::id()));
        // Never one that is there already: somebody else may own it.
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("making {}", Path::display(&path)))?;
        Ok(Self(path))
    }
}

impl Drop for PinsDir {
    fn drop(&mut self) {
        // It can only stay behind, and that is said above to be harmless.
        let _ = fs::remove_dir_all(&self.0);
    }
}
