//! What is said in a room: sealed and signed by one, opened and checked by three at three nodes, next to the bare bus between
//! the same users.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::{Client as Connection, HeaderMap, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use super::crew::{Crew, Hand};
use super::drive::Measured;
use super::{Orders, raw};
use unibus_api_types::notice::{Notice, Outcome};
use unibus_client::api::{Request, Room, room_path};
use unibus_client::talk::{Arrived, Keyring, People, Pins, Reader};
use unibus_core::domain::RoomId;
use unibus_core::{bus, clock, random};
use unibus_crypto::{Epoch, MessageId, RoomKey, Sealer, Source};

/// A message.
const TEXT: [u8; 256] = [b'.'; 256];
/// Messages that are under way at most.
const WINDOW: usize = 2_048;
/// Messages in a frame where many wait to be said: as many as `say` puts there.
const TOGETHER: usize = 64;
/// Who listens.
const LISTENERS: usize = 3;
/// Patience with what was sent.
const WAIT: Duration = Duration::from_secs(20);
/// Messages of a history that is opened.
const HISTORY: usize = 1_000;
/// Times that it is opened.
const OPENED: usize = 5;

/// What was measured.
#[derive(Debug)]
pub struct Spoken {
    /// Messages on the bare bus, from one connection to three.
    pub bare: Measured,
    /// Said and read, many in a frame, and nothing kept.
    pub together: Measured,
    /// The same, each in a frame of its own.
    pub single: Measured,
    /// Said and read, many in a frame, and known to be kept.
    pub kept: Measured,
    /// One message at a time on the bare bus, until the last of three has it.
    pub bare_delay: Measured,
    /// One at a time, from saying it until the last of three has read it.
    pub delay: Measured,
    /// One at a time, from saying it until the daemons acknowledge that it is kept; nothing where they keep nothing.
    pub acknowledged: Measured,
    /// One at a time, from saying it until the history shows it.
    pub seen: Measured,
    /// Histories of 1,000 messages, opened and checked on one core, without their transfer.
    pub history: Measured,
}

/// How a message goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// As it is.
    Bare,
    /// So many in a frame.
    Said(usize),
    /// The same, and waited for in the history.
    Kept(usize),
}

/// A room in which one speaks and three listen.
struct Hall<'a> {
    orders: &'a Orders,
    crew: &'a Crew,
    pins: Scratch,
    room: Room,
    connection: Connection,
    /// Where the daemons tell what they kept.
    notices: Option<Mutex<Subscriber>>,
}

/// How far the listeners are.
#[derive(Debug, Default)]
struct Heard {
    each: [AtomicUsize; LISTENERS],
    moved: Notify,
    failed: AtomicBool,
}

/// A task that ends with its owner.
struct Ear(JoinHandle<()>);

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Heard {
    fn note(&self, listener: usize, messages: usize) {
        if let Some(count) = self.each.get(listener) {
            count.fetch_add(messages, Ordering::Relaxed);
        }
        self.moved.notify_waiters();
    }

    /// Waits until every listener has heard `count` messages.
    async fn reach(&self, count: usize) -> Result<()> {
        let least = || self.each.iter().map(|heard| heard.load(Ordering::Relaxed)).min().unwrap_or(0);
        let all = async {
            loop {
                let mut moved = std::pin::pin!(self.moved.notified());
                moved.as_mut().enable();
                if least() >= count || self.failed.load(Ordering::Relaxed) {
                    return;
                }
                moved.await;
            }
        };
        let late = tokio::time::timeout(WAIT, all).await.is_err();
        ensure!(!self.failed.load(Ordering::Relaxed), "a listener did not take what was said");
        ensure!(!late, "of {count} messages a listener has heard {} after {} s", least(), WAIT.as_secs());
        Ok(())
    }
}

/// Measures, each thing for `each`. Makes two rooms, which the crew removes when it leaves.
pub(super) async fn measure(orders: &Orders, crew: &Crew, each: Duration) -> Result<Spoken> {
    let speaker = crew.hand(0)?;
    let id = |what: &str| format!("{}-{what}", speaker.room).parse::<RoomId>();
    let rooms = [id("live")?, id("kept")?];
    rooms.iter().for_each(|room| crew.note_room(room));
    let [live, kept] = &rooms;
    measure_in(orders, crew, [live, kept], each).await
}

async fn measure_in(orders: &Orders, crew: &Crew, [live, kept]: [&RoomId; 2], each: Duration) -> Result<Spoken> {
    let hall = Hall::open(orders, crew, live, false).await?;
    let (bare, single) = (hall.many(How::Bare, each).await?, hall.many(How::Said(1), each).await?);
    let together = hall.many(How::Said(TOGETHER), each).await?;
    let (bare_delay, delay) = (hall.one_by_one(How::Bare, each).await?, hall.one_by_one(How::Said(1), each).await?);
    let history = hall.history().await?;
    let keeping = Hall::open(orders, crew, kept, true).await?;
    let kept = keeping.many(How::Kept(TOGETHER), each).await?;
    let [mut acknowledged, mut seen] = [const { Measured::none() }; 2];
    for _ in 0..super::TURNS {
        let turn = each / u32::from(super::TURNS);
        acknowledged += keeping.until_acknowledged(turn).await?;
        seen += keeping.until_seen(turn).await?;
    }
    Ok(Spoken { bare, together, single, kept, bare_delay, delay, acknowledged, seen, history })
}

impl<'a> Hall<'a> {
    /// Makes the room with everybody in it, and a connection for who speaks.
    async fn open(orders: &'a Orders, crew: &'a Crew, id: &RoomId, persist: bool) -> Result<Self> {
        let pins = Scratch(std::env::temp_dir().join(format!("unibus-{id}")));
        std::fs::create_dir_all(&pins.0).with_context(|| format!("cannot make {}", pins.0.display()))?;
        let (speaker, path) = (crew.hand(0)?, room_path(id));
        let policy = json!({ "encrypt": true, "persist": persist, "sign": true });
        let body = json!({ "subject": format!("room.bench.{id}"), "policy": policy });
        speaker.api.ask(&Request::put(path.as_str(), Some(body))).await.context("making a room")?;
        let room: Room = speaker.api.ask_for(&Request::get(path.as_str())).await.context("reading a room")?;
        for number in 1..=LISTENERS {
            let hand = crew.hand(number)?;
            let member = format!("{path}/members/{}", hand.identity.handle);
            let role = Some(json!({ "role": "member" }));
            speaker.api.ask(&Request::put(member.as_str(), role)).await.context("inviting")?;
            hand.api.ask(&Request::put(format!("{member}/acceptance"), None)).await.context("accepting")?;
        }
        let connection = crew.connection(speaker).await?;
        let notices = match &room.keeper {
            Some(keeper) => Some(Mutex::new(connection.subscribe(keeper.notices.clone()).await?)),
            None => None,
        };
        let hall = Self { orders, crew, pins, room, connection, notices };
        for number in 0..=LISTENERS {
            hall.keyring(hall.crew.hand(number)?).await?;
        }
        Ok(hall)
    }

    /// The keys of the room, for one of the crew, whom the others can seal for from then on.
    async fn keyring(&self, hand: &Hand) -> Result<(Keyring, People)> {
        let pins = Pins::beside(&self.pins.0.join(hand.identity.handle.as_str()));
        let mut people = People::new(hand.api.clone(), pins);
        let own = people.introduce(&hand.identity).await?;
        Ok((Keyring::new(hand.api.clone(), self.room.id.clone(), hand.identity.clone(), own)?, people))
    }

    async fn sealer(&self) -> Result<Sealer> {
        let speaker = self.crew.hand(0)?;
        let (mut keyring, mut people) = self.keyring(speaker).await?;
        let key: (Epoch, &RoomKey) = keyring.fresh(&mut people).await?;
        let (handle, pair) = (speaker.identity.handle.clone(), speaker.identity.key_pair()?);
        Ok(Sealer::new(self.room.id.clone(), handle, Some(pair), Some(key))?)
    }

    fn subject(&self, how: How) -> String {
        match (how, &self.room.keeper) {
            // The readers of the room do not listen below it here.
            (How::Bare, _) => format!("{}.bare", self.room.subject),
            (_, Some(keeper)) => keeper.publish.clone(),
            (_, None) => self.room.subject.to_string(),
        }
    }

    /// Three who listen, each at another node where there are others.
    async fn ears(&self, how: How) -> Result<(Vec<Ear>, Arc<Heard>)> {
        let (mut ears, heard) = (Vec::new(), Arc::<Heard>::default());
        for listener in 0..LISTENERS {
            let (connection, messages) = self.connect(listener, &self.subject(how)).await?;
            let told = heard.clone();
            let task = if how == How::Bare {
                tokio::spawn(async move {
                    let (_stays, mut messages) = (connection, messages);
                    while messages.next().await.is_some() {
                        told.note(listener, 1);
                    }
                })
            } else {
                let (keyring, people) = self.keyring(self.crew.hand(listener + 1)?).await?;
                let reader = Reader::new(self.room.id.clone(), self.room.policy.into(), keyring);
                tokio::spawn(async move {
                    let _stays = connection;
                    if let Err(error) = read(messages, reader, people, listener, &told).await {
                        eprintln!("bench: a listener ended: {error:#}");
                        told.failed.store(true, Ordering::Relaxed);
                        told.moved.notify_waiters();
                    }
                })
            };
            ears.push(Ear(task));
        }
        Ok((ears, heard))
    }

    async fn connect(&self, listener: usize, subject: &str) -> Result<(Connection, Subscriber)> {
        let (node, hand) = (&self.orders.node, self.crew.hand(listener + 1)?);
        let nodes: Vec<_> = std::iter::once(&node.address).chain(&node.others).collect();
        let address = nodes.get(listener % nodes.len().max(1)).context("there is no node")?;
        let at = SocketAddr::new(**address, node.client_port).to_string();
        let connection = raw::connected(self.crew.options(hand), &at).await?;
        let messages = connection.subscribe(subject.to_owned()).await?;
        raw::round_trip(&connection, &bus::inbox(hand.identity.handle.as_str())).await?;
        // Other nodes learn of a subscription a moment later: what it hears shows that they have.
        Ok((connection, messages))
    }

    /// Says so many messages, and returns the id of the last frame.
    async fn send(&self, how: How, sealer: &Sealer, subject: &str) -> Result<Option<MessageId>> {
        let (id, frame) = match how {
            How::Bare => {
                self.connection.publish(subject.to_owned(), Bytes::from_static(&TEXT)).await?;
                return Ok(None);
            }
            How::Said(together) | How::Kept(together) => {
                let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap_or_default(), random::bytes()?);
                (id, sealer.seal(subject, id, &vec![TEXT; together])?)
            }
        };
        let mut headers = HeaderMap::new();
        headers.insert(bus::MESSAGE_ID, id.to_string());
        self.connection.publish_with_headers(subject.to_owned(), headers, frame.into()).await?;
        Ok(Some(id))
    }

    /// As many messages as go through in `each`, with [`WINDOW`] of them under way.
    async fn many(&self, how: How, each: Duration) -> Result<Measured> {
        let (_ears, heard) = self.ears(how).await?;
        let (sealer, subject) = (self.sealer().await?, self.subject(how));
        let together = if let How::Said(together) | How::Kept(together) = how { together } else { 1 };
        self.settle(how, &heard, &sealer, &subject).await?;
        let (begun, mut sent) =
            (Instant::now(), heard.each.iter().map(|n| n.load(Ordering::Relaxed)).max().unwrap_or(0));
        let (first, mut measured) = (sent, Measured::none());
        let mut kept = if matches!(how, How::Kept(_)) { self.settle_kept().await? } else { 0 };
        while sent == first || begun.elapsed() < each {
            let since = Instant::now();
            for _ in 0..(WINDOW / 2 / together).max(1) {
                self.send(how, &sealer, &subject).await?;
                sent += together;
            }
            self.connection.flush().await?;
            if let How::Kept(_) = how {
                kept = self.until_kept(kept, WINDOW / 2 / together).await?;
                heard.reach(sent).await?;
            } else {
                heard.reach(sent.saturating_sub(WINDOW / 2)).await?;
            }
            measured.took(since.elapsed());
        }
        heard.reach(sent).await?;
        Ok(measured.of(sent - first, begun.elapsed()))
    }

    /// Sends until everybody hears.
    async fn settle(&self, how: How, heard: &Heard, sealer: &Sealer, subject: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        let deaf = || heard.each.iter().any(|count| count.load(Ordering::Relaxed) == 0);
        while deaf() {
            ensure!(Instant::now() < deadline, "a listener hears nothing");
            self.send(how, sealer, subject).await?;
            self.connection.flush().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What is still on its way is not to be counted with what follows.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let most = heard.each.iter().map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0);
        heard.each.iter().for_each(|count| count.store(most, Ordering::Relaxed));
        Ok(())
    }

    /// One message after the other.
    async fn one_by_one(&self, how: How, each: Duration) -> Result<Measured> {
        let (_ears, heard) = self.ears(how).await?;
        let (sealer, subject) = (self.sealer().await?, self.subject(how));
        self.settle(how, &heard, &sealer, &subject).await?;
        let mut sent = heard.each.iter().map(|count| count.load(Ordering::Relaxed)).max().unwrap_or(0);
        let (begun, mut measured) = (Instant::now(), Measured::none());
        while measured.count() == 0 || begun.elapsed() < each / 4 {
            let since = Instant::now();
            self.send(how, &sealer, &subject).await?;
            sent += 1;
            heard.reach(sent).await?;
            measured.note(since.elapsed());
        }
        Ok(measured)
    }

    async fn newest_kept(&self) -> Result<u64> {
        let page = Request::get(format!("{}/history?limit=1", room_path(&self.room.id)));
        let page = self.crew.hand(0)?.api.ask(&page).await.context("reading the history")?;
        page.get("last").and_then(serde_json::Value::as_u64).context("a history without its last number")
    }

    /// Waits until what was said before is kept, and returns the newest number.
    async fn settle_kept(&self) -> Result<u64> {
        if let Some(notices) = &self.notices {
            let mut notices = notices.lock().await;
            while let Ok(told) = tokio::time::timeout(Duration::from_millis(200), notices.next()).await {
                told.context("the connection was closed")?;
            }
        }
        self.newest_kept().await
    }

    /// The next thing that the daemons tell: that a frame is kept.
    async fn next_kept(&self, notices: &mut Subscriber) -> Result<u64> {
        let told = tokio::time::timeout(WAIT, notices.next()).await.context("the daemons acknowledge nothing")?;
        let told = told.context("the connection was closed")?;
        match serde_json::from_slice::<Notice>(&told.payload)?.outcome {
            Outcome::Kept { seq } => Ok(seq),
            Outcome::Refused { refused, .. } => anyhow::bail!("a message was not kept: {}", refused.why()),
        }
    }

    /// Waits until `count` frames are kept of those that were sent after number `newest` was kept. Returns the newest number.
    async fn until_kept(&self, newest: u64, count: usize) -> Result<u64> {
        if let Some(notices) = &self.notices {
            let (mut notices, mut newest) = (notices.lock().await, newest);
            for _ in 0..count {
                newest = newest.max(self.next_kept(&mut notices).await?);
            }
            return Ok(newest);
        }
        self.until_numbered(newest + u64::try_from(count)?).await
    }

    /// One message after the other, each until the daemons acknowledge it.
    async fn until_acknowledged(&self, each: Duration) -> Result<Measured> {
        let mut measured = Measured::none();
        let Some(notices) = &self.notices else { return Ok(measured) };
        let (sealer, subject) = (self.sealer().await?, self.subject(How::Kept(1)));
        self.settle_kept().await?;
        let (begun, mut notices) = (Instant::now(), notices.lock().await);
        // One at least, however busy the machine is.
        while measured.count() == 0 || begun.elapsed() < each {
            let since = Instant::now();
            self.send(How::Kept(1), &sealer, &subject).await?;
            self.next_kept(&mut notices).await?;
            measured.note(since.elapsed());
        }
        Ok(measured)
    }

    /// One message after the other, each until the history shows it: as a sender does that is told nothing.
    async fn until_seen(&self, each: Duration) -> Result<Measured> {
        let mut measured = Measured::none();
        let (sealer, subject) = (self.sealer().await?, self.subject(How::Kept(1)));
        let mut newest = self.settle_kept().await?;
        let begun = Instant::now();
        while measured.count() == 0 || begun.elapsed() < each {
            let since = Instant::now();
            self.send(How::Kept(1), &sealer, &subject).await?;
            newest = self.until_numbered(newest + 1).await?;
            measured.note(since.elapsed());
        }
        Ok(measured)
    }

    /// Waits until the history has number `seq`, or a later one. Returns the newest number.
    async fn until_numbered(&self, seq: u64) -> Result<u64> {
        let deadline = Instant::now() + WAIT;
        loop {
            let newest = self.newest_kept().await?;
            if newest >= seq {
                return Ok(newest);
            }
            ensure!(Instant::now() < deadline, "of what was said number {newest} is kept, and not {seq}");
        }
    }

    /// Opens a history, each message in a frame of its own.
    async fn history(&self) -> Result<Measured> {
        let (sealer, subject) = (self.sealer().await?, self.subject(How::Said(1)));
        let at_ms = u64::try_from(clock::unix_ms()).unwrap_or_default();
        let frames: Vec<Vec<u8>> = (0..HISTORY)
            .map(|_| Ok(sealer.seal(&subject, MessageId::new(at_ms, random::bytes()?), &[TEXT])?))
            .collect::<Result<_>>()?;
        let mut measured = Measured::none();
        for _ in 0..OPENED {
            let (keyring, mut people) = self.keyring(self.crew.hand(1)?).await?;
            let mut reader = Reader::new(self.room.id.clone(), self.room.policy.into(), keyring);
            let (first, rest) = frames.split_first().context("no frames")?;
            let arrived = |frame, seq| Arrived { subject: &subject, frame, at_ms, source: Source::History { seq } };
            // The first one fetches the key and who is who; the rest is what is measured, and one more is nothing to it.
            reader.read(arrived(first, 1), &mut people).await??;
            let since = Instant::now();
            for (frame, seq) in rest.iter().zip(2..) {
                reader.read(arrived(frame, seq), &mut people).await??;
            }
            measured.note(since.elapsed());
        }
        Ok(measured)
    }
}

async fn read(
    mut messages: Subscriber,
    mut reader: Reader,
    mut people: People,
    listener: usize,
    heard: &Heard,
) -> Result<()> {
    while let Some(message) = messages.next().await {
        let at_ms = u64::try_from(clock::unix_ms()).unwrap_or_default();
        let arrived = Arrived { subject: &message.subject, frame: &message.payload, at_ms, source: Source::Live };
        if let Some(message) = reader.read(arrived, &mut people).await?? {
            heard.note(listener, message.contents.len());
        }
    }
    Ok(())
}
