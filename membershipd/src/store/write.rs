//! Writes by compare-and-set. A time-out is neither success nor failure, and says so.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::buckets::PAUSE;
use crate::bus::{self, Bucket};
use crate::faults::Fault;
use crate::link::Link;

const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// Tells our own write from one of the same bytes by somebody else, when it is read back after a lost acknowledgement.
const WRITE_ID: &str = "Unibus-Write-Id";
/// By it the engine stores a record once, however often it is sent within two minutes (a stream's `duplicate_window`).
const MESSAGE_ID: &str = "Nats-Msg-Id";
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
/// Tries again where that is safe; takes at most `STORE_BUDGET`, and a little for the last attempt.
pub async fn put(link: &Link, bucket: Bucket, key: &str, value: &[u8], expected: u64) -> Result<u64, WriteError> {
    if Fault::AckBeforeWrite.active() {
        return Ok(behind_the_back(link, bucket, key, value, expected));
    }
    let id = unique(link);
    let mut headers = HeaderMap::new();
    headers.insert(EXPECTED_LAST, expected.to_string());
    headers.insert(WRITE_ID, id.as_str());
    let once = || send(&link.control, bucket, key, value, headers.clone(), bus::ATTEMPT);
    match persist(bus::STORE_BUDGET, PAUSE, &link.lost, once).await {
        // After a lost acknowledgement the conflict may be with our own write.
        Persisted { result: Err(WriteError::Conflict), doubt: true } => {
            own_write(link, bucket, key, &id, expected).await
        }
        Persisted { result, .. } => result,
    }
}

/// Adds `record` to the end of `bucket`, under `key`, which others may share. Returns its sequence. Takes as long as [`put`].
pub(super) async fn append(link: &Link, bucket: Bucket, key: &str, record: &[u8]) -> Result<u64, WriteError> {
    let mut headers = HeaderMap::new();
    headers.insert(MESSAGE_ID, unique(link).as_str());
    let once = || send(&link.control, bucket, key, record, headers.clone(), bus::ATTEMPT);
    persist(bus::STORE_BUDGET, PAUSE, &link.lost, once).await.result
}

// No two inboxes are ever the same, and that is all that an id has to be.
fn unique(link: &Link) -> String {
    link.control.new_inbox()
}

/// What attempts came to.
struct Persisted {
    result: Result<u64, WriteError>,
    /// Whether an earlier attempt may have been, or may still be, carried out.
    doubt: bool,
}

/// Makes attempts until one says how it is, `budget` is used up or the link is lost, which never comes back. Only if every
/// attempt was certainly refused is it `Unavailable`.
async fn persist<F: Future<Output = Result<u64, WriteError>>>(
    budget: Duration,
    pause: Duration,
    lost: &CancellationToken,
    mut once: impl FnMut() -> F,
) -> Persisted {
    let deadline = Instant::now() + budget;
    let mut doubt = false;
    loop {
        match once().await {
            Err(WriteError::Unknown) => doubt = true,
            Err(WriteError::Unavailable) => {}
            // What this attempt was refused for may be an earlier one that is still under way.
            Err(WriteError::Refused(_)) if doubt => {}
            result => return Persisted { result, doubt },
        }
        if lost.is_cancelled() || Instant::now() + pause >= deadline {
            let error = if doubt { WriteError::Unknown } else { WriteError::Unavailable };
            return Persisted { result: Err(error), doubt };
        }
        tokio::time::sleep(pause).await;
    }
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
    let mut headers = HeaderMap::new();
    if let Some(expected) = expected {
        headers.insert(EXPECTED_LAST, expected.to_string());
    }
    send(&link.control, bucket, key, value, headers, patience).await
}

async fn send(
    control: &async_nats::Client,
    bucket: Bucket,
    key: &str,
    value: &[u8],
    headers: HeaderMap,
    patience: Duration,
) -> Result<u64, WriteError> {
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
    tokio::spawn(async move { send(&control, bucket, &key, &value, HeaderMap::new(), bus::ATTEMPT).await });
    expected + 1
}

async fn own_write(link: &Link, bucket: Bucket, key: &str, id: &str, expected: u64) -> Result<u64, WriteError> {
    let Some(found) = look(link, bucket, key).await? else { return Err(WriteError::Unknown) };
    let says = |header: &str| found.headers.get_last(header).map(|value| value.as_str());
    if says(WRITE_ID) == Some(id) {
        return Ok(found.sequence);
    }
    // What replaced the very entry that ours was to replace keeps ours out for good. Anything else proves less: ours may
    // have stood in between, or this leader knows less than the one that refused.
    let instead = says(EXPECTED_LAST) == Some(expected.to_string().as_str());
    Err(if instead { WriteError::Conflict } else { WriteError::Unknown })
}

/// What the bucket's leader has under `key`, with its revision. A leader that was deposed without knowing it yet may
/// answer with what is no longer current: only a compare-and-set on the revision proves that it was.
pub async fn get(link: &Link, bucket: Bucket, key: &str) -> Result<Option<(Vec<u8>, u64)>, WriteError> {
    Ok(look(link, bucket, key).await?.map(|message| (message.payload.to_vec(), message.sequence)))
}

/// The same with its headers, in one attempt.
pub(super) async fn look(link: &Link, bucket: Bucket, key: &str) -> Result<Option<StreamMessage>, WriteError> {
    let stream = link.jetstream.get_stream_no_info(bucket.stream()).await.map_err(|_| WriteError::Unknown)?;
    let subject = format!("{}{key}", bucket.key_prefix());
    match stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(_) => Err(WriteError::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(60);
    const SHORT: Duration = Duration::from_millis(5);

    async fn attempts(answers: Vec<Result<u64, WriteError>>) -> (Result<u64, WriteError>, bool, usize) {
        let mut made = 0;
        let mut answers = answers.into_iter();
        let once = || {
            made += 1;
            std::future::ready(answers.next().unwrap_or(Err(WriteError::Unavailable)))
        };
        let Persisted { result, doubt } = persist(BUDGET, SHORT, &CancellationToken::new(), once).await;
        (result, doubt, made)
    }

    #[tokio::test]
    async fn quick_refusals_are_asked_again_until_the_time_is_up() {
        let begun = Instant::now();
        let (result, doubt, made) = attempts(vec![]).await;
        assert!(matches!(result, Err(WriteError::Unavailable)) && !doubt);
        assert!(begun.elapsed() >= BUDGET - 2 * SHORT && made > 2, "{made} attempts in {:?}", begun.elapsed());
        let (result, _, made) = attempts(vec![Err(WriteError::Unavailable), Ok(7)]).await;
        assert_eq!((result.unwrap(), made), (7, 2));
    }

    #[tokio::test]
    async fn one_unknown_attempt_leaves_the_outcome_unknown() {
        let refused = || Err(WriteError::Refused("no space".to_owned()));
        let (result, ..) = attempts(vec![Err(WriteError::Unavailable), Err(WriteError::Unknown), refused()]).await;
        assert!(matches!(result, Err(WriteError::Unknown)), "{result:?}");
        let (result, doubt, _) = attempts(vec![Err(WriteError::Unknown), Err(WriteError::Conflict)]).await;
        assert!(matches!(result, Err(WriteError::Conflict)) && doubt, "to be read back");
        let (result, doubt, made) = attempts(vec![refused()]).await;
        assert!(matches!(result, Err(WriteError::Refused(_))) && !doubt && made == 1, "a certain answer is one");
    }

    #[tokio::test]
    async fn nothing_more_is_tried_on_a_lost_link() {
        let lost = CancellationToken::new();
        lost.cancel();
        let mut made = 0;
        let once = || {
            made += 1;
            std::future::ready(Err(WriteError::Unavailable))
        };
        let persisted = persist(BUDGET, SHORT, &lost, once).await;
        assert!(matches!(persisted.result, Err(WriteError::Unavailable)));
        assert_eq!(made, 1);
    }
}
