//! What is done to the whole file: opened where it must be there, checked, and left complete by itself.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::{Clock, OpenError, SqliteStore, ask_within};
use crate::error::{Operation, StoreError};
use unibus_core::bus::Bucket;

/// Time to read the whole file: the largest that there may be, from a slow disk.
const CHECK: Duration = Duration::from_secs(600);

impl SqliteStore {
    /// [`Self::open`] for a store that is there: never makes one.
    pub fn open_existing(path: &Path, clock: Clock) -> Result<Self, OpenError> {
        match std::fs::metadata(path) {
            Ok(found) if found.len() > 0 => Self::open(path, clock),
            Ok(_) => Err(OpenError::Foreign(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(OpenError::Missing(path.to_owned())),
            Err(source) => Err(OpenError::Io { doing: "cannot look for", path: path.to_owned(), source }),
        }
    }

    /// Reads the whole file, and fails where any of it is damaged.
    pub async fn check(&self) -> Result<(), StoreError> {
        let operation = Operation::on("check", Bucket::Users);
        let check = |connection: &Connection| {
            connection.pragma_query_value(None, "integrity_check", |row| row.get::<_, String>(0))
        };
        match ask_within(CHECK, self.reader.jobs(), &operation, check).await? {
            sound if sound == "ok" => Ok(()),
            damage => Err(StoreError::Unreadable { operation, why: format!("the file is damaged: {damage}") }),
        }
    }

    /// Moves what is still in the write-ahead log into the file, so that the file alone has everything. A store that ends
    /// without it loses nothing: the next opening finds the log.
    pub async fn settle(&self) -> Result<(), StoreError> {
        let operation = Operation::on("settle", Bucket::Users);
        // On this connection nothing can be changed, but that can be done (<https://www.sqlite.org/pragma.html#pragma_query_only>).
        let settle = |connection: &Connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))
        };
        match self.read(&operation, settle).await? {
            false => Ok(()),
            true => Err(StoreError::Unavailable { operation, why: "somebody was reading or writing".to_owned() }),
        }
    }
}
