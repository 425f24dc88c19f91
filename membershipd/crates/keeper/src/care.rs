//! What the node that appends to a shard does beside appending: it knows how much is kept of each room and sender, takes out what is
//! too much, and the messages of rooms that were removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::{DeliverPolicy, push};
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::task::AbortOnDropHandle;

use super::append::SENDER;
use super::read::AT;
use super::shard::Shard;
use super::streams;
use super::totals::{Minute, Totals};
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::{Handle, Keeping, Records, RoomId, RoomState};
use unibus_core::view::View;
use unibus_store::link::Link;

/// Header in which the engine says how large a message is whose content it leaves out.
const SIZE: &str = "Nats-Msg-Size";
/// Messages that are taken out at once.
const AT_ONCE: usize = 64;
/// Silence after which reading what is kept begins again.
const SILENCE: Duration = Duration::from_secs(5);
/// How often the account is compared with the engine's.
const COMPARE: Duration = Duration::from_secs(30);
/// The same after something that may have changed it.
const COMPARE_SOON: Duration = Duration::from_secs(3);
/// How often the store as a whole is looked at by a shard that has its part of it.
const STORE_LOOK: Duration = Duration::from_secs(10);
/// How often rooms are looked at in which nothing is said.
const LOOK: Duration = Duration::from_secs(10);
const DAY_S: i64 = 24 * 60 * 60;

/// The account of a shard, for as long as it falls to this node.
#[derive(Debug)]
pub(crate) struct Care {
    shard: Shard,
    totals: Totals,
    /// Reads what was kept before.
    reading: Option<AbortOnDropHandle<Result<Totals>>>,
    store_looked: Option<Instant>,
    /// When the account is to be compared with the engine's.
    compare_at: Instant,
    /// When all rooms were looked at last.
    looked: Option<Instant>,
}

impl Care {
    /// Begins to read what the shard keeps.
    pub(crate) fn begin(link: &Arc<Link>, shard: Shard) -> Self {
        let link = link.clone();
        let reading = AbortOnDropHandle::new(tokio::spawn(async move { read(&link, shard).await }));
        Self {
            shard,
            totals: Totals::default(),
            reading: Some(reading),
            store_looked: None,
            compare_at: Instant::now(),
            looked: None,
        }
    }

    /// Notes what was appended.
    pub(crate) fn add(&mut self, room: &RoomId, sender: &Handle, sequence: u64, frame: usize) {
        self.totals.add(room, Some(sender), sequence, frame, minute(clock::unix()));
    }

    /// Something else than an append of this keeper may have put messages into the shard: the account is compared soon.
    pub(crate) fn compare_soon(&mut self) {
        self.compare_at = self.compare_at.min(Instant::now() + COMPARE_SOON);
    }

    /// Whether as many messages of each room are kept as are counted. Others append, too: who carries in what an older stream or a copy
    /// has, and for a moment another node.
    async fn is_right(&mut self, link: &Link) -> bool {
        if Instant::now() < self.compare_at {
            return true;
        }
        self.compare_at = Instant::now() + COMPARE;
        match streams::rooms(link, self.shard).await {
            Ok(counted) => counted.rooms == self.totals.messages(),
            // Without a stream nothing is kept, and without an answer nothing is known to be wrong.
            Err(_) => true,
        }
    }

    /// Whether what was kept before is known.
    async fn knows(&mut self, link: &Arc<Link>) -> bool {
        if self.reading.as_ref().is_some_and(|reading| !reading.is_finished()) {
            return false;
        }
        let Some(reading) = self.reading.take() else { return true };
        match reading.await {
            Ok(Ok(read)) => {
                self.totals.merge(read);
                true
            }
            failed => {
                tracing::debug!(stream = self.shard.stream(), "reading how much is kept begins again: {failed:?}");
                *self = Self { totals: std::mem::take(&mut self.totals), ..Self::begin(link, self.shard) };
                false
            }
        }
    }

    /// Takes out what is too much, of the rooms that were `touched`, of all rooms now and then, of the store as a whole, and all of the
    /// rooms that are gone; `terms` says what is kept of a room.
    pub(crate) async fn tend(&mut self, link: &Arc<Link>, touched: &[RoomId], terms: impl Fn(&RoomId) -> Terms) {
        if !self.knows(link).await {
            return;
        }
        if !self.is_right(link).await {
            tracing::debug!(stream = self.shard.stream(), "others appended, too: how much is kept is counted again");
            *self = Self { compare_at: Instant::now() + COMPARE_SOON, ..Self::begin(link, self.shard) };
            return;
        }
        let removed: Vec<RoomId> = self.totals.rooms().filter(|room| terms(room) == Terms::Gone).cloned().collect();
        for room in removed {
            match streams::purge(link, &room, None).await {
                Ok(()) => self.totals.forget(&room),
                Err(asked) => tracing::warn!(%room, "the messages of a room that was removed are still kept: {asked}"),
            }
        }
        // Owners change their minds, and time goes on, where nothing is said.
        let all: Vec<RoomId> = if self.is_due() { self.totals.rooms().cloned().collect() } else { Vec::new() };
        for room in touched.iter().chain(&all) {
            let Terms::Keeps(keeping) = terms(room) else { continue };
            if is_too_much(self.totals.of(room), keeping) {
                let sequences = self.totals.make_way(room, keeping.bytes);
                self.take_out(link, room, sequences).await;
            }
        }
        for room in &all {
            if let Terms::Keeps(Keeping { days: Some(days), .. }) = terms(room) {
                self.take_out_old(link, room, days).await;
            }
        }
        self.tend_store(link).await;
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// Takes out what is older than `days`, by the clock of this node and by that of the node that leads the shard: so a clock that is
    /// ahead takes nothing out.
    async fn take_out_old(&mut self, link: &Arc<Link>, room: &RoomId, days: u32) {
        if self.totals.outdated(room, oldest(days, &[clock::unix()])).is_none() {
            return;
        }
        let told = match streams::now(link, self.shard).await {
            Ok(told) => told,
            Err(asked) => return tracing::debug!(%room, "what is too old stays for now: {asked}"),
        };
        let Some(end) = self.totals.outdated(room, oldest(days, &[clock::unix(), told])) else { return };
        match streams::purge(link, room, Some(end)).await {
            Ok(()) => self.totals.forget_before(room, end),
            Err(asked) => tracing::warn!(%room, "what is too old is still kept: {asked}"),
        }
    }

    /// Where the store is nearly full, the largest room of a shard that has more than its part makes way.
    async fn tend_store(&mut self, link: &Arc<Link>) {
        let part = nearly(bus::HISTORY_BYTES / u64::from(bus::SHARDS));
        let now = Instant::now();
        let lately = |at: Instant| now.saturating_duration_since(at) < STORE_LOOK;
        if self.totals.above(part).is_none() || self.store_looked.is_some_and(lately) {
            return;
        }
        self.store_looked = Some(now);
        if !streams::bytes(link).await.is_ok_and(|bytes| bytes > nearly(bus::HISTORY_BYTES)) {
            return;
        }
        let Some((room, most)) = self.totals.above(part).map(|(room, most)| (room.clone(), most)) else { return };
        tracing::warn!(%room, most, "the store is nearly full: the largest room makes way");
        let sequences = self.totals.make_way(&room, most);
        self.take_out(link, &room, sequences).await;
    }

    async fn take_out(&mut self, link: &Arc<Link>, room: &RoomId, sequences: Vec<u64>) {
        let shard = self.shard;
        let taking = stream::iter(sequences).map(|sequence| streams::delete(link, shard, sequence));
        if let Err(asked) = taking.buffer_unordered(AT_ONCE).try_collect::<()>().await {
            tracing::warn!(%room, "not all that is too much was taken out; it is counted again: {asked}");
            *self = Self::begin(link, shard);
        }
    }
}

/// What is kept of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terms {
    /// Nothing: it was removed.
    Gone,
    /// So much.
    Keeps(Keeping),
}

impl Terms {
    /// By the record of the room, where the server has `server`; a room that the view does not know may be one that is still to come.
    pub(crate) fn of(room: &RoomId, view: &View, server: Keeping) -> Self {
        match view.room(room) {
            Some(room) if room.state == RoomState::Removed => Self::Gone,
            Some(room) => Self::Keeps(server.with(room.keep)),
            None => Self::Keeps(server),
        }
    }
}

/// What counts as nearly all of `bytes`.
fn nearly(bytes: u64) -> u64 {
    bytes / 10 * 9
}

/// Whether a room that has `bytes` has so much more than it may that its oldest make way: a tenth, so that it is not done for each.
fn is_too_much(bytes: u64, keeping: Keeping) -> bool {
    bytes > keeping.bytes / 10 * 11
}

/// The oldest minute that is kept for `days`, by the `clocks`, in seconds since 1970: by the slowest of them, so that one that is
/// ahead takes nothing out.
fn oldest(days: u32, clocks: &[i64]) -> Minute {
    minute(clocks.iter().min().map_or(0, |now| now - i64::from(days) * DAY_S))
}

/// The minute of a time in seconds since 1970.
fn minute(unix: i64) -> Minute {
    Minute::try_from(unix / 60).unwrap_or_default()
}

/// How much a shard keeps, by the headers of all its messages.
async fn read(link: &Link, shard: Shard) -> Result<Totals> {
    let mut totals = Totals::default();
    let Ok(stream) = link.jetstream.get_stream(shard.stream()).await else { return Ok(totals) };
    if stream.cached_info().state.messages == 0 {
        return Ok(totals);
    }
    let config = push::OrderedConfig {
        deliver_subject: link.control.new_inbox(),
        deliver_policy: DeliverPolicy::All,
        headers_only: true,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.context("cannot read what is kept")?;
    let mut messages = consumer.messages().await.context("cannot read what is kept")?;
    loop {
        let message = tokio::time::timeout(SILENCE, messages.next()).await.context("nothing arrives")?;
        let message = message.context("reading ended")??;
        let info = message.info().map_err(|error| anyhow::anyhow!("a message without its place: {error}"))?;
        let header = |name: &str| message.headers.as_ref()?.get_last(name).map(|value| value.as_str());
        let sender = header(SENDER).and_then(|sender| sender.parse::<Handle>().ok());
        let size = header(SIZE).and_then(|size| size.parse().ok());
        if let (Some(room), Some(size)) = (shard.room(&message.subject), size) {
            // What was carried in says itself when it was said.
            let carried = header(AT).and_then(|at| at.parse::<i64>().ok()).map(|at_ms| at_ms / 1000);
            let at = minute(carried.unwrap_or_else(|| info.published.unix_timestamp()));
            totals.add(&room, sender.as_ref(), info.stream_sequence, size, at);
        }
        if info.pending == 0 {
            return Ok(totals);
        }
    }
}

#[cfg(test)]
mod tests {
    use unibus_core::domain::{FeatureLevel, Keep, LevelRecord, Policy, Record, Room};
    use unibus_core::view::fixtures::{Entry, room};

    use super::*;

    #[test]
    fn a_clock_that_is_ahead_takes_nothing_out() {
        let (now, day) = (1_700_000_000, DAY_S);
        assert_eq!(oldest(2, &[now]), minute(now - 2 * day));
        for clocks in [[now, now + 9 * day], [now + 9 * day, now]] {
            assert_eq!(oldest(2, &clocks), minute(now - 2 * day), "{clocks:?}");
        }
        assert_eq!([oldest(u32::MAX, &[now]), oldest(1, &[])], [0, 0]);
    }

    #[test]
    fn a_room_may_have_a_tenth_more_than_its_limit_before_its_oldest_make_way() {
        let keeping = Keeping { bytes: 1000, days: None };
        assert_eq!([1000, 1100, 1101].map(|bytes| is_too_much(bytes, keeping)), [false, false, true]);
    }

    #[test]
    fn what_is_kept_of_a_room_its_record_says() {
        let server = Keeping { bytes: 10 << 20, days: Some(30) };
        let id: RoomId = "kitchen".parse().unwrap();
        let of = |kitchen: Option<Room>| {
            FeatureLevel::Kept.assume_highest();
            let level = Entry::of(&Record::Level(LevelRecord::new(FeatureLevel::Kept)));
            let mut view = View::default();
            for (entry, revision) in
                [level].into_iter().chain(kitchen.map(|room| Entry::of(&Record::Room(room)))).zip(1..)
            {
                view.apply(entry.bucket, &entry.key, &entry.value, revision).unwrap();
            }
            Terms::of(&id, &view, server)
        };
        assert_eq!(of(None), Terms::Keeps(server), "its record may be on its way");
        let kitchen = || room("kitchen", "room.kitchen", Policy::CONVERSATION);
        assert_eq!(of(Some(kitchen())), Terms::Keeps(server));
        let mut chosen = kitchen();
        chosen.keep = Keep { bytes: Some(5 << 20), days: Some(7) };
        assert_eq!(of(Some(chosen)), Terms::Keeps(Keeping { bytes: 5 << 20, days: Some(7) }));
        assert_eq!(of(Some(kitchen().removed("alice".parse().unwrap()))), Terms::Gone);
    }
}
