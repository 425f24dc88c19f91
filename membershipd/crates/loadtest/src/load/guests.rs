//! Guests: members who are removed from a room while they use it. After the acknowledgement they try on, on connections that
//! stood and on new ones, through every node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::api_user::ApiUser;
use super::awaited::Awaited;
use super::bench::Bench;
use super::bus_user::BusUser;
use super::kinds::{Failure, Kind};
use super::room::RoomOfRun;
use unibus_client::api::Request;

/// How long a guest is a member, and how long he tries in vain afterwards.
const BEFORE: Duration = Duration::from_secs(2);
const AFTERWARDS: Duration = Duration::from_secs(4);
/// Several such workloads begin so far apart, so that somebody is removed every now and then.
const APART: Duration = Duration::from_secs(2);
/// Time for a message to arrive, and for a node to say who is in the room.
const ARRIVAL: Duration = Duration::from_secs(1);
const READ: Duration = Duration::from_secs(2);
/// Attempts at making a room and at joining it, each through two nodes; then the next room is tried.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// Tries that are under way at once; at the usual rate that is more than all time-outs together need.
const AT_ONCE: usize = 64;

/// The workload: one room after the other, each with a guest who has to go.
pub(super) struct Guests {
    bench: Arc<Bench>,
    host: ApiUser,
    guest: ApiUser,
    /// Which of several such workloads it is.
    lane: usize,
}

/// One room and its guest.
struct Visit {
    bench: Arc<Bench>,
    host: ApiUser,
    guest: ApiUser,
    room: RoomOfRun,
    key: String,
    awaited: Awaited,
    /// The host's connection, which hears what the guest says.
    host_line: Line,
    /// The guest's connections, one to each node, as far as they are made.
    lines: Vec<Mutex<Option<Arc<Line>>>>,
    ears: AtomicU64,
    /// Cancelled when the removal was acknowledged.
    removed: CancellationToken,
}

/// A connection that listens to its own part of the room.
struct Line {
    client: Client,
    /// Number of the part.
    ear: u64,
    _listening: JoinSet<()>,
}

impl Line {
    async fn open(
        client: Client,
        user: &BusUser,
        room: &RoomOfRun,
        ear: u64,
        awaited: Awaited,
    ) -> Result<Self, Failure> {
        let subject = format!("{}.{ear}.*", room.subject);
        let mut messages =
            client.subscribe(subject).await.map_err(|error| Failure::certain(format!("cannot listen: {error}")))?;
        let mut listening = JoinSet::new();
        let hearing = client.clone();
        listening.spawn(async move {
            while let Some(message) = messages.next().await {
                if let Some(Ok(number)) = message.subject.rsplit('.').next().map(str::parse) {
                    awaited.arrived(number, hearing.server_info().server_name);
                }
            }
        });
        // What is sent before the engine knows who listens is lost.
        if !user.is_served(&client).await {
            return Err(Failure::unknown("it is not known who listens"));
        }
        Ok(Self { client, ear, _listening: listening })
    }
}

impl Guests {
    /// Visits of `guest` to rooms of `host`.
    pub(super) fn new(bench: Arc<Bench>, host: ApiUser, guest: ApiUser, lane: usize) -> Self {
        Self { bench, host, guest, lane }
    }

    async fn one(&self, number: usize, stop: &CancellationToken) {
        let begun = tokio::select! {
            begun = self.begin(number) => begun,
            () = stop.cancelled() => return,
        };
        let Some(visit) = begun.map(Arc::new) else { return sleep(PAUSE).await };
        let over = CancellationToken::new();
        let trying = tokio::spawn(visit.clone().use_it(self.lane, over.clone()));
        tokio::select! {
            () = visit.fate(number + self.lane) => {}
            () = stop.cancelled() => {}
        }
        // Also where the run ends in the middle of it: nothing may be left under way.
        over.cancel();
        let _ = trying.await;
    }

    /// A room with its guest in it; none where no node made one.
    async fn begin(&self, number: usize) -> Option<Visit> {
        let room = RoomOfRun::new(&self.bench, &format!("{}-{number}", self.lane)).ok()?;
        let (bench, host, guest) = (&self.bench, &self.host, &self.guest);
        bench.will_remove(&room, host);
        let mut made = None;
        for attempt in 0..ATTEMPTS {
            made = room.make(bench, host, number + attempt).await;
            if made.is_some() {
                break;
            }
            sleep(PAUSE).await;
        }
        // The node that made it knows of it; others may a moment later.
        let first = made?;
        let client = host.bus.connection(first).await.ok()?;
        let awaited = Awaited::default();
        let host_line = Line::open(client, &host.bus, &room, 0, awaited.clone()).await.ok()?;
        for attempt in 0..ATTEMPTS {
            if room.join(bench, host, guest, first + attempt).await.is_some() {
                let key = room.key(guest.handle());
                let lines = bench.relays.iter().map(|_| Mutex::default()).collect();
                return Some(Visit {
                    bench: bench.clone(),
                    host: host.clone(),
                    guest: guest.clone(),
                    room,
                    key,
                    awaited,
                    host_line,
                    lines,
                    ears: AtomicU64::new(1),
                    removed: CancellationToken::new(),
                });
            }
            sleep(PAUSE).await;
        }
        None
    }
}

impl Workload for Guests {
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let first = APART.saturating_mul(u32::try_from(self.lane).unwrap_or(u32::MAX));
            tokio::select! {
                () = sleep(first) => {}
                () = stop.cancelled() => return,
            }
            for number in 1.. {
                if stop.is_cancelled() {
                    return;
                }
                self.one(number, &stop).await;
            }
        })
    }
}

impl Visit {
    /// What happens to the guest while he goes about his business.
    async fn fate(&self, number: usize) {
        sleep(BEFORE).await;
        let mut first = number;
        while self.room.remove(&self.bench, &self.host, self.guest.handle(), first).await.is_none() {
            first += 1;
            sleep(PAUSE).await;
        }
        self.removed.cancel();
        sleep(AFTERWARDS).await;
    }

    /// Tries everything through one node after the other.
    async fn use_it(self: Arc<Self>, first: usize, over: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / self.bench.orders.rates.guests.max(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        for turn in first.. {
            tokio::select! {
                _ = tick.tick() => {}
                () = over.cancelled() => break,
            }
            while under_way.try_join_next().is_some() {}
            if under_way.len() < AT_ONCE {
                under_way.spawn(self.clone().try_all(turn % self.lines.len().max(1)));
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn try_all(self: Arc<Self>, node: usize) {
        let removed = self.removed.is_cancelled();
        let known = self.read(node).await;
        if let Some(line) = self.line(node, known).await {
            self.talk(&line).await;
        }
        if removed && let Ok(line) = self.new_line(node).await {
            self.talk(&line).await;
        }
    }

    /// Who is in the room, asked as the guest.
    async fn read(&self, node: usize) -> bool {
        let mut op = self.bench.history.begin(Kind::MemberRead).key(self.key.as_str());
        let name = &self.bench.relay(node).node;
        op.tries(name);
        match self.guest.ask(node, &Request::get(format!("{}/members", self.room.path())), READ).await {
            Ok(_) => {
                op.ok(name);
                true
            }
            Err(failure) => {
                op.failed(&failure);
                false
            }
        }
    }

    /// The guest's lasting connection to a node. It is made once the node knows that he is in the room: rights are those that
    /// were there when it was made.
    async fn line(&self, node: usize, known: bool) -> Option<Arc<Line>> {
        let mut line = self.lines.get(node)?.lock().await;
        let stands = line.as_ref().is_some_and(|line| line.client.connection_state() == State::Connected);
        if !stands && known && !self.removed.is_cancelled() {
            *line = self.new_line(node).await.ok().map(Arc::new);
        }
        line.clone()
    }

    async fn new_line(&self, node: usize) -> Result<Line, Failure> {
        let client = self.guest.bus.connect(node).await?;
        let ear = self.ears.fetch_add(1, Ordering::Relaxed);
        Line::open(client, &self.guest.bus, &self.room, ear, self.awaited.clone()).await
    }

    /// In both directions.
    async fn talk(&self, line: &Line) {
        let says = self.send(Kind::MemberPublish, line, &self.host_line, line);
        let hears = self.send(Kind::MemberReceive, &self.host_line, line, line);
        futures::join!(says, hears);
    }

    /// A message in the room, acknowledged when it has arrived. `guest` is whose right it shows.
    async fn send(&self, kind: Kind, from: &Line, to: &Line, guest: &Line) {
        let mut op = self.bench.history.begin(kind).key(self.key.as_str());
        let node = guest.client.server_info().server_name;
        op.tries(&node);
        let number = op.number();
        let arrival = self.awaited.begin(number);
        let sent = async {
            let subject = format!("{}.{}.{number}", self.room.subject, to.ear);
            from.client.publish(subject, "".into()).await.map_err(|error| Failure::certain(error.to_string()))?;
            arrival.await.map_err(|_| Failure::unknown("nobody listens"))
        };
        match tokio::time::timeout(ARRIVAL, sent).await {
            Ok(Ok(_)) => return op.ok(&node),
            Ok(Err(failure)) => op.failed(&failure),
            Err(_) => op.failed(&Failure::unknown("it did not arrive in time")),
        }
        self.awaited.forget(number);
    }
}
