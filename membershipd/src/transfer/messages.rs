//! What was said in rooms, as an end of a copy has it: in the engine, in a file, or behind a daemon's socket.

use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;

use super::end::Answer;
use super::error::TransferError;
use crate::history::{self, HistoryError, Readable};
use unibus_core::domain::RoomId;
use unibus_store::link::Link;
use unibus_store::{Message, SqliteStore};

/// The messages of rooms, each room's in their order.
pub trait Messages: Send + Sync {
    /// The rooms that have messages, or could have.
    fn rooms(&self) -> Answer<'_, Vec<RoomId>>;

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

    /// Puts `messages` behind the first `there` of a copy, which are in place. All of the room's messages together will take
    /// `bytes` ([`history::restored_bytes`]). Repeating is safe.
    fn keep<'a>(&'a self, room: &'a RoomId, there: u64, bytes: u64, messages: Vec<Message>) -> Answer<'a, ()>;
}

/// Those in the streams of an engine.
#[derive(Debug, Clone)]
pub struct InEngine(pub watch::Receiver<Option<Arc<Link>>>);

impl InEngine {
    fn link(&self) -> Result<Arc<Link>, TransferError> {
        let none = || TransferError::NoMessages("there is no session with the engine".to_owned());
        self.0.borrow().clone().ok_or_else(none)
    }
}

impl Messages for InEngine {
    fn rooms(&self) -> Answer<'_, Vec<RoomId>> {
        async move { history::rooms(&*self.link()?).await.map_err(TransferError::NoMessages) }.boxed()
    }

    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>> {
        async move { Ok(history::export(&*self.link()?, room, after).await?.whole(room)?) }.boxed()
    }

    fn readable<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Readable> {
        async move { Ok(history::export(&*self.link()?, room, after).await?) }.boxed()
    }

    fn keep<'a>(&'a self, room: &'a RoomId, there: u64, bytes: u64, messages: Vec<Message>) -> Answer<'a, ()> {
        async move { Ok(history::restore(&*self.link()?, room, there, bytes, &messages).await?) }.boxed()
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

    fn keep<'a>(&'a self, room: &'a RoomId, _: u64, _: u64, _: Vec<Message>) -> Answer<'a, ()> {
        let refused =
            TransferError::NoMessages(format!("nothing is added to a file, as the messages of room '{room}'"));
        std::future::ready(Err(refused)).boxed()
    }
}

impl From<HistoryError> for TransferError {
    fn from(error: HistoryError) -> Self {
        TransferError::NoMessages(error.to_string())
    }
}

/// Carries the messages in `file` into the engine of the node whose store it is, room by room; what is in the engine goes
/// from the file. For a node that starts, before it lets anybody in: so nothing said later comes before them.
pub async fn unpack(file: &SqliteStore, link: &Link) -> Result<(), TransferError> {
    for room in file.rooms().await? {
        let (mut after, mut bytes) = (0, 0);
        loop {
            let page = file.said(&room, after).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            bytes += page.iter().map(|message| history::restored_bytes(&room, message)).sum::<u64>();
        }
        let (mut after, mut there) = (0, 0);
        loop {
            let page = file.said(&room, after).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            history::restore(link, &room, there, bytes, &page).await?;
            there += u64::try_from(page.len()).unwrap_or(u64::MAX);
        }
        file.forget_messages(room.as_str()).await?;
        tracing::info!(%room, messages = there, "messages of a room were carried from the file into the engine");
    }
    Ok(())
}
