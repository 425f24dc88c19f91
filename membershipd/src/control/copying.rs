//! Copies of the store through the control socket: what goes over it, and either end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Failure, Request};
use crate::blobs::Blobs;
use crate::config::StoreKind;
use crate::history::Readable;
use crate::posture::{Observer, SCHEMA};
use crate::transfer::{Answer, BlobEnd, End, InEngine, Item, Items, Messages, OfStore, Put, TransferError, Whole};
use unibus_api_types::control::{LIST_PAGE, Part, Sent, SentMessage, page};
use unibus_core::domain::RoomId;
use unibus_store::{Message, Position, Revision, Store};

/// Longest wait for one answer: a page is read, or a batch written, item by item through an election at worst.
const PATIENCE: Duration = Duration::from_secs(120);

impl From<Item> for Sent {
    fn from(item: Item) -> Self {
        let key = item.key.map(|key| key.to_string());
        Self { key, value: BASE64.encode(&item.value), revision: item.revision.get() }
    }
}

impl TryFrom<Sent> for Item {
    type Error = String;

    fn try_from(sent: Sent) -> Result<Self, String> {
        let key = sent.key.map(|key| key.parse()).transpose().map_err(|error| format!("{error}"))?;
        let value = BASE64.decode(sent.value.as_bytes()).map_err(|error| format!("a value is no base64: {error}"))?;
        let revision = Revision::new(sent.revision).ok_or("revision 0 is none")?;
        Ok(Item { key, value: value.into(), revision })
    }
}

fn encoded(Message { sequence, at_ms, subject, frame }: Message) -> SentMessage {
    SentMessage { sequence, at_ms, subject, frame: BASE64.encode(&frame) }
}

fn decoded(SentMessage { sequence, at_ms, subject, frame }: SentMessage) -> Result<Message, String> {
    let frame = BASE64.decode(frame.as_bytes()).map_err(|error| format!("a message is no base64: {error}"))?;
    // It becomes a header, and must not become two.
    let plain = !subject.is_empty() && subject.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if plain {
        Ok(Message { sequence, at_ms, subject, frame: frame.into() })
    } else {
        Err("a subject that is none".to_owned())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Rooms {
    rooms: Vec<RoomId>,
    /// A daemon of 0.1.0 has none.
    #[serde(default)]
    marks: BTreeMap<RoomId, String>,
    /// A daemon of 0.1.0 does not tell: it answers with all.
    #[serde(default)]
    next: Option<RoomId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Said {
    messages: Vec<SentMessage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<u64>,
    /// A daemon of 0.1.0 does not tell: it has no answer with anything but messages.
    #[serde(default)]
    reached: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Read {
    items: Vec<Sent>,
    next: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    puts: Vec<Put>,
}

/// The daemon's end.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) observer: Observer,
    pub(super) store: Arc<dyn Store>,
    pub(super) blobs: Blobs,
}

impl Copying {
    /// A page, by the word of a node that can prove its view.
    pub(super) async fn read(&self, part: Part, after: u64) -> Result<Value, Failure> {
        self.proven()?;
        if after == 0 {
            tracing::info!(bucket = part.name(), "a copy is being made");
        }
        let read = self.end().read(part, Position(after)).await.map_err(explain)?;
        let items: Vec<Sent> = read.items.into_iter().map(Sent::from).collect();
        Ok(json!({ "schema": SCHEMA, "items": items, "next": read.next.map(|next| next.0) }))
    }

    /// Items written where there are none.
    pub(super) async fn write(&self, part: Part, items: Vec<Sent>) -> Result<Value, Failure> {
        self.takes()?;
        let items: Result<Vec<Item>, String> = items.into_iter().map(Item::try_from).collect();
        let remedy = "use the membershipd of the running version";
        let items =
            items.map_err(|why| Failure::new("bad_request", &format!("an item is not understood: {why}"), remedy))?;
        tracing::info!(bucket = part.name(), items = items.len(), "carried in from a file");
        let puts = self.end().write(part, items).await.map_err(explain)?;
        Ok(json!({ "schema": SCHEMA, "puts": puts }))
    }

    /// A page of the rooms that have messages.
    pub(super) async fn rooms(&self, after: Option<&RoomId>, limit: Option<usize>) -> Result<Value, Failure> {
        self.proven()?;
        let marked = self.end().messages().marked().await.map_err(explain)?;
        let (rooms, next) = page(marked.keys().cloned(), |room| room, after, limit);
        let marks: BTreeMap<&RoomId, &String> =
            rooms.iter().filter_map(|room| Some((room, marked.get(room)?.as_ref()?))).collect();
        Ok(json!({ "schema": SCHEMA, "rooms": rooms, "marks": marks, "next": next }))
    }

    /// Messages of a room.
    pub(super) async fn said(&self, room: &RoomId, after: u64) -> Result<Value, Failure> {
        self.proven()?;
        let read = self.end().messages().readable(room, after).await.map_err(explain)?;
        let Readable { messages, unreadable, reached, damaged } = read;
        let said = Said { messages: messages.into_iter().map(encoded).collect(), unreadable, reached, damaged };
        let mut answer = json!(said);
        if let Some(map) = answer.as_object_mut() {
            map.insert("schema".to_owned(), json!(SCHEMA));
        }
        Ok(answer)
    }

    /// Messages put behind those that are there.
    pub(super) async fn keep(
        &self,
        room: &RoomId,
        there: u64,
        whole: Whole,
        messages: Vec<SentMessage>,
    ) -> Result<Value, Failure> {
        self.takes()?;
        let messages: Result<Vec<Message>, String> = messages.into_iter().map(decoded).collect();
        let remedy = "use the membershipd of the running version, or another backup";
        let messages = messages
            .map_err(|why| Failure::new("bad_request", &format!("a message is not understood: {why}"), remedy))?;
        tracing::info!(%room, messages = messages.len(), "carried in from a file");
        self.end().messages().keep(room, there, whole, messages).await.map_err(explain)?;
        Ok(json!({ "schema": SCHEMA }))
    }

    fn end(&self) -> OfStore {
        OfStore::new(self.store.clone(), Arc::new(InEngine::new(self.observer.link.clone(), self.store.clone())))
    }

    pub(super) fn takes(&self) -> Result<(), Failure> {
        self.proven()?;
        if self.observer.config.store == StoreKind::Kv {
            return Ok(());
        }
        let message = "this daemon keeps its entries in a file; nothing is carried into that";
        let remedy = "stop it, and start it with the file itself as --db, or with --store kv";
        Err(Failure::new("bad_request", message, remedy))
    }

    pub(super) fn proven(&self) -> Result<(), Failure> {
        self.observer.gate.require_lease(Instant::now()).map_err(super::not_proven)
    }
}

pub(super) fn explain(error: TransferError) -> Failure {
    Failure::new(error.code(), &error.to_string(), &error.remedy())
}

/// A running daemon's store, as whoever runs a verb beside it sees it.
#[derive(Debug, Clone)]
pub struct OverSocket {
    /// The daemon's runtime directory.
    pub runtime_dir: PathBuf,
}

impl OverSocket {
    pub(super) async fn ask<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<T, TransferError> {
        let runtime_dir = self.runtime_dir.clone();
        let asked = tokio::task::spawn_blocking(move || super::ask_for(&runtime_dir, &request, PATIENCE)).await;
        let strange = |why: String| TransferError::Daemon {
            code: "version".to_owned(),
            message: format!("the daemon's answer is not understood: {why}"),
            remedy: "use the membershipd of the running version".to_owned(),
        };
        let answer = asked.map_err(|error| strange(error.to_string()))?;
        let answer =
            answer.map_err(|Failure { code, message, remedy }| TransferError::Daemon { code, message, remedy })?;
        serde_json::from_value(answer).map_err(|error| strange(error.to_string()))
    }

    /// All pages of the rooms that have messages.
    async fn all_rooms(&self) -> Result<Rooms, TransferError> {
        let mut all = Rooms::default();
        loop {
            let after = all.next.take();
            let page: Rooms = self.ask(Request::CopyRooms { after, limit: Some(LIST_PAGE) }).await?;
            all.rooms.extend(page.rooms);
            all.marks.extend(page.marks);
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
    }
}

impl End for OverSocket {
    fn read(&self, part: Part, after: Position) -> Answer<'_, Items> {
        async move {
            let read: Read = self.ask(Request::CopyOut { part, after: after.0 }).await?;
            let items = read.items.into_iter().map(Item::try_from).collect::<Result<Vec<_>, _>>();
            let items = items.map_err(TransferError::NotUnderstood)?;
            Ok(Items { items, next: read.next.map(Position) })
        }
        .boxed()
    }

    fn write(&self, part: Part, items: Vec<Item>) -> Answer<'_, Vec<Put>> {
        async move {
            let items = items.into_iter().map(Sent::from).collect();
            let written: Written = self.ask(Request::CopyIn { part, items }).await?;
            Ok(written.puts)
        }
        .boxed()
    }

    fn messages(&self) -> &dyn Messages {
        self
    }

    fn blobs(&self) -> Option<&dyn BlobEnd> {
        Some(self)
    }
}

impl Messages for OverSocket {
    fn rooms(&self) -> Answer<'_, Vec<RoomId>> {
        async move { Ok(self.all_rooms().await?.rooms) }.boxed()
    }

    fn marked(&self) -> Answer<'_, BTreeMap<RoomId, Option<String>>> {
        async move {
            let Rooms { rooms, mut marks, .. } = self.all_rooms().await?;
            Ok(rooms.into_iter().map(|room| (room.clone(), marks.remove(&room))).collect())
        }
        .boxed()
    }

    fn said<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Vec<Message>> {
        async move { Ok(self.readable(room, after).await?.whole(room)?) }.boxed()
    }

    fn readable<'a>(&'a self, room: &'a RoomId, after: u64) -> Answer<'a, Readable> {
        async move {
            let Said { messages, unreadable, reached, damaged } =
                self.ask(Request::CopySaid { room: room.clone(), after }).await?;
            let messages = messages.into_iter().map(decoded).collect::<Result<Vec<_>, _>>();
            let messages = messages.map_err(TransferError::NotUnderstood)?;
            let reached = messages.last().map_or(after, |last| last.sequence).max(reached);
            Ok(Readable { messages, unreadable, reached, damaged })
        }
        .boxed()
    }

    fn keep<'a>(&'a self, room: &'a RoomId, there: u64, whole: Whole, messages: Vec<Message>) -> Answer<'a, ()> {
        async move {
            let messages = messages.into_iter().map(encoded).collect();
            let Whole { bytes, above } = whole;
            let _: Value = self.ask(Request::CopyKeep { room: room.clone(), there, bytes, above, messages }).await?;
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::super::REQUEST_BYTES;
    use super::*;
    use crate::transfer::BATCH_BYTES;
    use unibus_core::bus::VALUE_BYTES;

    #[test]
    fn items_survive_the_way_and_the_longest_fit_into_a_request() {
        let item = |key: Option<&str>, bytes| Item {
            key: key.map(|key| key.parse().unwrap()),
            value: vec![0xff; bytes].into(),
            revision: Revision::new(3).unwrap(),
        };
        for item in [item(Some("user.root"), 3), item(None, 0)] {
            let text = serde_json::to_string(&Sent::from(item.clone())).unwrap();
            assert_eq!(Item::try_from(serde_json::from_str::<Sent>(&text).unwrap()), Ok(item));
        }
        let longest = VALUE_BYTES.max(BATCH_BYTES);
        let items = vec![Sent::from(item(Some(&"k".repeat(256)), longest))];
        let part = Part::ALL[0];
        let request = serde_json::to_string(&Request::CopyIn { part, items }).unwrap();
        assert!(request.len() as u64 * 5 / 4 < REQUEST_BYTES, "{}", request.len());
        // Many small ones take more beside their values.
        let items = (0..BATCH_BYTES / 32).map(|_| Sent::from(item(Some("user.abcdefghijk"), 16))).collect();
        let request = serde_json::to_string(&Request::CopyIn { part, items }).unwrap();
        assert!((request.len() as u64) < REQUEST_BYTES, "{}", request.len());
        for (field, bad) in [("key", "a b"), ("value", "?"), ("revision", "")] {
            let mut sent = Sent::from(item(Some("a"), 1));
            match field {
                "key" => sent.key = Some(bad.to_owned()),
                "value" => bad.clone_into(&mut sent.value),
                _ => sent.revision = 0,
            }
            assert!(Item::try_from(sent).is_err(), "{field}");
        }
    }
}
