//! Reading pages while others write.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::crowd::{Crowd, Made};
use super::saying::Speaker;
use unibus_client::api::{Request, room_path};

/// Who reads at once, one page after the other.
const READERS: usize = 4;
/// Who writes meanwhile, each one message after the other.
const WRITERS: usize = 8;
/// Messages of a page, as many as a screen shows.
const PAGE: usize = 40;
/// Pause of a reader, so that no user asks more than the API takes from one.
const PAUSE: Duration = Duration::from_millis(20);

/// The last page of a room.
pub(super) fn last_page(room: &Made) -> Request {
    Request::get(format!("{}/history?limit={PAGE}", room_path(&room.id)))
}

pub(super) async fn read(crowd: &Crowd, time: Duration) -> Result<Value> {
    let (over, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let deadline = Instant::now() + time;
    let readers = try_join_all((0..READERS).map(|reader| {
        let over = &over;
        async move {
            let mut took = Vec::new();
            // No two readers read as the same user.
            let mut next = reader;
            while Instant::now() < deadline {
                let Some(room) = crowd.rooms.get(next % crowd.rooms.len().max(1)) else { break };
                let began = Instant::now();
                crowd.api(room.user, next)?.ask(&last_page(room)).await?;
                took.push(began.elapsed());
                // All rooms have their turn, in no order that a copy could foresee.
                next += READERS * 61;
                tokio::time::sleep(PAUSE).await;
            }
            over.store(true, Ordering::Relaxed);
            anyhow::Ok(took)
        }
    }));
    let writers = try_join_all((0..WRITERS.min(crowd.users.len())).map(|user| {
        let (over, written) = (&over, &written);
        async move {
            let mut speaker = Speaker::connect(crowd, user).await?;
            let rooms = crowd.rooms_of(user);
            for room in rooms.iter().cycle() {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                speaker.publish(room).await?;
                speaker.wait(0).await?;
                written.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    }));
    let (took, _) = futures::try_join!(readers, writers)?;
    let mut took: Vec<Duration> = took.into_iter().flatten().collect();
    took.sort_unstable();
    let at = |percent: usize| {
        let place = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(place).map(|took| took.as_secs_f64() * 1e3)
    };
    let written = written.load(Ordering::Relaxed);
    Ok(json!({ "pages": took.len(), "p50_ms": at(50), "p99_ms": at(99), "written": written }))
}
