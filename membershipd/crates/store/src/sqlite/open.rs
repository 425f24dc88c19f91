//! Opening the file: ours alone, private from the first byte, of a version that we know.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::blobs;
use unibus_core::bus;
use unibus_core::private_file::{self, PrivateFileError};

/// Tells a store of ours from other SQLite files (<https://www.sqlite.org/fileformat.html>, 1.3): "ubus".
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"ubus");
/// Version of the schema. A version that is not known is refused: it may hold rights taken away in a way not known here.
pub(super) const SCHEMA_VERSION: i32 = 2;
const SCHEMA: &str = include_str!("schema.sql");
/// The version before the messages of rooms were in it; what they need is added when it is opened.
const WITHOUT_HISTORY: i32 = 1;
const HISTORY: &str = include_str!("history.sql");

/// Why a file was not opened as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
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
    /// It is not private.
    #[error(transparent)]
    Private(#[from] PrivateFileError),
    /// Another process has it.
    #[error(
        "the store {0} is in use by another membershipd; remedy: stop that one first, or give this one another --db"
    )]
    InUse(PathBuf),
    /// It is not there.
    #[error("there is no store {0}; remedy: name the file that has it")]
    Missing(PathBuf),
    /// There is no place for it.
    #[error(
        "there is no directory {directory} for the store {path}; remedy: mount its disk, make it, or give another --db"
    )]
    NoDirectory {
        /// The store.
        path: PathBuf,
        /// What is missing.
        directory: PathBuf,
    },
    /// The file is gone, what was not yet moved into it is not.
    #[error("{log} belongs to a store that is missing; remedy: put the file back beside it, or move this one away too")]
    Orphaned {
        /// The write-ahead log that is left.
        log: PathBuf,
    },
    /// It is some other SQLite file.
    #[error("{0} is no store of membershipd; remedy: give this one another --db")]
    Foreign(PathBuf),
    /// It was written by a newer membershipd.
    #[error(
        "the store {path} has version {found} of its schema, and this membershipd knows {SCHEMA_VERSION}; \
         remedy: start the newer membershipd that wrote it"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// SQLite refused.
    #[error("{doing} the store {path}: {source}; remedy: see the disk, or take a backup")]
    Sqlite {
        /// What was attempted.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
}

/// How long a lock is waited for that somebody has who is about to be gone: one that ends, or a program that one of its threads
/// is starting, which has all that is open until it runs (open(2), O_CLOEXEC).
const LOCK: Duration = Duration::from_secs(1);

/// The file, opened: one connection that writes, one that only reads, and the right to both.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    /// Held for as long as either connection is in use.
    pub(super) lock: File,
}

/// Opens `path`, or makes it. `pages` is how many pages of 4096 bytes it may ever have.
pub(super) fn open(path: &Path, pages: u64) -> Result<Opened, OpenError> {
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { doing, path, source }
    };
    let fail = |doing| move |source| OpenError::Sqlite { doing, path: path.to_owned(), source };
    let lock = lock(path)?;
    // SQLite gives its other files the mode of this one (`os_unix.c`, findCreateFileMode).
    let beside = ["-wal", "-shm"].map(|ending| beside(path, ending));
    if !path.try_exists().map_err(io("cannot look for", path))? {
        if let Some(log) = beside.iter().find(|left| left.exists()) {
            return Err(OpenError::Orphaned { log: log.clone() });
        }
        private_file::write(path, b"")?;
    }
    for file in [path.to_owned()].iter().chain(&beside) {
        match private_file::open(file) {
            Ok(_) => {}
            Err(PrivateFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    // An absolute path is never taken for a URI.
    let absolute = std::path::absolute(path).map_err(io("cannot make absolute", path))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&absolute, flags)?;
        connection.busy_timeout(bus::ATTEMPT)?;
        Ok(connection)
    };
    let mut writer = connect().map_err(fail("cannot open"))?;
    let found = identify(&writer, path)?;
    set_up(&writer, pages).map_err(fail("cannot set up"))?;
    match found {
        Found::Empty => make_schema(&mut writer),
        Found::WithoutHistory => make_tables(&mut writer, &[HISTORY]),
        Found::Whole => Ok(()),
    }
    .map_err(fail("cannot make the tables of"))?;
    // A file that was made before there were attachments has no place for them.
    blobs::make_tables(&writer).map_err(fail("cannot make the tables of"))?;
    let reader = connect().map_err(fail("cannot open"))?;
    reader.pragma_update(None, "query_only", true).map_err(fail("cannot set up"))?;
    Ok(Opened { writer, reader, lock })
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = private_file::sibling(path, "lock");
    let fail = |doing, source| OpenError::Io { doing, path: lock_path.clone(), source };
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_path);
    let lock = lock.map_err(|error| match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(directory) if error.kind() == io::ErrorKind::NotFound => {
            OpenError::NoDirectory { path: path.to_owned(), directory: directory.to_owned() }
        }
        _ => fail("cannot open", error),
    })?;
    let deadline = Instant::now() + LOCK;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(LOCK / 50),
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(fail("cannot lock", error)),
        }
    }
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

/// What a file is.
enum Found {
    Empty,
    WithoutHistory,
    Whole,
}

/// What the file is. What is neither empty nor a store that we know is refused, before anything is changed.
fn identify(connection: &Connection, path: &Path) -> Result<Found, OpenError> {
    let fail = |source| OpenError::Sqlite { doing: "cannot read", path: path.to_owned(), source };
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0)).map_err(fail);
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0));
    match (application, version, tables.map_err(fail)?) {
        (0, 0, 0) => Ok(Found::Empty),
        (APPLICATION_ID, SCHEMA_VERSION, _) => Ok(Found::Whole),
        (APPLICATION_ID, WITHOUT_HISTORY, _) => Ok(Found::WithoutHistory),
        (APPLICATION_ID, found, _) if found > SCHEMA_VERSION => Err(OpenError::Newer { path: path.to_owned(), found }),
        _ => Err(OpenError::Foreign(path.to_owned())),
    }
}

fn set_up(connection: &Connection, pages: u64) -> rusqlite::Result<()> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidQuery);
    }
    // In this mode each commit is synced before it is acknowledged (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    let pages = i64::try_from(pages).unwrap_or(i64::MAX);
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

pub(super) fn make_schema(connection: &mut Connection) -> rusqlite::Result<()> {
    make_tables(connection, &[SCHEMA, HISTORY])
}

fn make_tables(connection: &mut Connection, tables: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    tables.iter().try_for_each(|tables| transaction.execute_batch(tables))?;
    blobs::make_tables(&transaction)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}
