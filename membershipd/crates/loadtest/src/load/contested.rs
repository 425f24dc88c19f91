//! A record that several clients change at once through different nodes, each by compare-and-set over the signed API.
//!
//! It is an invitation that nobody accepts: its role is what is written, its revision is the ETag, and to change it takes
//! nothing away from anybody, so that no fence makes the writers wait. Each writer is a user of its own, whom the record names:
//! no two of them ever write the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::api_user::{ApiUser, CHANGE};
use super::bench::Bench;
use super::dice::Dice;
use super::kinds::{Failure, Kind};
use super::room::RoomOfRun;
use unibus_client::api::{Changed, Member, Request};
use unibus_core::domain::{Author, Handle, RoomRole};

/// What is written: anything but what is there.
const ROLES: [RoomRole; 3] = [RoomRole::Reader, RoomRole::Member, RoomRole::Moderator];
/// Time for a read, and attempts at each when everything is over.
const READ: Duration = Duration::from_secs(2);
const LAST_READS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The workload.
pub(super) struct Contested {
    bench: Arc<Bench>,
    record: Arc<Contest>,
    writers: Vec<ApiUser>,
}

/// The record.
struct Contest {
    room: RoomOfRun,
    invited: Handle,
}

/// What a writer knows of it.
#[derive(Debug, Clone, Copy)]
struct Base {
    revision: u64,
    role: RoomRole,
}

/// One of those who write it.
struct Writer {
    bench: Arc<Bench>,
    record: Arc<Contest>,
    user: ApiUser,
    dice: Dice,
    base: Option<Base>,
}

impl Contested {
    /// Makes the room, lets all `writers` own it, and invites `invited`.
    pub(super) async fn begin(
        bench: Arc<Bench>,
        writers: Vec<ApiUser>,
        invited: Handle,
        within: Duration,
    ) -> Result<Self> {
        let room = RoomOfRun::new(&bench, "contested")?;
        room.fill(&bench, RoomOfRun::PASSING, &writers, RoomRole::Owner, within).await?;
        let record = Arc::new(Contest { room, invited });
        let contested = Self { bench, record, writers };
        let Some(mut writer) = contested.all_writers().next() else { bail!("nobody is there to write") };
        let deadline = Instant::now() + within;
        for node in 0.. {
            if writer.write(node, None).await {
                break;
            }
            if Instant::now() >= deadline {
                bail!("nobody could be invited within {} s", within.as_secs());
            }
            sleep(PAUSE).await;
        }
        Ok(contested)
    }

    fn all_writers(&self) -> impl Iterator<Item = Writer> + Clone {
        self.writers.iter().map(|user| Writer {
            bench: self.bench.clone(),
            record: self.record.clone(),
            user: user.clone(),
            dice: self.bench.dice(user.handle().as_str()),
            base: None,
        })
    }
}

impl Workload for Contested {
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let count = u32::try_from(self.writers.len()).unwrap_or(u32::MAX).max(1);
        let every = Duration::from_secs(1) * count / self.bench.orders.rates.contests.max(1);
        Box::pin(async move {
            join_all(self.all_writers().map(|writer| tokio::spawn(writer.work(every, stop.clone())))).await;
        })
    }

    /// From every node what it says, and over that a last write: what it replaces is what was there.
    fn look_back(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // A writer each, so that none waits for a node that does not answer another.
            let last = self.all_writers().cycle().take(self.bench.relays.len()).enumerate();
            join_all(last.map(|(node, mut writer)| async move {
                for attempt in 0..LAST_READS {
                    if attempt > 0 {
                        sleep(PAUSE).await;
                    }
                    if writer.read(&[node]).await && writer.overwrite(node).await {
                        return;
                    }
                }
            }))
            .await;
        })
    }
}

impl Writer {
    async fn work(mut self, every: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            // Sometimes two meet, and sometimes they do not.
            sleep(every / 100 * u32::try_from(self.dice.choose(100)).unwrap_or_default()).await;
            let nodes = self.bench.relays.len();
            let (read, write) = (self.dice.choose(nodes), self.dice.choose(nodes));
            // Read through one node and written through another. Without an answer the old base will do: compare-and-set
            // tells if it does not.
            self.read(&[read, read + 1]).await;
            self.overwrite(write).await;
        }
    }

    /// Reads the record through the first of `nodes` that answers.
    async fn read(&mut self, nodes: &[usize]) -> bool {
        let Contest { room, invited } = &*self.record;
        let request = Request::get(room.member(invited));
        let mut op = self.bench.history.begin(Kind::ApiRead).key(room.id.as_str());
        for node in nodes {
            let name = &self.bench.relay(*node).node;
            op.tries(name);
            match self.user.ask(*node, &request, READ).await.and_then(understood::<Member>) {
                Ok(member) => {
                    self.base = Some(Base { revision: member.revision, role: member.role });
                    op.ok_at(name, Some(content(member.role, &member.changed_by)), member.revision);
                    return true;
                }
                Err(failure) => op.failed(&failure),
            }
        }
        false
    }

    async fn overwrite(&mut self, node: usize) -> bool {
        match self.base {
            Some(base) => self.write(node, Some(base)).await,
            None => false,
        }
    }

    /// Writes another role over `base`; none: makes the record.
    async fn write(&mut self, node: usize, base: Option<Base>) -> bool {
        let Contest { room, invited } = &*self.record;
        let others: Vec<RoomRole> =
            ROLES.into_iter().filter(|role| base.is_none_or(|base| base.role != *role)).collect();
        let Some(role) = others.get(self.dice.choose(others.len())).copied() else { return false };
        let own = Author::User(self.user.handle().clone());
        let request = Request { if_match: base.map(|base| base.revision), ..room.invitation(invited, role) };
        let expected = base.map_or(0, |base| base.revision);
        let name = &self.bench.relay(node).node;
        let op = self.bench.history.begin(Kind::ApiWrite).key(room.id.as_str());
        let mut op = op.writes(&content(role, &own), expected);
        op.tries(name);
        // One attempt: a second one after a doubt could only find that the first one, or another writer, was there.
        match self.user.ask(node, &request, CHANGE).await.and_then(understood::<Changed<Member>>) {
            Ok(Changed { record, .. }) if (&record.changed_by, record.role) == (&own, role) => {
                self.base = Some(Base { revision: record.revision, role });
                op.ok_at(name, None, record.revision);
                true
            }
            // It was done, and the answer already tells of the next write: the revision of this one was not learned, and
            // that of the other is only known once it was read.
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
}

/// What the record holds, in words.
fn content(role: RoomRole, by: &Author) -> String {
    format!("{} by {by}", json!(role).as_str().unwrap_or_default())
}

fn understood<T: serde::de::DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| Failure::unknown(format!("an answer of another form: {error}")))
}
