//! The streams behind the buckets: made where they are missing, described for the posture.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use async_nats::jetstream::stream::{self, ClusterInfo, DiscardPolicy, StorageType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::link::Link;
use unibus_core::bus::{self, Bucket};

/// Copies of a bucket, as its leader sees them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Replicas {
    /// Name of the bucket.
    pub bucket: String,
    /// Copies that the stream is set to have; where nobody answered, those that it had when last seen, or would be made with.
    pub want: usize,
    /// Copies that are current, the leader included; none: nobody answered.
    pub current: Option<usize>,
    /// Node that leads it.
    pub leader: Option<String>,
    /// Rooms whose streams these are, where it is no bucket but all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rooms: Option<usize>,
    /// What it holds, where that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<Space>,
}

/// What a bucket holds of what it may, on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes that it holds.
    pub bytes: u64,
    /// Bytes that it may hold.
    pub most: u64,
}

/// Pause between attempts at what a cold cluster may not answer yet.
pub(super) const PAUSE: Duration = Duration::from_millis(250);

fn config(bucket: Bucket, num_replicas: usize) -> stream::Config {
    let (blobs, audit) = (bucket == Bucket::Blobs, bucket == Bucket::Audit);
    let sequence = matches!(bucket, Bucket::Blobs | Bucket::Audit | Bucket::NonceLog);
    stream::Config {
        name: bucket.stream(),
        subjects: bucket.subjects(),
        storage: StorageType::File,
        num_replicas,
        max_messages_per_subject: if sequence { -1 } else { 1 },
        max_bytes: bucket.max_bytes().and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1),
        max_age: bucket.max_age(),
        // Nothing else makes way. But whatever somebody tries leaves a record, so whoever tries for long enough could fill the
        // audit, and nobody could be removed any more.
        discard: if audit { DiscardPolicy::Old } else { DiscardPolicy::New },
        // A direct read may come from a copy that lags behind.
        allow_direct: false,
        // Tombstones stay: nobody ever deletes anything but a blob, and nothing is purged past its revision.
        deny_delete: !blobs,
        deny_purge: !blobs,
        allow_rollup: blobs,
        ..Default::default()
    }
}

/// Makes the buckets that are missing.
pub async fn ensure(link: &Link, num_replicas: usize) {
    for bucket in Bucket::ALL {
        ensure_bucket(link, bucket, num_replicas).await;
    }
}

/// Makes a bucket where it is missing. What a cold cluster is asked is asked again in short attempts, until it answers or the
/// caller gives up.
pub async fn ensure_bucket(link: &Link, bucket: Bucket, num_replicas: usize) {
    let mut attempts = 0u32;
    loop {
        match ensure_one(link, bucket, num_replicas).await {
            Ok(()) => break,
            Err(error) => {
                attempts += 1;
                if attempts.is_multiple_of(20) {
                    tracing::warn!(bucket = bucket.name(), attempts, "the bucket is not available yet: {error:#}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn ensure_one(link: &Link, bucket: Bucket, num_replicas: usize) -> Result<()> {
    // Creation with the same configuration succeeds where the stream exists; with another one it is refused, and what
    // exists stays as it is: `scale` changes it, not a restart.
    match link.jetstream.create_stream(config(bucket, num_replicas)).await {
        Ok(_) => Ok(()),
        Err(created) => match link.jetstream.get_stream(bucket.stream()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(anyhow!(created)).with_context(|| format!("cannot make {}", bucket.name())),
        },
    }
}

/// Times that a bucket is asked about before a copy counts as not current, and the pause in between. A follower of an idle
/// stream is called current only while it was heard of within the last moment, so a single look can be unlucky.
const LOOKS: usize = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(400);

/// Describes the copies of every bucket, asking for all at once; `assumed` is how many one has of which nobody answers.
pub async fn replicas(link: &Link, assumed: usize) -> Vec<Replicas> {
    let one = |bucket: Bucket| async move { replicas_of(link, bucket.name(), &bucket.stream(), assumed).await };
    futures::future::join_all(Bucket::ALL.map(one)).await
}

/// Describes the copies of a stream of the daemons, which is told under `name`.
pub async fn replicas_of(link: &Link, name: &str, stream: &str, assumed: usize) -> Replicas {
    let mut seen = look(link, name, stream, assumed).await;
    for _ in 1..LOOKS {
        // Nobody answering took its time already, and is a finding of its own.
        if seen.current.is_none_or(|current| current >= seen.want) {
            break;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
        seen = look(link, name, stream, assumed).await;
    }
    seen
}

async fn look(link: &Link, bucket: &str, name: &str, assumed: usize) -> Replicas {
    let stream = link.jetstream.get_stream(name).await.ok();
    let info = stream.as_ref().map(|stream| stream.cached_info());
    let cluster = info.and_then(|info| info.cluster.as_ref());
    let leader = cluster.and_then(|cluster| cluster.leader.clone());
    let mut followers = cluster.map_or(0, |c| c.replicas.iter().filter(|r| r.current && !r.offline).count());
    // For ten seconds after its start an engine answers for buckets that others lead, too, and answers us first; but of the
    // other followers it knows nothing. Whoever does not name itself is not the leader.
    let names_leader = |c: &ClusterInfo| c.replicas.iter().any(|replica| Some(&replica.name) == leader.as_ref());
    if let (Some(leader), true) = (&leader, cluster.is_some_and(names_leader)) {
        followers = ask_leader(link, name, leader).await.unwrap_or(0);
    }
    let want = info.map_or(assumed, |info| info.config.num_replicas);
    let current = info.map(|_| followers + usize::from(leader.is_some() || cluster.is_none()));
    let space = |info: &stream::Info| {
        let most = u64::try_from(info.config.max_bytes).ok().filter(|most| *most > 0)?;
        Some(Space { bytes: info.state.bytes, most })
    };
    let space = info.and_then(space);
    Replicas { bucket: bucket.to_owned(), want, current, leader, rooms: None, space }
}

/// Followers of a stream that are current, by the word of its leader.
async fn ask_leader(link: &Link, stream: &str, leader: &str) -> Result<usize> {
    let body = json!({ "account": bus::ACCOUNT_CONTROL, "streams": true });
    let answer = link.ask_node(leader, "JSZ", body).await?;
    let accounts = answer.pointer("/data/account_details").and_then(Value::as_array).context("no accounts")?;
    let streams = accounts.iter().filter_map(|account| account.get("stream_detail")?.as_array()).flatten();
    let name = Value::from(stream);
    let stream = streams.into_iter().find(|stream| stream.get("name") == Some(&name)).context("no such stream")?;
    let leads = stream.pointer("/cluster/leader").and_then(Value::as_str) == Some(leader);
    ensure!(leads, "{leader} does not lead it");
    let replicas = stream.pointer("/cluster/replicas").and_then(Value::as_array).context("no copies")?;
    let is = |replica: &Value, word: &str| replica.get(word).and_then(Value::as_bool) == Some(true);
    Ok(replicas.iter().filter(|replica| is(replica, "current") && !is(replica, "offline")).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_makes_way_but_the_oldest_of_the_audit_and_nobody_deletes_anything_but_attachments() {
        for bucket in Bucket::ALL {
            let made = config(bucket, 3);
            let oldest_go = made.discard == DiscardPolicy::Old;
            assert_eq!(oldest_go, bucket == Bucket::Audit, "{bucket:?}");
            assert!(!oldest_go || made.max_bytes > 0, "{bucket:?} would fill the disk first");
            let stays = made.deny_delete && made.deny_purge && !made.allow_rollup;
            assert_eq!(stays, bucket != Bucket::Blobs, "{bucket:?}");
        }
    }
}
