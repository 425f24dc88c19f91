//! The copies of the streams of all shards, as one: they are the system's own, like the buckets, so they count as those do.

use std::time::Instant;

use futures::future::join_all;
use serde::Deserialize;
use serde_json::json;

use super::shard::Shard;
use super::streams::{self, Asked};
use unibus_core::bus;
use unibus_store::link::Link;
use unibus_store::{Raised, Replicas, raise_stream, replicas_of};

/// Describes the copies of the shards as one bucket, which is as good as the worst of them. A shard is made when something is first
/// said in it; where there is none yet nothing is missing, and the next one gets `least` copies.
pub async fn replicas(link: &Link, least: usize) -> Replicas {
    match there(link).await {
        Ok(shards) => {
            let look = |shard: Shard| async move { replicas_of(link, bus::KEPT, &shard.stream(), least).await };
            summary(&join_all(shards.into_iter().map(look)).await, least)
        }
        Err(asked) => {
            tracing::debug!("which shards there are is not known: {asked}");
            of(least, None)
        }
    }
}

/// Gives every shard that has fewer `copies`, in short attempts until `deadline`. None is ever lowered.
pub async fn raise(link: &Link, copies: usize, deadline: Instant) -> Raised {
    let none = Raised { bucket: bus::KEPT.to_owned(), before: None, error: None };
    let shards = loop {
        match there(link).await {
            Ok(shards) => break shards,
            Err(_) if Instant::now() < deadline => tokio::time::sleep(streams::PAUSE).await,
            Err(asked) => return Raised { error: Some(format!("which there are is not known: {asked}")), ..none },
        }
    };
    let raising = |shard: Shard| async move { raise_stream(link, bus::KEPT, &shard.stream(), copies, deadline).await };
    let raised = join_all(shards.into_iter().map(raising)).await;
    let before = raised.iter().filter_map(|one| one.before).min();
    Raised { before, error: raised.into_iter().find_map(|one| one.error), ..none }
}

/// The shards that have a stream.
pub(crate) async fn there(link: &Link) -> Result<Vec<Shard>, Asked> {
    #[derive(Deserialize)]
    struct Names {
        streams: Option<Vec<String>>,
    }
    // All of them are on one page: the engine's have a thousand names.
    let found = streams::ask(&link.control, "STREAM.NAMES".to_owned(), &json!({}), bus::ATTEMPT).await?;
    let found = Names::deserialize(found).map_err(|error| Asked::Silent(format!("a strange list: {error}")))?;
    let names = found.streams.unwrap_or_default();
    Ok(Shard::all().filter(|shard| names.contains(&shard.stream())).collect())
}

fn of(want: usize, current: Option<usize>) -> Replicas {
    Replicas { bucket: bus::KEPT.to_owned(), want, current, leader: None, rooms: None, space: None }
}

fn summary(shards: &[Replicas], least: usize) -> Replicas {
    let want = shards.iter().map(|shard| shard.want).min().unwrap_or(least);
    let missing = |shard: &Replicas| shard.current.map(|current| shard.want.saturating_sub(current));
    let worst: Option<Vec<usize>> = shards.iter().map(missing).collect();
    of(want, worst.map(|missing| want.saturating_sub(missing.into_iter().max().unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_shards_are_as_good_as_the_worst() {
        let said = |shards: &[(usize, Option<usize>)]| {
            let shards: Vec<Replicas> = shards.iter().map(|(want, current)| of(*want, *current)).collect();
            let summary = summary(&shards, 3);
            (summary.want, summary.current)
        };
        assert_eq!(said(&[]), (3, Some(3)), "nothing is missing where nothing was said");
        assert_eq!(said(&[(3, Some(3)), (3, Some(2)), (3, Some(3))]), (3, Some(2)));
        assert_eq!(said(&[(3, Some(3)), (1, Some(1))]), (1, Some(1)), "one that was not raised yet");
        assert_eq!(said(&[(3, Some(3)), (3, None)]), (3, None), "no node answers for one");
    }
}
