//! A new file with what another store has: written in one go, and there only when it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use super::open;
use crate::contract::Revision;
use crate::message::Message;
use unibus_core::key::{Key, Records};
use unibus_core::private_file::{self, PrivateFileError};

/// Why no file was made.
#[derive(Debug, thiserror::Error)]
pub enum NewFileError {
    /// Something is in its place.
    #[error("{0} exists, and nothing is ever written over it; remedy: name another file, or move that one away")]
    Exists(PathBuf),
    /// There is no place for it.
    #[error("there is no directory {directory} for {path}; remedy: mount its disk, make it, or name another file")]
    NoDirectory {
        /// The file.
        path: PathBuf,
        /// What is missing.
        directory: PathBuf,
    },
    /// It cannot be made, or kept private.
    #[error(transparent)]
    Private(#[from] PrivateFileError),
    /// The system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot write {path}: {source}; remedy: see the disk")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
}

/// A file that is being written. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    partial: Partial,
    connection: Connection,
}

/// Where it is written until it is whole; removed when it goes.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl NewFile {
    /// Begins a file that is to be at `path`, mode 0600 from the first byte.
    pub fn create(path: &Path) -> Result<Self, NewFileError> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Err(NewFileError::NoDirectory { path: path.to_owned(), directory: directory.to_owned() });
        }
        // What SQLite would take for a part of the new file must not be there either.
        let taken =
            std::iter::once(path.to_owned()).chain(["-wal", "-shm", "-journal"].map(|end| open::beside(path, end)));
        if let Some(taken) = taken.into_iter().find(|taken| fs::symlink_metadata(taken).is_ok()) {
            return Err(NewFileError::Exists(taken));
        }
        let partial = private_file::sibling(path, &format!("{}.partial", std::process::id()));
        // A leftover of a process that had our number: nobody writes it now.
        let _ = fs::remove_file(&partial);
        private_file::create(&partial, b"")?;
        let partial = Partial(partial);
        let fail = |source| NewFileError::Sqlite { path: path.to_owned(), source };
        let absolute = std::path::absolute(&partial.0);
        let absolute = absolute.map_err(|source| io_at("cannot make absolute", &partial.0, source))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let begin = || -> rusqlite::Result<Connection> {
            let mut connection = Connection::open_with_flags(absolute, flags)?;
            // Where anything fails the whole file goes, so nothing has to be taken back.
            connection.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
            open::make_schema(&mut connection)?;
            connection.execute_batch("BEGIN IMMEDIATE")?;
            Ok(connection)
        };
        let connection = begin().map_err(fail)?;
        Ok(Self { path: path.to_owned(), partial, connection })
    }

    /// Adds an entry, or puts a later revision in the place of an earlier one.
    pub fn entry(&mut self, bucket: Records, key: &Key, revision: Revision, value: &[u8]) -> Result<(), NewFileError> {
        let upsert = "INSERT INTO entries (bucket, key, revision, value) VALUES (?1, ?2, ?3, ?4)
                      ON CONFLICT (bucket, key) DO UPDATE SET revision = excluded.revision, value = excluded.value";
        self.execute(upsert, params![bucket.bucket().name(), key.as_str(), revision.get().cast_signed(), value])
    }

    /// Adds a record to the audit log.
    pub fn record(&mut self, number: Revision, record: &[u8]) -> Result<(), NewFileError> {
        self.execute(
            "INSERT INTO audit (sequence, record) VALUES (?1, ?2)",
            params![number.get().cast_signed(), record],
        )
    }

    /// Adds a message of a room.
    pub fn message(&mut self, room: &str, message: &Message) -> Result<(), NewFileError> {
        let Message { sequence, at_ms, subject, frame } = message;
        self.execute(
            "INSERT INTO history (room, seq, subject, at_ms, frame) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![room, sequence.cast_signed(), subject, at_ms, frame.as_ref()],
        )
    }

    /// Takes the messages of a room out again.
    pub fn without_messages(&mut self, room: &str) -> Result<(), NewFileError> {
        self.execute("DELETE FROM history WHERE room = ?1", params![room])
    }

    pub(super) fn execute(&self, sql: &str, row: &[&dyn rusqlite::ToSql]) -> Result<(), NewFileError> {
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute(row));
        done.map(drop).map_err(|source| NewFileError::Sqlite { path: self.path.clone(), source })
    }

    /// Puts the file in its place, synced. Where something has come there meanwhile, that stays.
    pub fn finish(self) -> Result<(), NewFileError> {
        let Self { path, partial, connection } = self;
        let audit = unibus_core::bus::Bucket::Audit.name();
        let end = || -> rusqlite::Result<()> {
            connection.execute_batch(
                "INSERT INTO sequences (bucket, last, bytes)
                 SELECT bucket, max(revision), sum(length(value)) FROM entries GROUP BY bucket",
            )?;
            connection.execute(
                "INSERT INTO sequences (bucket, last, bytes)
                 SELECT ?1, max(sequence), sum(length(record)) FROM audit HAVING count(*) > 0",
                [audit],
            )?;
            connection.execute_batch("COMMIT")
        };
        end().map_err(|source| NewFileError::Sqlite { path: path.clone(), source })?;
        connection.close().map_err(|(_, source)| NewFileError::Sqlite { path: path.clone(), source })?;
        let synced = File::open(&partial.0).and_then(|file| file.sync_all());
        synced.map_err(|source| io_at("cannot sync", &partial.0, source))?;
        match fs::hard_link(&partial.0, &path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NewFileError::Exists(path)),
            Err(source) => return Err(io_at("cannot put in place", &path, source)),
        }
        private_file::sync_directory(&path)?;
        Ok(())
    }
}

fn io_at(doing: &'static str, path: &Path, source: io::Error) -> NewFileError {
    NewFileError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::contract::{PageSize, Store};
    use crate::scratch::Dir;
    use crate::sqlite::SqliteStore;
    use crate::watch::Position;
    use unibus_core::key::Prefix;

    fn number(number: u64) -> Revision {
        Revision::new(number).unwrap()
    }

    fn files(dir: &Dir) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_finished_file_is_a_private_store_that_goes_on_where_the_other_was() {
        let dir = Dir::new();
        let path = dir.path().join("copy.db");
        let mut file = NewFile::create(&path).unwrap();
        let key = |name: &str| name.parse::<Key>().unwrap();
        file.entry(Records::Users, &key("a"), number(4), b"old").unwrap();
        file.entry(Records::Users, &key("b"), number(7), b"b").unwrap();
        file.entry(Records::Users, &key("a"), number(9), b"new").unwrap();
        file.record(number(3), b"first").unwrap();
        let message =
            |sequence| Message { sequence, at_ms: -5, subject: "room.x".to_owned(), frame: vec![7; 700_000].into() };
        for (room, sequence) in [("hall", 4), ("hall", 9), ("attic", 1), ("hall", 12)] {
            file.message(room, &message(sequence)).unwrap();
        }
        file.without_messages("attic").unwrap();
        for name in files(&dir) {
            let mode = fs::metadata(dir.path().join(&name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}");
        }
        assert!(!path.exists(), "not before it is whole");
        file.finish().unwrap();
        assert_eq!(files(&dir), ["copy.db"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let store = SqliteStore::open(&path, Arc::new(|| 0)).unwrap();
        let page = store.scan(Records::Users, &Prefix::ALL, Position(0), PageSize::of(9)).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|item| (item.key.as_str(), item.entry.revision.get())).collect();
        assert_eq!(found, [("b", 7), ("a", 9)]);
        assert_eq!(store.update(Records::Users, &key("a"), b"newer", number(9)).await, Ok(number(10)));
        assert_eq!(store.append(b"second").await, Ok(number(4)));
        assert_eq!(store.create(Records::Rooms, &key("x"), b"").await, Ok(number(1)));
        assert_eq!(store.rooms_with_messages().await.unwrap(), ["hall"]);
        assert_eq!(store.messages("hall", 0).await.unwrap(), [message(4), message(9)], "what goes together");
        assert_eq!(store.messages("hall", 9).await.unwrap(), [message(12)]);
        store.forget_messages("hall").await.unwrap();
        assert!(store.rooms_with_messages().await.unwrap().is_empty());
    }

    #[test]
    fn what_is_there_stays_and_what_is_not_finished_goes() {
        let dir = Dir::new();
        let path = dir.path().join("copy.db");
        let file = NewFile::create(&path).unwrap();
        fs::write(&path, "somebody's").unwrap();
        assert!(matches!(file.finish(), Err(NewFileError::Exists(_))));
        assert!(matches!(NewFile::create(&path), Err(NewFileError::Exists(_))));
        assert_eq!((files(&dir), fs::read(&path).unwrap()), (vec!["copy.db".to_owned()], b"somebody's".to_vec()));
        fs::rename(&path, dir.path().join("copy.db-wal")).unwrap();
        let taken = NewFile::create(&path).unwrap_err();
        assert!(taken.to_string().contains("copy.db-wal exists"), "{taken}");
        let nowhere = NewFile::create(&dir.path().join("no/copy.db")).unwrap_err();
        assert!(nowhere.to_string().contains("there is no directory"), "{nowhere}");
        fs::remove_file(dir.path().join("copy.db-wal")).unwrap();
        drop(NewFile::create(&path).unwrap());
        assert!(files(&dir).is_empty());
    }
}
