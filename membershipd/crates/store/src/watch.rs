//! Watching a bucket: every entry once, in order, resumed without a gap.
//!
//! The library's ordered consumer notices a dead server after ten seconds, which is most of a lease. This one is made anew
//! as soon as the heartbeats, which every node writes each second, stop arriving.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::message::Message;
use async_nats::{StatusCode, Subscriber};
use futures::StreamExt;

use crate::link::Link;
use unibus_core::bus::Bucket;

/// Silence after which the watch is made anew: our own heartbeat has been missing twice.
const SILENCE: Duration = Duration::from_millis(2000);
/// Interval at which the engine says, where there is nothing else to say, how far it has delivered.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Silence, its signs of life included, after which the engine counts as gone: three of them have been missing.
const GONE: Duration = Duration::from_millis(3500);
/// Where those signs carry the number of entries delivered so far (nats-server `server/jetstream_api.go`, JSLastConsumerSeq).
const LAST_DELIVERED: &str = "Nats-Last-Consumer";
/// Where those signs say that the engine still waits for the answer to a question of its flow control.
const STALLED: &str = "Nats-Consumer-Stalled";
/// Time after which the engine forgets a watch that nobody listens to.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Pause before the next attempt, so that a failing engine is not flooded with consumers.
const BACK_OFF: Duration = Duration::from_millis(250);

/// The last revision of a bucket that was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// Reads all that is in `bucket` now, oldest first, into `apply(key, value, revision)`.
pub(super) async fn load(
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
        let message = messages.next_within(SILENCE).await?;
        position = Position(message.revision);
        apply(&message.key, &message.inner.payload, message.revision)?;
        if message.pending == 0 {
            return Ok(position);
        }
    }
}

/// An entry that a watch has come to.
#[derive(Debug, Clone, Copy)]
pub struct Delivered<'a> {
    /// Its key.
    pub key: &'a str,
    /// Its value.
    pub value: &'a [u8],
    /// Its revision.
    pub revision: u64,
    /// Whether it was the last one that the bucket had then. Everything before it has been delivered or was replaced by
    /// something that has.
    pub last: bool,
}

/// Follows `bucket` from after `position` for as long as the link lives. Ends with an error only where `apply` does.
pub(super) async fn follow(
    link: &Link,
    bucket: Bucket,
    mut position: Position,
    mut apply: impl FnMut(Delivered<'_>) -> Result<()>,
) -> Result<()> {
    loop {
        match open(link, bucket, position).await {
            Ok((mut messages, _)) => loop {
                match messages.next_within(SILENCE).await {
                    Ok(message) => {
                        let (revision, last) = (message.revision, message.pending == 0);
                        apply(Delivered { key: &message.key, value: &message.inner.payload, revision, last })?;
                        position = Position(revision);
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

/// An entry as it was delivered.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) revision: u64,
    /// Entries of the bucket that are still to be delivered.
    pub(super) pending: u64,
    pub(super) inner: Message,
}

/// A bucket being watched. After an error it has to be opened anew.
pub(super) struct Watch {
    messages: Subscriber,
    client: async_nats::Client,
    jetstream: async_nats::jetstream::Context,
    bucket: Bucket,
    delivered: u64,
}

impl Watch {
    /// The next entry, or an error where none comes in time.
    async fn next_within(&mut self, time: Duration) -> Result<Entry> {
        tokio::time::timeout(time, self.next()).await.context("nothing arrives")?
    }

    /// The next entry, however long it takes. Fails where an entry was lost on the way, or the engine is gone.
    pub(super) async fn next(&mut self) -> Result<Entry> {
        loop {
            let next = tokio::time::timeout(GONE, self.messages.next()).await.context("the engine is silent")?;
            let message = next.context("the watch ended")?;
            match message.status {
                None => {
                    let context = self.jetstream.clone();
                    return self.entry(Message { message, context });
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {
                    let says = |header| Some(message.headers.as_ref()?.get_last(header)?.as_str());
                    if let Some(sent) = says(LAST_DELIVERED) {
                        ensure!(sent == self.delivered.to_string(), "an entry was lost on the way");
                    }
                    // The engine waits with more until it knows that we have come this far.
                    if let Some(reply) = message.reply.clone().or_else(|| says(STALLED).map(Into::into)) {
                        self.client.publish(reply, bytes::Bytes::new()).await.context("cannot ask for more")?;
                    }
                }
                Some(status) => bail!("the engine ended the watch with status {status}"),
            }
        }
    }

    fn entry(&mut self, inner: Message) -> Result<Entry> {
        let info = inner.info().map_err(|error| anyhow::anyhow!("an entry without its position: {error}"))?;
        self.delivered += 1;
        ensure!(info.consumer_sequence == self.delivered, "an entry was lost on the way");
        let (revision, pending) = (info.stream_sequence, info.pending);
        let key = inner.subject.strip_prefix(&self.bucket.key_prefix()).context("an entry of another bucket")?;
        Ok(Entry { key: key.to_owned(), revision, pending, inner })
    }
}

/// Watches `bucket` from after a position. Also says how many entries were there to be delivered.
pub(super) async fn open(link: &Link, bucket: Bucket, after: Position) -> Result<(Watch, u64)> {
    let inbox = link.control.new_inbox();
    let config = push::Config {
        deliver_subject: inbox.clone(),
        deliver_policy: match after {
            Position(0) => DeliverPolicy::All,
            Position(seen) => DeliverPolicy::ByStartSequence { start_sequence: seen + 1 },
        },
        ack_policy: AckPolicy::None,
        replay_policy: ReplayPolicy::Instant,
        memory_storage: true,
        num_replicas: 1,
        flow_control: true,
        idle_heartbeat: SIGN_OF_LIFE,
        inactive_threshold: FORGOTTEN,
        ..Default::default()
    };
    let mut consumer = link
        .jetstream
        .create_consumer_on_stream(config, bucket.stream())
        .await
        .with_context(|| format!("cannot watch {}", bucket.name()))?;
    // Asked before anybody listens: from then on entries are delivered, and no longer pending.
    let pending = consumer.info().await.context("cannot ask about the watch")?.num_pending;
    let messages = link.control.subscribe(inbox).await.context("cannot listen to the watch")?;
    let (client, jetstream) = (link.control.clone(), link.jetstream.clone());
    Ok((Watch { messages, client, jetstream, bucket, delivered: 0 }, pending))
}
