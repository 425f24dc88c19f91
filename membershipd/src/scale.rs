//! `scale` in the daemon: every bucket and every shard gets as many copies as were asked for, never fewer than it has.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::history;
use crate::posture::{Observer, SCHEMA};
use unibus_core::domain::FeatureLevel;

/// Time for all buckets to take the change; whoever asked may ask again.
const BUDGET: Duration = Duration::from_secs(15);

/// Why nothing was raised.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// It would mean nothing or be impossible.
    #[error("{0}")]
    Refused(String),
    /// Nobody could say, or change, anything.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl ScaleError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            ScaleError::Refused(_) => "see 'membershipd status' for the nodes and the copies of each bucket",
            ScaleError::Unavailable(_) => "start the nodes that are down, and run it again: repeating is safe",
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            ScaleError::Refused(_) => "bad_request",
            ScaleError::Unavailable(_) => "unavailable",
        }
    }
}

/// Raises every bucket to `copies`. What could not be raised now says why in the answer.
pub async fn raise(observer: &Observer, copies: usize) -> Result<Value, ScaleError> {
    let link = observer.link.borrow().clone();
    let link = link.ok_or(ScaleError::Unavailable("there is no session with the engine"))?;
    let Some(cluster) = observer.cluster(Some(&link)).await else {
        return Err(ScaleError::Refused("a node on its own has one copy of each bucket".to_owned()));
    };
    if cluster.leader.is_none() {
        return Err(ScaleError::Unavailable("the cluster has no leader now: no quorum, or an election"));
    }
    let size = cluster.size.and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or(ScaleError::Unavailable("the engine did not say how many nodes the cluster has"))?;
    let seen = observer.replicas(&link).await;
    refuse(copies, size, &seen)?;
    let rooms = observer.copies.rooms();
    let deadline = Instant::now() + BUDGET;
    let histories = history::raise(&link, copies, deadline, &rooms);
    let (mut raised, histories) = futures::join!(unibus_store::raise(&link, copies, deadline), histories);
    // After the bucket of rooms, of which a new shard takes the number of its copies.
    if observer.gate.view(|view| view.level()) >= FeatureLevel::Kept {
        raised.push(unibus_keeper::raise(&link, copies, deadline).await);
    }
    raised.push(histories);
    observer.copies.look_at_rooms(&link, &observer.replicas(&link).await).await;
    for bucket in &raised {
        match &bucket.error {
            Some(error) => tracing::warn!(bucket = bucket.bucket, copies, "not raised: {error}"),
            None => tracing::info!(bucket = bucket.bucket, before = bucket.before, copies, "raised"),
        }
    }
    Ok(json!({ "schema": SCHEMA, "copies": copies, "buckets": raised }))
}

fn refuse(copies: usize, size: usize, seen: &[unibus_store::Replicas]) -> Result<(), ScaleError> {
    let refused = |why: String| Err(ScaleError::Refused(why));
    if copies == 0 || copies.is_multiple_of(2) {
        return refused(format!("{copies} copies have no majority of their own: give 1, 3 or 5"));
    }
    if copies > size {
        return refused(format!("{copies} copies on {size} nodes: at most one copy a node"));
    }
    let more = seen.iter().find(|replica| replica.current.is_some() && replica.want > copies);
    more.map_or(Ok(()), |bucket| {
        let (bucket, want) = (&bucket.bucket, bucket.want);
        refused(format!("{bucket} has {want} copies, and scale never lowers: that would be less safe"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_impossible_or_less_safe_is_refused() {
        let seen = |want, current| unibus_store::Replicas {
            bucket: "UNIBUS_users".to_owned(),
            want,
            current,
            leader: None,
            rooms: None,
            space: None,
        };
        let said = |copies, want, current| refuse(copies, 3, &[seen(want, current)]).map_err(|e| e.to_string());
        assert_eq!(said(3, 1, Some(1)), Ok(()));
        assert_eq!(said(3, 3, Some(2)), Ok(()), "again, to see it through");
        assert!(said(2, 1, Some(1)).unwrap_err().contains("no majority"));
        assert!(said(5, 1, Some(1)).unwrap_err().contains("5 copies on 3 nodes"));
        assert!(said(1, 3, Some(3)).unwrap_err().contains("UNIBUS_users has 3 copies"));
        assert_eq!(said(1, 3, None), Ok(()), "what nobody answered is a guess");
    }
}
