//! What was said in rooms that persist, over the API.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::call::{AFTER, Call, LIMIT, Reply};
use super::limits;
use super::problem::Problem;
use super::problem::Refuse as _;
use super::shared::Shared;
use crate::bus;
use crate::history::{HistoryError, Page};
use crate::store::Message;
use unibus_api_types::problem::Kind;

/// Something that was said in a room.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct MessageBody {
    /// Its place: larger than that of whatever was said before. After a restore places are given anew.
    seq: u64,
    /// When it was kept, milliseconds since 1970.
    at_ms: i64,
    /// Where it was said: the room's subject then, or below it.
    subject: String,
    /// What was said, as it was published, base64.
    frame: String,
}

impl From<Message> for MessageBody {
    fn from(Message { sequence, at_ms, subject, frame }: Message) -> Self {
        Self { seq: sequence, at_ms, subject, frame: BASE64.encode(&frame) }
    }
}

/// What was said in a room, oldest first. Where the last message is not the one at `last`, there is more: ask again after it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct HistoryBody {
    messages: Vec<MessageBody>,
    /// Place of the oldest message that is kept; those before it have made way.
    first: u64,
    /// Place of the newest message; 0: there never was one.
    last: u64,
}

/// A body, and its share of the memory that answers with messages may take: until it is sent, or nobody takes it.
struct Held {
    body: Bytes,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Reads messages of a room.
pub(super) async fn read(shared: Arc<Shared>, call: Call) -> Result<Reply, Problem> {
    let (after, limit) = asked_for(call.parameter(AFTER), call.parameter(LIMIT))?;
    let room = call.target.room()?;
    let crowded = || Kind::OVERLOADED.because("too many read messages at once; try again").soon();
    let share = timeout(bus::ASK, shared.readings.clone().acquire_owned()).await;
    let share = share.map_err(|_| crowded())?.map_err(|_| crowded())?;
    let Page { messages, first, last } = shared.histories.read(room, after, limit).await?;
    let messages = messages.into_iter().map(MessageBody::from).collect();
    Ok(Reply::json(&HistoryBody { messages, first, last })?
        .map_body(|body| Bytes::from_owner(Held { body, _share: share })))
}

/// After which place, and how many.
fn asked_for(after: Option<&str>, limit: Option<&str>) -> Result<(Option<u64>, usize), Problem> {
    let plain =
        |digits: &str| digits == "0" || !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    let bad_after = || Kind::BAD_QUERY.because("'after' is the 'seq' of a message, or 0");
    let after = after.map(|digits| digits.parse().ok().filter(|_| plain(digits)).ok_or_else(bad_after)).transpose()?;
    let most = limits::HISTORY_MOST;
    let bad_limit = || Kind::BAD_QUERY.because(format!("'limit' is a number from 1 to {most}"));
    let number = |digits: &str| digits.parse().ok().filter(|number| plain(digits) && (1..=most).contains(number));
    let limit = limit.map_or(Ok(limits::HISTORY_USUAL), |digits| number(digits).ok_or_else(bad_limit))?;
    Ok((after, limit))
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        // Why is for the log.
        let detail = "nobody answers for the messages of this room now; try again, or on another node";
        let cause = Some(error.to_string().into());
        Self { cause, store: true, ..Kind::UNAVAILABLE.because(detail).soon() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_is_asked_for_is_bounded_and_spelled_one_way() {
        assert_eq!(asked_for(None, None).unwrap(), (None, limits::HISTORY_USUAL));
        assert_eq!(asked_for(Some("0"), Some("1000")).unwrap(), (Some(0), limits::HISTORY_MOST));
        assert_eq!(asked_for(Some("18446744073709551615"), Some("1")).unwrap(), (Some(u64::MAX), 1));
        for bad in ["", "-1", "+1", "01", "00", "1e2", " 1", "18446744073709551616"] {
            assert_eq!(asked_for(Some(bad), None).unwrap_err().kind, Kind::BAD_QUERY, "{bad}");
            assert_eq!(asked_for(None, Some(bad)).unwrap_err().kind, Kind::BAD_QUERY, "{bad}");
        }
        for bad in ["0", "1001"] {
            assert_eq!(asked_for(None, Some(bad)).unwrap_err().kind, Kind::BAD_QUERY, "{bad}");
        }
    }
}
