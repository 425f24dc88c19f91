//! Watching a bucket: every entry once, in order, resumed without a gap.
//!
//! The library's ordered consumer notices a dead server after ten seconds, which is most of a lease. This one is made anew
//! as soon as the heartbeats, which every node writes each second, stop arriving.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::message::Message;
use futures::StreamExt;

use crate::bus::Bucket;
use crate::link::Link;

/// Silence after which the watch is made anew: our own heartbeat has been missing twice.
const SILENCE: Duration = Duration::from_millis(2000);
/// Time after which the engine forgets a watch that nobody listens to.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Pause before the next attempt, so that a failing engine is not flooded with consumers.
const BACK_OFF: Duration = Duration::from_millis(250);

/// The last revision of a bucket that was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Reads all that is in `bucket` now, oldest first, into `apply(key, value, revision)`.
pub async fn load(
    link: &Link,
    bucket: Bucket,
    mut apply: impl FnMut(&str, &[u8], u64) -> Result<()>,
) -> Result<Position> {
    let (mut messages, pending) = open(link, bucket, Position::default()).await?;
    let mut position = Position::default();
    if pending == 0 {
        return Ok(position);
    }
    loop {
        let message = messages.next().await?;
        position = Position(message.revision);
        apply(&message.key, &message.inner.payload, message.revision)?;
        if message.pending == 0 {
            return Ok(position);
        }
    }
}

/// Follows `bucket` from after `position` for as long as the link lives. Ends with an error only where `apply` does.
pub async fn follow(
    link: &Link,
    bucket: Bucket,
    mut position: Position,
    mut apply: impl FnMut(&str, &[u8], u64) -> Result<()>,
) -> Result<()> {
    loop {
        match open(link, bucket, position).await {
            Ok((mut messages, _)) => loop {
                match messages.next().await {
                    Ok(message) => {
                        apply(&message.key, &message.inner.payload, message.revision)?;
                        position = Position(message.revision);
                    }
                    Err(error) => {
                        tracing::debug!(bucket = bucket.name(), "watching anew: {error:#}");
                        break;
                    }
                }
            },
            Err(error) => tracing::debug!(bucket = bucket.name(), "cannot watch yet: {error:#}"),
        }
        tokio::time::sleep(BACK_OFF).await;
    }
}

struct Entry {
    key: String,
    revision: u64,
    pending: u64,
    inner: Message,
}

struct Watch {
    messages: push::Messages,
    bucket: Bucket,
    delivered: u64,
}

impl Watch {
    async fn next(&mut self) -> Result<Entry> {
        let next = tokio::time::timeout(SILENCE, self.messages.next()).await.context("nothing arrives")?;
        let inner = next.context("the watch ended")?.context("the watch broke")?;
        let info = inner.info().map_err(|error| anyhow::anyhow!("an entry without its position: {error}"))?;
        self.delivered += 1;
        ensure!(info.consumer_sequence == self.delivered, "an entry was lost on the way");
        let (revision, pending) = (info.stream_sequence, info.pending);
        let key = inner.subject.strip_prefix(&self.bucket.key_prefix()).context("an entry of another bucket")?;
        Ok(Entry { key: key.to_owned(), revision, pending, inner })
    }
}

async fn open(link: &Link, bucket: Bucket, after: Position) -> Result<(Watch, u64)> {
    let config = push::Config {
        deliver_subject: link.control.new_inbox(),
        deliver_policy: match after {
            Position(0) => DeliverPolicy::All,
            Position(seen) => DeliverPolicy::ByStartSequence { start_sequence: seen + 1 },
        },
        ack_policy: AckPolicy::None,
        replay_policy: ReplayPolicy::Instant,
        memory_storage: true,
        num_replicas: 1,
        flow_control: true,
        idle_heartbeat: SILENCE,
        inactive_threshold: FORGOTTEN,
        ..Default::default()
    };
    let mut consumer = link
        .jetstream
        .create_consumer_on_stream(config, bucket.stream())
        .await
        .with_context(|| format!("cannot watch {}", bucket.name()))?;
    let pending = consumer.info().await.context("cannot ask about the watch")?.num_pending;
    let messages = consumer.messages().await.context("cannot listen to the watch")?;
    Ok((Watch { messages, bucket, delivered: 0 }, pending))
}
