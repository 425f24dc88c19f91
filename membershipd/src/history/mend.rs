//! A damaged stream of a room, replaced by a new one that has all that can still be read, in its order, with the times at which it
//! was said.
//!
//! What can be read is first laid aside, in a stream of its own, and only when all of it is there, and that is noted on it, the
//! damaged one goes. The new one is filled from what lies aside, and begins after the last place of the old one, so that a client
//! that has read up to a place misses nothing. As long as something lies aside the room's stream keeps nothing that is said
//! ([`Histories::settle`]): it would come in between. Whatever ends this in the middle, doing it again goes on where it was.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::restore::{self, Place, restored_bytes};
use super::streams::{self, Asked, Stream};
use super::wanted::Wanted;
use super::{Histories, HistoryError, damage, insist, read};
use unibus_core::domain::{FeatureLevel, RoomId};
use unibus_keeper as keeper;
use unibus_store::Message;
use unibus_store::link::Link;

/// What is noted on the stream aside once all is there.
const NOTED: &str = "unibus_mending";
/// Sequences that are named; the rest are counted.
pub(super) const NAMED: usize = 100;

/// What a mending came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// The room.
    pub room: RoomId,
    /// Whether anything was damaged.
    pub was_damaged: bool,
    /// Messages that its history has now.
    pub kept: u64,
    /// Messages that were kept and could not be read any more.
    pub lost: u64,
    /// The places that they had, as far as they are known: the first hundred.
    pub lost_places: Vec<u64>,
}

/// What lies aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The place before the first one of the new stream.
    pub(super) base: u64,
    kept: u64,
    pub(super) lost: u64,
    pub(super) lost_places: Vec<u64>,
}

/// All that could be read of a stream.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) messages: Vec<Message>,
    /// Places of those that cannot be read, or not be carried anywhere.
    pub(super) unreadable: Vec<u64>,
    reached: u64,
    damaged: bool,
    /// The last place that any copy has.
    last: u64,
}

impl Histories {
    /// Replaces the stream of `room` if it is damaged. Where messages are kept that no copy gives out now, but may after a restart
    /// of an engine, nothing is changed unless they are to be given `up`. Repeating is safe.
    pub async fn mend(&self, room: &RoomId, up: bool) -> Result<Mended, HistoryError> {
        let _alone = self.mending.lock().await;
        let link = self.link(room)?;
        let refused = |why: &str| HistoryError::Refused { room: room.clone(), why: why.to_owned() };
        match self.gate.view(|view| Wanted::of(room, view)) {
            None => return Err(refused("there is no such room")),
            Some(Wanted::Gone) => {
                let aside = Place::aside(room);
                insist(room, || streams::delete_named(&link, &aside.stream)).await?;
                return Err(refused("the room is removed"));
            }
            Some(_) => {}
        }
        if self.gate.view(|view| view.level() >= FeatureLevel::Kept) {
            return self.mend_kept(&link, room, up).await;
        }
        let aside = Place::aside(room);
        let there = insist(room, || streams::find_named(&link, room, &aside.stream)).await?;
        let note = match there.as_ref().map(note_on) {
            Some(Some(note)) => Some(note),
            unfinished => {
                if unfinished.is_some() {
                    // What is damaged is as it was.
                    insist(room, || streams::delete_named(&link, &aside.stream)).await?;
                }
                self.lay_aside(&link, room, &aside, up).await?
            }
        };
        let Some(note) = note else {
            self.settle(room).await?;
            let kept = insist(room, || streams::find(&link, room)).await?.map_or(0, |stream| stream.messages);
            return Ok(Mended { room: room.clone(), was_damaged: false, kept, lost: 0, lost_places: Vec::new() });
        };
        replace(&link, room, &aside, &note).await?;
        insist(room, || streams::delete_named(&link, &aside.stream)).await?;
        self.settle(room).await?;
        let Note { kept, lost, lost_places, .. } = note;
        Ok(Mended { room: room.clone(), was_damaged: true, kept, lost, lost_places })
    }

    /// Lays aside what can be read; none: nothing is damaged.
    async fn lay_aside(
        &self,
        link: &Link,
        room: &RoomId,
        aside: &Place,
        up: bool,
    ) -> Result<Option<Note>, HistoryError> {
        let Some((left, silent)) = self.left(link, room, up).await? else { return Ok(None) };
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let (kept, unreadable) = (count(left.messages.len()), count(left.unreadable.len()));
        let bytes = left.messages.iter().map(|message| restored_bytes(room, message)).sum();
        restore::carry(link, room, aside, bytes, 0, &left.messages).await?;
        let lost_places = left.unreadable.iter().copied().take(NAMED).collect();
        let note = Note { base: left.last.max(left.reached) + 1, kept, lost: unreadable + silent, lost_places };
        let text = json!({ NOTED: serde_json::to_string(&note).unwrap_or_default() });
        insist(room, || async {
            let stream = streams::find_named(link, room, &aside.stream).await?.ok_or(Asked::Missing)?;
            if stream.messages != kept {
                return Err(Asked::Refused(0, format!("{} of {kept} messages lie aside", stream.messages)));
            }
            streams::note(link, &aside.stream, &stream, text.clone()).await
        })
        .await?;
        Ok(Some(note))
    }

    /// All that can be read of the stream of `room`, which keeps nothing more then, and how many messages of it no copy gives out now;
    /// none: nothing is damaged.
    pub(super) async fn left(&self, link: &Link, room: &RoomId, up: bool) -> Result<Option<(Left, u64)>, HistoryError> {
        let mut left = Left { damaged: damage::of(link, room).await.is_some(), ..Left::default() };
        left.read_on(link, room).await?;
        if !left.damaged && left.unreadable.is_empty() {
            return Ok(None);
        }
        let about = |asked: Asked| asked.about(room);
        // One that still listens keeps nothing more from here on, and what it had kept by then is read, too.
        if let Ok(Some(stream)) = streams::find(link, room).await
            && streams::set(link, room, &stream, None).await.is_ok()
        {
            left.read_on(link, room).await?;
        }
        let (last, had) = super::copies::most(link, room).await.ok_or_else(|| about(Asked::Missing))?;
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let (kept, unreadable) = (count(left.messages.len()), count(left.unreadable.len()));
        let silent = had.saturating_sub(kept + unreadable);
        if silent > 0 && !up {
            let why = format!(
                "{silent} of its {had} messages are kept, but no copy gives them out now; restart the engines one after the \
                 other and mend it then, or mend it without them: --without-unreadable"
            );
            return Err(HistoryError::Refused { room: room.clone(), why });
        }
        left.last = last;
        Ok(Some((left, silent)))
    }
}

/// Puts a stream with what lies `aside` in the place of that of `room`.
async fn replace(link: &Link, room: &RoomId, aside: &Place, note: &Note) -> Result<(), HistoryError> {
    let place = Place::of(room, note.base);
    insist(room, || async {
        match streams::find(link, room).await {
            Ok(Some(stream)) if stream.begins_at() == note.base + 1 => Ok(()),
            Ok(None) => streams::make_at(link, room, &place, 0).await,
            // One that no engine leads may not even describe itself.
            Ok(Some(_)) | Err(Asked::Silent(_)) => {
                streams::delete(link, room).await?;
                Err(Asked::Silent("the damaged stream goes".to_owned()))
            }
            Err(other) => Err(other),
        }
    })
    .await?;
    let (mut there, mut after, mut bytes) = (0u64, 0, 0);
    while there < note.kept {
        let page = insist(room, || read::lying_in(link, room, aside, after)).await?;
        if page.messages.is_empty() {
            break;
        }
        after = page.reached;
        bytes += page.messages.iter().map(|message| restored_bytes(room, message)).sum::<u64>();
        restore::carry(link, room, &place, bytes, there, &page.messages).await?;
        there += u64::try_from(page.messages.len()).unwrap_or(u64::MAX);
    }
    let stream = insist(room, || streams::find(link, room)).await?;
    let has = stream.map_or(0, |stream| stream.messages);
    if has == note.kept && there == note.kept {
        return Ok(());
    }
    // All still lies aside: the next attempt begins with an empty one.
    insist(room, || streams::delete(link, room)).await?;
    let why = format!("{has} messages were put in place, of {}; nothing is lost: do it again", note.kept);
    Err(HistoryError::Refused { room: room.clone(), why })
}

impl Left {
    /// Reads what comes after what was read.
    async fn read_on(&mut self, link: &Link, room: &RoomId) -> Result<(), HistoryError> {
        loop {
            let read = match read::captured(link, room, self.reached).await {
                // All nodes are there, and still no engine leads it.
                Err(HistoryError::Unavailable { why, .. }) => read::left_over(link, room, self.reached, why).await,
                read => read?.unwrap_or_default(),
            };
            self.damaged |= read.damaged.is_some();
            let end = read.is_end() || read.damaged.is_some();
            self.reached = self.reached.max(read.reached);
            let (fit, large): (Vec<Message>, Vec<Message>) =
                read.messages.into_iter().partition(keeper::can_be_carried);
            self.messages.extend(fit);
            self.unreadable.extend(read.unreadable.into_iter().chain(large.iter().map(|message| message.sequence)));
            if end {
                return Ok(());
            }
        }
    }
}

/// What is noted on a stream aside; none: not all is there.
pub(super) fn note_on(stream: &Stream) -> Option<Note> {
    serde_json::from_str(stream.note(NOTED)?).ok()
}
