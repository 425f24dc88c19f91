//! Writes by compare-and-set. A time-out is neither success nor failure, and says so.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::buckets::PAUSE;
use crate::link::Link;
use unibus_core::bus::{self, Bucket, MESSAGE_ID};
use unibus_core::faults::Fault;

const EXPECTED_LAST: &str = "Nats-Expected-Last-Subject-Sequence";
/// A lost compare-and-set, with the sequence that the subject is at (`JSStreamWrongLastSequenceErrF`).
const WRONG_LAST_SEQUENCE: u64 = 10_071;
/// Refusals that only say that something else comes first: another write to the subject is under way, which may never be
/// committed (`JSStreamWrongLastSequenceConstantErr`), the same write is (`JSStreamDuplicateMessageConflict`), or a new
/// leader does not know yet (`JSStreamExpectedLastSeqPerSubjectNotReady`).
const IN_PROCESS: [u64; 3] = [10_164, 10_158, 10_163];
/// The first pause after such a refusal; the next are longer.
const BRIEF: Duration = Duration::from_millis(5);

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
///
/// While leaders change there may be two, and both get what is sent: a refusal by one is no proof that the other does not
/// accept. Proof is only that `expected` was replaced, and that whoever says so does not know our write.
pub async fn put(link: &Link, bucket: Bucket, key: &str, value: &[u8], expected: u64) -> Result<u64, WriteError> {
    if Fault::AckBeforeWrite.active() {
        return Ok(behind_the_back(link, bucket, key, value, expected));
    }
    let id = unique(link);
    let mut headers = HeaderMap::new();
    headers.insert(EXPECTED_LAST, expected.to_string());
    headers.insert(MESSAGE_ID, id.as_str());
    let once = || send(&link.control, bucket, key, value, headers.clone(), bus::ATTEMPT);
    match persist(expected, bus::STORE_BUDGET, PAUSE, &link.lost, once).await {
        // A lone copy, or a leader that was started in the meantime, may refuse because of our own write.
        Persisted { result: Err(WriteError::Conflict), silence: true } => {
            own_write(link, bucket, key, &id, expected).await
        }
        Persisted { result, .. } => result,
    }
}

/// Writes `value` after the message with the sequence `last` (0: none) under `key`, under which all messages are kept. The write has the
/// name `id`. Where something stands behind `last` already, which may be this very write, that is a conflict. Takes as long as [`put`].
pub(crate) async fn put_next(
    link: &Link,
    bucket: Bucket,
    key: &str,
    value: &[u8],
    last: u64,
    id: &str,
) -> Result<u64, WriteError> {
    let mut headers = HeaderMap::new();
    headers.insert(EXPECTED_LAST, last.to_string());
    headers.insert(MESSAGE_ID, id);
    let once = || send(&link.control, bucket, key, value, headers.clone(), bus::ATTEMPT);
    persist(last, bus::STORE_BUDGET, PAUSE, &link.lost, once).await.result
}

/// Adds `record` to the end of `bucket`, under `key`, which others may share. Returns its sequence. Takes as long as [`put`].
pub async fn append(link: &Link, bucket: Bucket, key: &str, record: &[u8]) -> Result<u64, WriteError> {
    let mut headers = HeaderMap::new();
    headers.insert(MESSAGE_ID, unique(link).as_str());
    let once = || send(&link.control, bucket, key, record, headers.clone(), bus::ATTEMPT);
    persist(0, bus::STORE_BUDGET, PAUSE, &link.lost, once).await.result
}

// No two inboxes are ever the same, and that is all that an id has to be.
fn unique(link: &Link) -> String {
    link.control.new_inbox()
}

/// What an attempt came to.
#[derive(Debug)]
enum Answer {
    /// It is stored at this sequence, by this attempt or an earlier one.
    Stored(u64),
    /// The entry is at another revision than expected.
    At(u64),
    /// Somebody who leads has other things to do first.
    InProcess,
    /// Nobody leads: nobody got it.
    NoLeader,
    /// The engine does not take it.
    Refused(String),
    /// Nothing, or nothing that can be read.
    Silence,
}

/// What attempts came to.
struct Persisted {
    result: Result<u64, WriteError>,
    /// Whether an attempt was not answered.
    silence: bool,
}

/// Makes attempts until one proves how it is, `budget` is used up or the link is lost, which never comes back. Only if nobody
/// ever got it is it `Unavailable`.
async fn persist<F: Future<Output = Answer>>(
    expected: u64,
    budget: Duration,
    pause: Duration,
    lost: &CancellationToken,
    mut once: impl FnMut() -> F,
) -> Persisted {
    let deadline = Instant::now() + budget;
    let (mut silence, mut refused, mut brief) = (false, false, BRIEF);
    loop {
        let mut wait = pause;
        match once().await {
            Answer::Stored(sequence) => return Persisted { result: Ok(sequence), silence },
            Answer::At(revision) if revision > expected => {
                return Persisted { result: Err(WriteError::Conflict), silence };
            }
            // What this attempt was refused for may be an earlier one that is still under way.
            Answer::Refused(why) if !silence && !refused => {
                return Persisted { result: Err(WriteError::Refused(why)), silence };
            }
            Answer::Silence => silence = true,
            Answer::NoLeader => {}
            Answer::InProcess | Answer::Refused(_) | Answer::At(_) => {
                refused = true;
                wait = brief;
                brief = (brief * 2).min(pause);
            }
        }
        if lost.is_cancelled() || Instant::now() + wait >= deadline {
            let error = if silence || refused { WriteError::Unknown } else { WriteError::Unavailable };
            return Persisted { result: Err(error), silence };
        }
        tokio::time::sleep(wait).await;
    }
}

/// One attempt of an unconditional write.
pub async fn put_once(
    link: &Link,
    bucket: Bucket,
    key: &str,
    value: &[u8],
    patience: Duration,
) -> Result<u64, WriteError> {
    match send(&link.control, bucket, key, value, HeaderMap::new(), patience).await {
        Answer::Stored(sequence) => Ok(sequence),
        Answer::NoLeader => Err(WriteError::Unavailable),
        Answer::Refused(why) => Err(WriteError::Refused(why)),
        Answer::At(_) | Answer::InProcess | Answer::Silence => Err(WriteError::Unknown),
    }
}

async fn send(
    control: &async_nats::Client,
    bucket: Bucket,
    key: &str,
    value: &[u8],
    headers: HeaderMap,
    patience: Duration,
) -> Answer {
    let subject = format!("{}{key}", bucket.key_prefix());
    let request = control.request_with_headers(subject, headers, value.to_vec().into());
    match tokio::time::timeout(patience, request).await {
        Ok(Ok(message)) => understood(&message.payload),
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => Answer::NoLeader,
        Ok(Err(_)) | Err(_) => Answer::Silence,
    }
}

fn understood(payload: &[u8]) -> Answer {
    let Ok(acknowledgement) = serde_json::from_slice::<Acknowledgement>(payload) else { return Answer::Silence };
    match acknowledgement {
        Acknowledgement { seq: Some(sequence), error: None } => Answer::Stored(sequence),
        Acknowledgement { error: Some(ApiError { err_code: Some(WRONG_LAST_SEQUENCE), description }), .. } => {
            // "wrong last sequence: 7"
            let revision = description.rsplit(' ').next().and_then(|number| number.parse().ok());
            revision.map_or(Answer::InProcess, Answer::At)
        }
        Acknowledgement { error: Some(ApiError { err_code: Some(code), .. }), .. } if IN_PROCESS.contains(&code) => {
            Answer::InProcess
        }
        Acknowledgement { error: Some(error), .. } => Answer::Refused(error.description),
        Acknowledgement { .. } => Answer::Silence,
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
    if says(MESSAGE_ID) == Some(id) {
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
pub async fn look(link: &Link, bucket: Bucket, key: &str) -> Result<Option<StreamMessage>, WriteError> {
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

    /// What `answers` come to, then silence of a cluster without a leader; expected was revision 5.
    async fn attempts(answers: Vec<Answer>) -> (Result<u64, WriteError>, bool, usize) {
        let mut made = 0;
        let mut answers = answers.into_iter();
        let once = || {
            made += 1;
            std::future::ready(answers.next().unwrap_or(Answer::NoLeader))
        };
        let Persisted { result, silence } = persist(5, BUDGET, SHORT, &CancellationToken::new(), once).await;
        (result, silence, made)
    }

    fn refused() -> Answer {
        Answer::Refused("no space".to_owned())
    }

    #[tokio::test]
    async fn quick_refusals_are_asked_again_until_the_time_is_up() {
        let begun = Instant::now();
        let (result, silence, made) = attempts(vec![]).await;
        assert!(matches!(result, Err(WriteError::Unavailable)) && !silence);
        assert!(begun.elapsed() >= BUDGET - 2 * SHORT && made > 2, "{made} attempts in {:?}", begun.elapsed());
        let (result, _, made) = attempts(vec![Answer::NoLeader, Answer::Stored(7)]).await;
        assert_eq!((result.unwrap(), made), (7, 2));
    }

    #[tokio::test]
    async fn one_attempt_without_an_answer_leaves_the_outcome_unknown() {
        let (result, ..) = attempts(vec![Answer::NoLeader, Answer::Silence, refused()]).await;
        assert!(matches!(result, Err(WriteError::Unknown)), "{result:?}");
        let (result, silence, _) = attempts(vec![Answer::Silence, Answer::At(6)]).await;
        assert!(matches!(result, Err(WriteError::Conflict)) && silence, "to be read back");
        let (result, silence, made) = attempts(vec![refused()]).await;
        assert!(matches!(result, Err(WriteError::Refused(_))) && !silence && made == 1, "a certain answer is one");
    }

    // Seen under chaos with a node deaf to one other: a leader that was deposed refused a write, because an older one was
    // under way, and the new one accepted it.
    #[tokio::test]
    async fn only_what_replaced_the_expected_revision_is_a_conflict() {
        for comes_first in [|| Answer::InProcess, || Answer::At(5), || Answer::At(4)] {
            let (result, _, made) = attempts(vec![comes_first(), Answer::Stored(6)]).await;
            assert_eq!((result.unwrap(), made), (6, 2));
            let (result, silence, made) = attempts(vec![comes_first(), Answer::At(6)]).await;
            assert!(matches!(result, Err(WriteError::Conflict)) && !silence && made == 2, "{result:?}");
            let (result, ..) = attempts(vec![comes_first()]).await;
            assert!(matches!(result, Err(WriteError::Unknown)), "{result:?}");
        }
    }

    #[test]
    fn answers_of_the_engine_are_understood() {
        let error = |code, text: &str| {
            let error = serde_json::json!({ "error": { "code": 400, "err_code": code, "description": text }, "stream": "S", "seq": 0 });
            understood(error.to_string().as_bytes())
        };
        assert!(matches!(error(10_071, "wrong last sequence: 7"), Answer::At(7)));
        assert!(matches!(error(10_071, "wrong last sequence"), Answer::InProcess));
        assert!(matches!(error(10_164, "wrong last sequence"), Answer::InProcess));
        assert!(matches!(error(10_077, "maximum bytes exceeded"), Answer::Refused(why) if why.starts_with("maximum")));
        assert!(matches!(understood(br#"{"stream":"S","seq":9,"duplicate":true}"#), Answer::Stored(9)));
        assert!(matches!(understood(b"{}"), Answer::Silence));
        assert!(matches!(understood(b"nonsense"), Answer::Silence));
    }

    #[tokio::test]
    async fn nothing_more_is_tried_on_a_lost_link() {
        let lost = CancellationToken::new();
        lost.cancel();
        let mut made = 0;
        let once = || {
            made += 1;
            std::future::ready(Answer::NoLeader)
        };
        let persisted = persist(0, BUDGET, SHORT, &lost, once).await;
        assert!(matches!(persisted.result, Err(WriteError::Unavailable)));
        assert_eq!(made, 1);
    }
}
