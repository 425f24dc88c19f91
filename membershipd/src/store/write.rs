//! Writes by compare-and-set. A time-out is neither success nor failure, and says so.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use serde::Deserialize;

use crate::bus::{self, Bucket};
use crate::faults::Fault;
use crate::link::Link;

const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// Error codes of the engine for a lost compare-and-set (`JSStreamWrongLastSequenceErrF` and its constant twin).
const WRONG_LAST_SEQUENCE: [u64; 2] = [10_071, 10_164];

/// A new leader does not know yet whether a write to that subject is still under way (`JSStreamExpectedLastSeqPerSubjectNotReady`).
const SEQUENCE_NOT_READY: u64 = 10_163;

/// Why a write was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else changed the entry first; nothing was written.
    #[error("the entry was changed by somebody else in the meantime")]
    Conflict,
    /// Nobody could take it; nothing was written.
    #[error("the cluster has no leader for this bucket now; nothing was written")]
    Unavailable,
    /// No answer: it may have been written, or may still be.
    #[error("no answer from the cluster: the outcome is unknown, the change may or may not have been made")]
    Unknown,
    /// The engine refused; nothing was written.
    #[error("the engine refused the write: {0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Acknowledgement {
    seq: Option<u64>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    err_code: Option<u64>,
    #[serde(default)]
    description: String,
}

/// Writes `value` under `key` if its revision still is `expected` (0: there is no entry). Returns the new revision.
/// Tries again where that is safe; takes at most `WRITE_ATTEMPTS * ATTEMPT` and a little.
pub async fn put(link: &Link, bucket: Bucket, key: &str, value: &[u8], expected: u64) -> Result<u64, WriteError> {
    if Fault::AckBeforeWrite.active() {
        return Ok(behind_the_back(link, bucket, key, value, expected));
    }
    let mut unknown = false;
    let mut last = WriteError::Unavailable;
    for attempt in 0..bus::WRITE_ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        match put_once(link, bucket, key, value, Some(expected), bus::ATTEMPT).await {
            // After a lost acknowledgement the conflict may be with our own write.
            Err(WriteError::Conflict) if unknown => return own_write(link, bucket, key, value, expected).await,
            Err(WriteError::Unknown) => {
                unknown = true;
                last = WriteError::Unknown;
            }
            Err(WriteError::Unavailable) => {}
            // What this attempt was refused for may be an earlier one that is still under way.
            Err(WriteError::Refused(_)) if unknown => {}
            done => return done,
        }
    }
    Err(last)
}

/// One attempt of a write; without `expected` it is unconditional.
pub async fn put_once(
    link: &Link,
    bucket: Bucket,
    key: &str,
    value: &[u8],
    expected: Option<u64>,
    patience: Duration,
) -> Result<u64, WriteError> {
    send(&link.control, bucket, key, value, expected, patience).await
}

async fn send(
    control: &async_nats::Client,
    bucket: Bucket,
    key: &str,
    value: &[u8],
    expected: Option<u64>,
    patience: Duration,
) -> Result<u64, WriteError> {
    let mut headers = HeaderMap::new();
    if let Some(expected) = expected {
        headers.insert(EXPECTED_LAST, expected.to_string());
    }
    let subject = format!("{}{key}", bucket.key_prefix());
    let request = control.request_with_headers(subject, headers, value.to_vec().into());
    let answer = match tokio::time::timeout(patience, request).await {
        Ok(Ok(message)) => message,
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => return Err(WriteError::Unavailable),
        Ok(Err(_)) | Err(_) => return Err(WriteError::Unknown),
    };
    match serde_json::from_slice::<Acknowledgement>(&answer.payload) {
        Ok(Acknowledgement { seq: Some(seq), error: None }) => Ok(seq),
        Ok(Acknowledgement { error: Some(error), .. }) => {
            if error.err_code.is_some_and(|code| WRONG_LAST_SEQUENCE.contains(&code)) {
                Err(WriteError::Conflict)
            } else if error.err_code == Some(SEQUENCE_NOT_READY) {
                Err(WriteError::Unavailable)
            } else {
                Err(WriteError::Refused(error.description))
            }
        }
        _ => Err(WriteError::Unknown),
    }
}

// What a store does that buffers writes for speed: all is well until somebody pulls the plug.
fn behind_the_back(link: &Link, bucket: Bucket, key: &str, value: &[u8], expected: u64) -> u64 {
    let (control, key, value) = (link.control.clone(), key.to_owned(), value.to_vec());
    tokio::spawn(async move { send(&control, bucket, &key, &value, None, bus::ATTEMPT).await });
    expected + 1
}

async fn own_write(link: &Link, bucket: Bucket, key: &str, value: &[u8], expected: u64) -> Result<u64, WriteError> {
    match get(link, bucket, key).await? {
        Some((written, revision)) if written == value => Ok(revision),
        Some((_, revision)) if revision > expected => Err(WriteError::Conflict),
        // The conflict proves that there is more than this leader knows.
        _ => Err(WriteError::Unknown),
    }
}

/// What the bucket's leader has under `key`, with its revision. A leader that was deposed without knowing it yet may
/// answer with what is no longer current: only a compare-and-set on the revision proves that it was.
pub async fn get(link: &Link, bucket: Bucket, key: &str) -> Result<Option<(Vec<u8>, u64)>, WriteError> {
    let stream = link.jetstream.get_stream_no_info(bucket.stream()).await.map_err(|_| WriteError::Unknown)?;
    let subject = format!("{}{key}", bucket.key_prefix());
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Ok(Some((message.payload.to_vec(), message.sequence))),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(_) => Err(WriteError::Unknown),
    }
}
