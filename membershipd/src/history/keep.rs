//! The streams of all rooms, brought into line: after every change of a room, and now and then, by one node.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};

use super::Histories;
use super::streams::{self, Asked};
use super::wanted::{Wanted, plan};
use unibus_core::domain::RoomId;
use unibus_store::link::Link;

/// Pause between two looks at the view, so that a burst of changes is one look.
const PAUSE: Duration = Duration::from_millis(250);
/// How often everything is compared, whatever the view says.
const COMPARE: Duration = Duration::from_secs(60);
/// Pause after something failed; doubled up to the other.
const RETRY_LEAST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);
/// Streams that are asked about at once.
const AT_ONCE: usize = 16;

impl Histories {
    /// Sees to the streams for as long as the session lasts, whenever `speaks` says that this node does and it has a lease.
    pub async fn keep(&self, link: &Link, speaks: impl Fn(Instant) -> bool) -> Infallible {
        let mut moved = self.gate.moves();
        // What was brought into line, and for what it was.
        let mut settled = BTreeMap::new();
        let mut compare_at = Instant::now();
        let mut retry = RETRY_LEAST;
        loop {
            tokio::time::sleep(PAUSE).await;
            // The sender lives as long as we do; heartbeats move the view every second.
            let _ = tokio::time::timeout(COMPARE, moved.changed()).await;
            let now = Instant::now();
            if !speaks(now) || !self.gate.lease_valid(now) {
                settled.clear();
                compare_at = now;
                continue;
            }
            let mut wanted = self.gate.view(Wanted::all);
            // Nothing but its removal helps one that is damaged before it is mended, and it must not hold up the others.
            let seen = self.seen.rooms();
            wanted.retain(|room, of| *of == Wanted::Gone || !seen.is_damaged(room));
            let all = now >= compare_at;
            let changed = |room: &RoomId| all || settled.get(room) != wanted.get(room);
            let concerned: BTreeMap<RoomId, Wanted> =
                wanted.iter().filter(|(room, _)| changed(room)).map(|(room, of)| (room.clone(), of.clone())).collect();
            if concerned.is_empty() {
                continue;
            }
            let failed = match self.bring_into_line(link, &concerned, all).await {
                Ok(failed) => failed,
                Err(asked) => {
                    tracing::warn!("the streams of rooms cannot be seen to: {asked}");
                    concerned.keys().cloned().collect()
                }
            };
            settled = wanted;
            settled.retain(|room, _| !failed.contains(room));
            if failed.is_empty() {
                retry = RETRY_LEAST;
                compare_at = if all { Instant::now() + COMPARE } else { compare_at };
            } else {
                // Whatever was in the way may be another room's stream.
                compare_at = Instant::now();
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_MOST);
            }
        }
    }

    /// Does what is to be done about `wanted`; with `all`, that is everything that there is. Says for which rooms it failed.
    async fn bring_into_line(
        &self,
        link: &Link,
        wanted: &BTreeMap<RoomId, Wanted>,
        all: bool,
    ) -> Result<Vec<RoomId>, Asked> {
        let seen = self.seen.rooms();
        let sees_to = |room: &RoomId| wanted.contains_key(room) || !seen.is_damaged(room);
        let rooms = if all { streams::rooms(link).await? } else { wanted.keys().cloned().collect() };
        let rooms: Vec<RoomId> = rooms.into_iter().filter(sees_to).collect();
        let look = |room: RoomId| async move {
            let stream = streams::find(link, &room).await;
            (room, stream)
        };
        let mut looks = stream::iter(rooms).map(look).buffer_unordered(AT_ONCE);
        let (mut streams, mut failed) = (BTreeMap::new(), Vec::new());
        while let Some((room, stream)) = looks.next().await {
            match stream {
                Ok(Some(stream)) => drop(streams.insert(room, stream)),
                Ok(None) => {}
                Err(asked) => {
                    tracing::warn!(%room, "the stream of a room cannot be seen to: {asked}");
                    failed.push(room);
                }
            }
        }
        let known = |room: &RoomId| !failed.contains(room);
        let wanted =
            wanted.iter().filter(|(room, _)| known(room)).map(|(room, of)| (room.clone(), of.clone())).collect();
        let found = streams.iter().map(|(room, stream)| (room.clone(), stream.found.clone())).collect();
        for action in plan(&wanted, &found) {
            let room = action.room();
            match self.carry_out(link, &action).await {
                Ok(()) => tracing::info!(%room, "the stream of a room was brought into line"),
                Err(asked) => {
                    tracing::warn!(%room, "the stream of a room was not brought into line: {asked}");
                    failed.push(room.clone());
                }
            }
        }
        Ok(failed)
    }
}
