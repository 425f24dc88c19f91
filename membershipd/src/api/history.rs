//! What was said in rooms that persist, over the API.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;

use super::call::{AFTER_MESSAGE, Call, MESSAGES, Reply};
use super::keyed_limiter::{Party, Place};
use super::limits;
use super::problem::Problem;
use super::shared::Shared;
use super::target::OneRoom;
use crate::api::problem::Refuse as _;
use crate::history::{HistoryError, Page};
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::bus;
use unibus_store::Message;

fn body_of(Message { sequence, at_ms, subject, frame }: Message) -> bodies::Message {
    bodies::Message { seq: sequence, at_ms, subject, frame: BASE64.encode(&frame) }
}

/// A body, and its share of the memory that answers with messages may take: until it is sent, or nobody takes it.
struct Held {
    body: Bytes,
    _share: Place,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Reads messages of a room.
pub(super) async fn read(shared: Arc<Shared>, call: Call<OneRoom>) -> Result<Reply, Problem> {
    let (after, limit) = asked_for(call.parameter(AFTER_MESSAGE), call.parameter(MESSAGES))?;
    let OneRoom(room) = &call.target;
    let [user, address] = call.parties();
    // A room has a share as well: its readers may all be slow to take their answers.
    let parties = [user, address, Party::Room(room.clone())];
    let share = shared.readings.take_within(&parties, 1, bus::ASK).await?;
    let Page { messages, first, last, unreadable, more, .. } = shared.histories.read(room, after, limit).await?;
    let messages = messages.into_iter().map(body_of).collect();
    Ok(Reply::json(&bodies::History { messages, first, last, more, unreadable })?
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
        let detail = match &error {
            HistoryError::Damaged { .. } => "the history of this room is damaged; the operator of the bus can mend it",
            _ => "nobody answers for the messages of this room now; try again, or on another node",
        };
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
