//! More copies of a bucket, in place: the stream keeps its entries and revisions while the engine makes the copies.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use async_nats::jetstream::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::link::Link;
use unibus_core::bus::Bucket;

use super::buckets::PAUSE;

/// What raising one bucket came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Raised {
    /// Name of the bucket.
    pub bucket: String,
    /// Copies it was set to have; none: nobody answered.
    pub before: Option<usize>,
    /// Why it is not set to have as many as were asked for.
    pub error: Option<String>,
}

/// Sets every bucket that has fewer to have `copies`, in short attempts until `deadline`. None is ever lowered.
pub async fn raise(link: &Link, copies: usize, deadline: Instant) -> Vec<Raised> {
    let one =
        |bucket: Bucket| async move { raise_stream(link, bucket.name(), &bucket.stream(), copies, deadline).await };
    futures::future::join_all(Bucket::ALL.map(one)).await
}

/// The same for one stream of the daemons, which is told under `name`.
pub async fn raise_stream(link: &Link, name: &str, stream: &str, copies: usize, deadline: Instant) -> Raised {
    let mut before = None;
    loop {
        let error = match attempt(link, stream, copies, &mut before).await {
            Ok(()) => None,
            Err(_) if Instant::now() < deadline => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => Some(format!("{error:#}")),
        };
        return Raised { bucket: name.to_owned(), before, error };
    }
}

async fn attempt(link: &Link, stream: &str, copies: usize, before: &mut Option<usize>) -> Result<()> {
    // As JSON, so that a setting which our library does not know yet is written back as it was.
    let info = ask(link, format!("STREAM.INFO.{stream}"), &json!({})).await.context("cannot ask about it")?;
    let mut config = info.get("config").cloned().context("the engine did not describe it")?;
    let now = config.get("num_replicas").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let now = now.context("the engine did not say how many copies it has")?;
    before.get_or_insert(now);
    if now >= copies {
        return Ok(());
    }
    if let Some(map) = config.as_object_mut() {
        map.insert("num_replicas".to_owned(), json!(copies));
    }
    ask(link, format!("STREAM.UPDATE.{stream}"), &config).await.context("cannot raise it")?;
    Ok(())
}

async fn ask(link: &Link, subject: String, body: &Value) -> Result<Value> {
    match link.jetstream.request(subject, body).await? {
        Response::Ok(value) => Ok(value),
        Response::Err { error } => Err(anyhow!("{error}")),
    }
}
