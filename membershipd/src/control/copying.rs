//! Copies of the store through the control socket: what goes over it, and either end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Failure, Request, client};
use crate::config::StoreKind;
use crate::posture::{Observer, SCHEMA};
use crate::store::{Position, Revision, Store};
use crate::transfer::{Answer, End, Item, Items, OfStore, Part, Put, TransferError};

/// Longest wait for one answer: a page is read, or a batch written, item by item through an election at worst.
const PATIENCE: Duration = Duration::from_secs(120);

/// An item in a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// Its key; none: a record of the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Its value, base64.
    value: String,
    /// Its revision where it comes from.
    revision: u64,
}

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
}

impl Copying {
    /// A page, by the word of a node that can prove its view.
    pub(super) async fn read(&self, part: Part, after: u64) -> Result<Value, Failure> {
        self.proven()?;
        if after == 0 {
            tracing::info!(bucket = part.name(), "a copy is being made");
        }
        let read = OfStore(self.store.clone()).read(part, Position(after)).await.map_err(explain)?;
        let items: Vec<Sent> = read.items.into_iter().map(Sent::from).collect();
        Ok(json!({ "schema": SCHEMA, "items": items, "next": read.next.map(|next| next.0) }))
    }

    /// Items written where there are none.
    pub(super) async fn write(&self, part: Part, items: Vec<Sent>) -> Result<Value, Failure> {
        self.proven()?;
        if self.observer.config.store != StoreKind::Kv {
            let message = "this daemon keeps its entries in a file; nothing is carried into that";
            let remedy = "stop it, and start it with the file itself as --db, or with --store kv";
            return Err(Failure::new("bad_request", message, remedy));
        }
        let items: Result<Vec<Item>, String> = items.into_iter().map(Item::try_from).collect();
        let remedy = "use the membershipd of the running version";
        let items =
            items.map_err(|why| Failure::new("bad_request", &format!("an item is not understood: {why}"), remedy))?;
        tracing::info!(bucket = part.name(), items = items.len(), "carried in from a file");
        let puts = OfStore(self.store.clone()).write(part, items).await.map_err(explain)?;
        Ok(json!({ "schema": SCHEMA, "puts": puts }))
    }

    fn proven(&self) -> Result<(), Failure> {
        if self.observer.gate.lease_valid(Instant::now()) {
            return Ok(());
        }
        let message = "this node has no proof that its view is current: no quorum, or it has just started";
        Err(Failure::new("unavailable", message, "see 'membershipd status'; try again, or on another node"))
    }
}

fn explain(error: TransferError) -> Failure {
    Failure::new(error.code(), &error.to_string(), &error.remedy())
}

/// A running daemon's store, as whoever runs a verb beside it sees it.
#[derive(Debug, Clone)]
pub struct OverSocket {
    /// The daemon's runtime directory.
    pub runtime_dir: PathBuf,
}

impl OverSocket {
    async fn ask<T: serde::de::DeserializeOwned>(&self, request: Request) -> Result<T, TransferError> {
        let runtime_dir = self.runtime_dir.clone();
        let asked = tokio::task::spawn_blocking(move || client::ask_for(&runtime_dir, &request, PATIENCE)).await;
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
}

#[cfg(test)]
mod tests {
    use super::super::REQUEST_BYTES;
    use super::*;
    use crate::bus::VALUE_BYTES;
    use crate::transfer::BATCH_BYTES;

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
