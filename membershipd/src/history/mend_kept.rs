//! A damaged stream of a room whose messages daemons keep by now: what can still be read of it is carried into the shard of the room,
//! and then it is removed. What is in a shard no member can damage.
//!
//! Whatever ends this in the middle, doing it again goes on where it was: nothing is removed before all is in the shard. Until then
//! nothing is appended that is said in the room ([`Histories::migrate`]), so it comes behind.

use super::mend::{Mended, NAMED, Note, note_on};
use super::migrate::{carry, carry_over};
use super::read::lying_in;
use super::restore::Place;
use super::streams;
use super::{Histories, HistoryError, insist};
use unibus_core::domain::RoomId;
use unibus_keeper as keeper;
use unibus_store::Message;
use unibus_store::link::Link;

impl Histories {
    /// As [`Histories::mend`], where the cluster keeps what is said.
    pub(super) async fn mend_kept(&self, link: &Link, room: &RoomId, up: bool) -> Result<Mended, HistoryError> {
        let aside = Place::aside(room);
        let there = insist(room, || streams::find_named(link, room, &aside.stream)).await?;
        if let Some(note) = there.as_ref().and_then(note_on) {
            // It was begun before the cluster kept what is said.
            carry_aside(link, room, &aside, &note).await?;
            remove(link, room, &aside).await?;
            let Note { lost, lost_places, .. } = note;
            return mended(link, room, true, lost, lost_places).await;
        }
        if there.is_some() {
            // What is damaged is as it was.
            insist(room, || streams::delete_named(link, &aside.stream)).await?;
        }
        if let Ok(None) = streams::find(link, room).await {
            return mended(link, room, false, 0, Vec::new()).await;
        }
        let Some((left, silent)) = self.left(link, room, up).await? else {
            carry_over(link, room).await?;
            return mended(link, room, false, 0, Vec::new()).await;
        };
        let after = keeper::carried(link, room).await?.unwrap_or_default();
        carry(link, room, left.messages.into_iter().filter(|message| message.sequence > after).collect()).await?;
        remove(link, room, &aside).await?;
        let lost = u64::try_from(left.unreadable.len()).unwrap_or(u64::MAX).saturating_add(silent);
        let places = left.unreadable.into_iter().take(NAMED).collect();
        mended(link, room, true, lost, places).await
    }
}

/// Carries what lies aside into the shard, with the places that it would have in the stream that was to be made of it.
async fn carry_aside(link: &Link, room: &RoomId, aside: &Place, note: &Note) -> Result<(), HistoryError> {
    let mut after = keeper::carried(link, room).await?.unwrap_or_default().saturating_sub(note.base);
    loop {
        let page = lying_in(link, room, aside, after).await.map_err(|asked| asked.about(room))?;
        if page.messages.is_empty() {
            return Ok(());
        }
        after = page.reached;
        let placed = |message: Message| Message { sequence: message.sequence.saturating_add(note.base), ..message };
        carry(link, room, page.messages.into_iter().map(placed).collect()).await?;
    }
}

/// Removes the stream of `room`, and then what lies aside: all of it is in the shard.
async fn remove(link: &Link, room: &RoomId, aside: &Place) -> Result<(), HistoryError> {
    insist(room, || streams::delete(link, room)).await?;
    insist(room, || streams::delete_named(link, &aside.stream)).await
}

async fn mended(
    link: &Link,
    room: &RoomId,
    was_damaged: bool,
    lost: u64,
    lost_places: Vec<u64>,
) -> Result<Mended, HistoryError> {
    let kept = keeper::count(link, room).await?;
    Ok(Mended { room: room.clone(), was_damaged, kept, lost, lost_places })
}
