//! What was said in rooms, as a copy has it in its file: read, and forgotten once it is in an engine.

use rusqlite::{Connection, params};

use super::SqliteStore;
use super::statements::{self, Write};
use crate::error::{Operation, StoreError};
use crate::message::Message;
use unibus_core::bus::Bucket;

/// Messages that are read at once, and bytes of them after which no more are.
const AT_ONCE: usize = 1_000;
const BYTES: usize = 1 << 20;

impl SqliteStore {
    /// The rooms of which the file has messages, by their ids.
    pub async fn rooms_with_messages(&self) -> Result<Vec<String>, StoreError> {
        let rooms = |connection: &Connection| {
            let mut select = connection.prepare_cached("SELECT DISTINCT room FROM history ORDER BY room")?;
            select.query_map([], |row| row.get(0))?.collect()
        };
        self.read(&Operation::on("read the messages beside", Bucket::Rooms), rooms).await
    }

    /// Messages of a room after the sequence `after`, oldest first, as many as go together; none: there are no more.
    pub async fn messages(&self, room: &str, after: u64) -> Result<Vec<Message>, StoreError> {
        let room = room.to_owned();
        let read = move |connection: &Connection| {
            let select =
                "SELECT seq, at_ms, subject, frame FROM history WHERE room = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
            let mut select = connection.prepare_cached(select)?;
            let mut rows = select.query(params![room, statements::above(after), statements::rows(AT_ONCE)])?;
            let (mut messages, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let frame: Vec<u8> = row.get(3)?;
                let (sequence, at_ms, subject) = (statements::revision(row, 0)?.get(), row.get(1)?, row.get(2)?);
                let message = Message { sequence, at_ms, subject, frame: frame.into() };
                bytes += message.bytes();
                messages.push(message);
                if bytes >= BYTES {
                    break;
                }
            }
            Ok(messages)
        };
        self.read(&Operation::on("read the messages beside", Bucket::Rooms), read).await
    }

    /// Removes the messages of a room from the file.
    pub async fn forget_messages(&self, room: &str) -> Result<(), StoreError> {
        let operation = Operation::on("forget the messages beside", Bucket::Rooms);
        self.write(&operation, Write::Forget { room: room.to_owned() }).await.map(drop)
    }
}
