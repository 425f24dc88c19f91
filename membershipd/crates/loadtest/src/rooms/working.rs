//! Members at their usual work: they read, change their rooms and speak, each at a given pace, and what came of it is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::{ConnectOptions, Event};
use futures::future::{try_join_all, try_join3};
use serde_json::{Value, json};

use super::crowd::{Crowd, Made};
use super::reading::last_page;
use super::saying::Speaker;
use unibus_client::api::{Request, room_path};

/// Members who do each kind of thing.
const MEMBERS: usize = 6;

/// What was done of one kind.
#[derive(Default)]
struct Done {
    count: AtomicUsize,
    failed: AtomicUsize,
    longest_ms: AtomicU64,
}

impl Done {
    fn note(&self, began: Instant, outcome: &Result<()>) {
        let counter = if outcome.is_ok() { &self.count } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.longest_ms.fetch_max(took, Ordering::Relaxed);
    }

    fn told(&self, time: Duration) -> Value {
        let count = self.count.load(Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let rate = count as f64 / time.as_secs_f64();
        let (failed, longest) = (self.failed.load(Ordering::Relaxed), self.longest_ms.load(Ordering::Relaxed));
        json!({ "rate": rate, "failed": failed, "longest_ms": longest })
    }
}

/// Has the members work for so long, each beginning something every `pace` where nothing holds it up. An operation that fails is
/// counted, and work goes on.
pub(super) async fn work(crowd: &Crowd, time: Duration, pace: Duration) -> Result<Value> {
    let end = Instant::now() + time;
    let [reads, writes, said] = [(); 3].map(|()| Arc::new(Done::default()));
    let cut = Arc::new(AtomicUsize::new(0));
    let each = |member: usize| crowd.rooms_of(member).into_iter().next().context("a member without a room");
    let reading = try_join_all((0..MEMBERS).map(|member| {
        let reads = &reads;
        async move {
            let room = each(member)?;
            let mut node = member;
            paced((end, pace), reads, async || {
                node += 1;
                crowd.api(member, node)?.ask(&last_page(&room)).await?;
                Ok(())
            })
            .await
        }
    }));
    let changing = try_join_all((MEMBERS..2 * MEMBERS).map(|member| {
        let writes = &writes;
        async move {
            let room = each(member)?;
            let mut round = member;
            paced((end, pace), writes, async || {
                round += 1;
                change(crowd, &room, round).await
            })
            .await
        }
    }));
    let speaking = try_join_all((2 * MEMBERS..3 * MEMBERS).map(|member| {
        let (said, cut) = (&said, &cut);
        async move {
            let room = each(member)?;
            let mut speaker = Speaker::connect_with(crowd, member, |options| counted(options, cut)).await?;
            paced((end, pace), said, async || {
                speaker.publish(&room).await?;
                speaker.wait(0).await
            })
            .await?;
            Ok(speaker)
        }
    }));
    let (_, _, speakers) = try_join3(reading, changing, speaking).await?;
    // Their own end is no interruption.
    let cut = cut.load(Ordering::Relaxed);
    drop(speakers);
    Ok(json!({ "reads": reads.told(time), "writes": writes.told(time), "said": said.told(time), "cut": cut }))
}

/// A connection whose interruptions are counted.
fn counted(options: ConnectOptions, cut: &Arc<AtomicUsize>) -> ConnectOptions {
    let cut = cut.clone();
    options.event_callback(move |event| {
        if matches!(event, Event::Disconnected | Event::Closed) {
            cut.fetch_add(1, Ordering::Relaxed);
        }
        std::future::ready(())
    })
}

/// Repeats `one` until `end`, every `pace` and never twice at once.
async fn paced((end, pace): (Instant, Duration), done: &Done, mut one: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    while Instant::now() < end {
        let began = Instant::now();
        let outcome = one().await;
        done.note(began, &outcome);
        if let Err(error) = outcome {
            tracing::debug!("an operation failed: {error:#}");
        }
        tokio::time::sleep(pace.saturating_sub(began.elapsed())).await;
    }
    Ok(())
}

/// Changes how long a room keeps what is said, to something else each time.
async fn change(crowd: &Crowd, room: &Made, round: usize) -> Result<()> {
    let api = crowd.api(room.user, round)?;
    let path = room_path(&room.id);
    let now = api.ask(&Request::get(path.clone())).await?;
    let revision = now.get("revision").and_then(Value::as_u64).context("a room without a revision")?;
    let days = 1 + round % 365;
    api.ask(&Request::patch(path, json!({ "keep": { "days": days } }), revision)).await?;
    Ok(())
}
