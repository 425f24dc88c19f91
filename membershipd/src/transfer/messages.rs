//! What was said in rooms, as an end of a copy has it: in the engine, in a file, or behind a daemon's socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;

use super::end::Answer;
use super::error::TransferError;
use crate::history::{self, HistoryError, Readable};
use unibus_core::domain::{FeatureLevel, InvalidValue, LevelRecord, RoomId};
use unibus_core::view::LEVEL_KEY;
use unibus_keeper as keeper;
use unibus_store::link::Link;
use unibus_store::{Message, Records, SqliteStore, Store, get_json};

/// The messages of rooms, each room's in their order.
pub trait Messages: Send + Sync {
    /// The rooms that have messages, or could have.
    fn rooms(&self) -> Answer<'_, Vec<RoomId>>;

    /// The same, each with a mark: as long as it stays as it is nothing was said there; none: it has to be read to know.
    fn marked(&self) -> Answer<'_, BTreeMap<RoomId, Option<String>>> {
        async move { Ok(self.rooms().await?.into_iter().map(|room| (room, None)).collect()) }.boxed()
    }

    /// Messages of `room` after a sequence, as many as go together; none: there are no more.
    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>>;

    /// The same for a copy that leaves out what is damaged: what can be read, and what cannot.
    fn readable<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Readable> {
        async move {
            let messages = self.said(room, after).await?;
            let reached = messages.last().map_or(after, |last| last.sequence);
            Ok(Readable { messages, reached, ..Readable::default() })
        }
        .boxed()
    }

    /// Puts `messages` behind the first `there` of a copy, which are in place. Repeating is safe.
    fn keep<'a>(&'a self, room: &'a RoomId, there: u64, whole: Whole, messages: Vec<Message>) -> Answer<'a, ()>;
}

/// What there is to know of a copy before the first of its messages is carried in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// What all messages of the room together will take ([`history::restored_bytes`]).
    pub bytes: u64,
    /// The highest place that a message of any room has.
    pub above: u64,
}

/// Those in the streams of an engine: of a cluster that keeps what is said, in its shards.
#[derive(Clone)]
pub struct InEngine {
    link: watch::Receiver<Option<Arc<Link>>>,
    store: Arc<dyn Store>,
}

impl InEngine {
    /// Those in the engine that is linked, of the rooms in `store`, which says where they are kept.
    pub fn new(link: watch::Receiver<Option<Arc<Link>>>, store: Arc<dyn Store>) -> Self {
        Self { link, store }
    }

    fn link(&self) -> Result<Arc<Link>, TransferError> {
        let none = || TransferError::NoMessages("there is no session with the engine".to_owned());
        self.link.borrow().clone().ok_or_else(none)
    }
}

/// The feature level that `store` has.
async fn level_of(store: &dyn Store) -> Result<FeatureLevel, TransferError> {
    let key = LEVEL_KEY.parse().map_err(|error: InvalidValue| TransferError::NotUnderstood(error.to_string()))?;
    let entry = get_json::<LevelRecord>(store, Records::Rooms, &key).await?;
    Ok(entry.map(|entry| entry.value.level).unwrap_or_default())
}

/// Carries messages of a copy in, to where the cluster, which is at `level`, keeps what is said.
async fn keep_at(
    level: FeatureLevel,
    link: &Link,
    room: &RoomId,
    there: u64,
    Whole { bytes, above }: Whole,
    messages: &[Message],
) -> Result<(), HistoryError> {
    if level < FeatureLevel::Kept {
        return history::restore(link, room, there, bytes, messages).await;
    }
    // A node that did not know the level yet may have made a stream for the room.
    history::carry_over(link, room).await?;
    Ok(keeper::restore(link, room, there, above, messages).await?)
}

impl Messages for InEngine {
    fn rooms(&self) -> Answer<'_, Vec<RoomId>> {
        async move { Ok(self.marked().await?.into_keys().collect()) }.boxed()
    }

    fn marked(&self) -> Answer<'_, BTreeMap<RoomId, Option<String>>> {
        async move { history::rooms(&*self.link()?).await.map_err(TransferError::NoMessages) }.boxed()
    }

    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>> {
        async move { Ok(history::export(&*self.link()?, room, after).await?.whole(room)?) }.boxed()
    }

    fn readable<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Readable> {
        async move { Ok(history::export(&*self.link()?, room, after).await?) }.boxed()
    }

    fn keep<'a>(&'a self, room: &'a RoomId, there: u64, whole: Whole, messages: Vec<Message>) -> Answer<'a, ()> {
        async move {
            let level = level_of(&*self.store).await?;
            Ok(keep_at(level, &*self.link()?, room, there, whole, &messages).await?)
        }
        .boxed()
    }
}

/// Those in a file, which a node carries into its engine when it starts with it. Nothing is put into one that is there.
impl Messages for SqliteStore {
    fn rooms(&self) -> Answer<'_, Vec<RoomId>> {
        async move {
            let rooms = self.rooms_with_messages().await?;
            let rooms = rooms.into_iter().map(|room| room.parse()).collect::<Result<_, _>>();
            rooms.map_err(|error| TransferError::NotUnderstood(format!("messages of no room: {error}")))
        }
        .boxed()
    }

    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>> {
        async move { Ok(self.messages(room.as_str(), after).await?) }.boxed()
    }

    fn keep<'a>(&'a self, room: &'a RoomId, _: u64, _: Whole, _: Vec<Message>) -> Answer<'a, ()> {
        let refused =
            TransferError::NoMessages(format!("nothing is added to a file, as the messages of room '{room}'"));
        std::future::ready(Err(refused)).boxed()
    }
}

/// Those of `messages` that an engine takes. A release that captured what members said may have captured larger ones.
pub(super) fn carriable(room: &RoomId, mut messages: Vec<Message>) -> Vec<Message> {
    messages.retain(|message| {
        let fits = keeper::can_be_carried(message);
        if !fits {
            tracing::warn!(%room, sequence = message.sequence, "a message is too large for the engine, and stays in the file");
        }
        fits
    });
    messages
}

impl From<HistoryError> for TransferError {
    fn from(error: HistoryError) -> Self {
        TransferError::NoMessages(error.to_string())
    }
}

/// Carries the messages in `file` into the engine of the node whose store it is, room by room; what is in the engine goes
/// from the file. For a node that starts, before it lets anybody in: so nothing said later comes before them.
pub async fn unpack(file: &SqliteStore, link: &Link) -> Result<(), TransferError> {
    let level = level_of(file).await?;
    let (mut sizes, mut above) = (BTreeMap::new(), 0);
    for room in file.rooms().await? {
        let (mut after, mut bytes) = (0, 0);
        loop {
            let page = file.said(&room, after).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            bytes += page.iter().map(|message| history::restored_bytes(&room, message)).sum::<u64>();
        }
        above = above.max(after);
        sizes.insert(room, bytes);
    }
    for (room, bytes) in sizes {
        let (mut after, mut there) = (0, 0);
        loop {
            let page = file.said(&room, after).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            let page = carriable(&room, page);
            keep_at(level, link, &room, there, Whole { bytes, above }, &page).await?;
            there += u64::try_from(page.len()).unwrap_or(u64::MAX);
        }
        file.forget_messages(room.as_str()).await?;
        tracing::info!(%room, messages = there, "messages of a room were carried from the file into the engine");
    }
    Ok(())
}
