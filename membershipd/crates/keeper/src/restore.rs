//! Messages of a copy, carried into the shard of their room: all of them, in their order, with the times at which they were said and
//! the places that they had. For a room in which nothing is said meanwhile.
//!
//! A copy has what it has, also the same frame twice, and in the end both sides are compared. So how far the shard has come is counted,
//! and a frame that the shard knows already, although it has not come so far, is given an id of its own.

use std::collections::HashSet;
use std::time::Instant;

use futures::future::join_all;

use super::append::Appended;
use super::carry::{fit, id, one};
use super::read::ReadError;
use super::shard::Shard;
use super::streams;
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_store::Message;
use unibus_store::link::Link;

/// Carries `messages` of `room` in, behind the first `there` of the copy, which are in the shard. No place in the copy is above
/// `above`, so a shard that has to be made begins behind that. Repeating is safe. Ends when all of them are there.
///
/// # Errors
/// The shard took nothing for [`bus::STORE_BUDGET`], or has less than what was there.
pub async fn restore(
    link: &Link,
    room: &RoomId,
    there: u64,
    above: u64,
    messages: &[Message],
) -> Result<(), ReadError> {
    let (shard, first) = (Shard::of(room), bus::shard_first(above));
    let all = there + u64::try_from(messages.len()).unwrap_or(u64::MAX);
    let failed = |why: String| ReadError { room: room.clone(), why };
    let mut repeated = HashSet::new();
    let mut deadline = Instant::now() + bus::STORE_BUDGET;
    let mut reached = None;
    loop {
        let why = match streams::extent(link, room, first).await {
            Ok((_, have)) if have >= all => return Ok(()),
            Ok((_, have)) if have < there => {
                return Err(failed(format!("{have} of its messages are kept, and {there} were there before")));
            }
            Ok((last, have)) => {
                if reached.replace(have) != Some(have) {
                    deadline = Instant::now() + bus::STORE_BUDGET;
                }
                let missing = usize::try_from(have - there).ok().and_then(|known| messages.get(known..));
                send(link, room, last, missing.unwrap_or_default(), &mut repeated).await;
                format!("{shard:?} does not take what is carried in")
            }
            Err(asked) => {
                tokio::time::sleep(streams::PAUSE).await;
                asked.to_string()
            }
        };
        if Instant::now() >= deadline {
            return Err(failed(why));
        }
    }
}

/// Sends the first of `missing`, behind the sequence `last` of the shard; notes the places of those whose frame is known to the shard.
async fn send(link: &Link, room: &RoomId, last: u64, missing: &[Message], repeated: &mut HashSet<u64>) {
    let sent = fit(missing).iter().zip(last..).map(|(message, before)| {
        let place = message.sequence;
        let id = if repeated.contains(&place) { format!("{}.{place}", id(room, message)) } else { id(room, message) };
        async move { (place, one(link, room, before, message, id).await) }
    });
    let answers = join_all(sent).await;
    let known = |appended: &Appended| matches!(appended, Appended::Kept { before: true, .. });
    repeated.extend(answers.iter().filter(|(_, appended)| known(appended)).map(|(place, _)| *place));
    if answers.iter().all(|(_, appended)| *appended == Appended::Again) {
        tokio::time::sleep(streams::PAUSE).await;
    }
}
