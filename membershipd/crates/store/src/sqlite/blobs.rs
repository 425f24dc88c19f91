//! Attachments in a file: written with a copy, read by whoever carries the copy on, and dropped by the node that goes on with it.

use rusqlite::{Connection, OptionalExtension, params};

use super::file::{NewFile, NewFileError};
use super::statements::Write;
use super::{Operation, SqliteStore, StoreError};
use unibus_core::bus::Bucket;
use unibus_core::domain::{Handle, RoomId};

const TABLES: &str = include_str!("blobs.sql");

/// Makes the tables where they are missing.
pub(super) fn make_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)
}

/// Drops all of them, within the transaction that `connection` is in.
pub(super) fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM blob_pieces; DELETE FROM blobs")
}

/// Room, sha256, who added it, when in milliseconds since 1970, and how many bytes it has.
pub type BlobRow = (String, String, String, i64, u64);

impl SqliteStore {
    /// Attachments in the order of their names, after `after`, at most `limit`.
    pub async fn blobs(&self, after: Option<(String, String)>, limit: usize) -> Result<Vec<BlobRow>, StoreError> {
        let (room, sha256) = after.unwrap_or_default();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let list = move |connection: &Connection| {
            let select = "SELECT room, sha256, by, at_ms, bytes FROM blobs
                          WHERE (room, sha256) > (?1, ?2) ORDER BY room, sha256 LIMIT ?3";
            let mut select = connection.prepare_cached(select)?;
            let found = select.query_map(params![room, sha256, limit], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get::<_, i64>(4)?.unsigned_abs()))
            })?;
            found.collect()
        };
        self.read(&Operation::on("list", Bucket::Blobs), list).await
    }

    /// Piece `number` of an attachment, from 0; none: there is no more.
    pub async fn blob_piece(&self, room: &RoomId, sha256: String, number: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let room = room.to_string();
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let read = move |connection: &Connection| {
            let select = "SELECT piece FROM blob_pieces WHERE room = ?1 AND sha256 = ?2 AND number = ?3";
            let mut select = connection.prepare_cached(select)?;
            select.query_row(params![room, sha256, number], |row| row.get(0)).optional()
        };
        self.read(&Operation::on("read", Bucket::Blobs), read).await
    }

    /// Drops all attachments from the file: they are elsewhere now, and what is removed there must not come back from here.
    pub async fn drop_blobs(&self) -> Result<(), StoreError> {
        self.write(&Operation::on("remove from", Bucket::Blobs), Write::DropBlobs).await.map(drop)
    }
}

impl NewFile {
    /// Adds an attachment, whose pieces follow.
    pub fn blob(
        &mut self,
        room: &RoomId,
        sha256: &str,
        by: &Handle,
        at_ms: i64,
        bytes: u64,
    ) -> Result<(), NewFileError> {
        let insert = "INSERT INTO blobs (room, sha256, by, at_ms, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute(insert, params![room.as_str(), sha256, by.as_str(), at_ms, bytes.cast_signed()])
    }

    /// Adds piece `number` of an attachment, from 0.
    pub fn blob_piece(&mut self, room: &RoomId, sha256: &str, number: u64, piece: &[u8]) -> Result<(), NewFileError> {
        let insert = "INSERT INTO blob_pieces (room, sha256, number, piece) VALUES (?1, ?2, ?3, ?4)";
        self.execute(insert, params![room.as_str(), sha256, number.cast_signed(), piece])
    }

    /// Takes an attachment out again.
    pub fn forget_blob(&mut self, room: &RoomId, sha256: &str) -> Result<(), NewFileError> {
        for delete in [
            "DELETE FROM blob_pieces WHERE room = ?1 AND sha256 = ?2",
            "DELETE FROM blobs WHERE room = ?1 AND sha256 = ?2",
        ] {
            self.execute(delete, params![room.as_str(), sha256])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::scratch::Dir;

    #[tokio::test]
    async fn a_copy_keeps_them_in_order_and_a_file_from_before_them_has_none() {
        let dir = Dir::new();
        let path = dir.path().join("copy.db");
        let mut file = NewFile::create(&path).unwrap();
        let (room, by): (RoomId, Handle) = ("hall".parse().unwrap(), "alice".parse().unwrap());
        for name in ["b", "a", "c"] {
            file.blob(&room, name, &by, 7, 2).unwrap();
            for (number, piece) in [b"x", b"y"].into_iter().enumerate() {
                file.blob_piece(&room, name, number as u64, piece).unwrap();
            }
        }
        file.forget_blob(&room, "c").unwrap();
        file.finish().unwrap();
        let open = || SqliteStore::open(&path, Arc::new(|| 0)).unwrap();
        let store = open();
        let names = async |store: &SqliteStore, after: Option<&str>| {
            let after = after.map(|sha256| ("hall".to_owned(), sha256.to_owned()));
            store.blobs(after, 9).await.unwrap().into_iter().map(|row| row.1).collect::<Vec<_>>()
        };
        assert_eq!(
            (names(&store, None).await, names(&store, Some("a")).await),
            (vec!["a".into(), "b".into()], vec!["b".into()])
        );
        let piece = async |number| store.blob_piece(&room, "a".to_owned(), number).await.unwrap();
        assert_eq!((piece(0).await, piece(1).await, piece(2).await), (Some(b"x".to_vec()), Some(b"y".to_vec()), None));
        store.drop_blobs().await.unwrap();
        assert!(names(&store, None).await.is_empty() && piece(0).await.is_none());
        drop(store);
        let before = Connection::open(&path).unwrap();
        before.execute_batch("DROP TABLE blobs; DROP TABLE blob_pieces").unwrap();
        drop(before);
        assert!(names(&open(), None).await.is_empty());
    }
}
