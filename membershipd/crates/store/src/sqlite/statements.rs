//! What each operation is in SQL.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs;
use crate::contract::Revision;
use crate::error::Standing;
use unibus_core::bus::Bucket;
use unibus_core::key::{Key, Prefix, Records};

/// Outdated nonces that go with each new one: more than come, so that they do not pile up.
const SWEEP: u32 = 16;

/// A change to be made.
#[derive(Debug)]
pub(super) enum Write {
    /// An entry, where its revision still is the expected one; none: where there is no entry.
    Put { bucket: Records, key: Key, value: Vec<u8>, expected: Option<Revision> },
    /// An entry, whatever was there.
    Beat { bucket: Records, key: Key, value: Vec<u8> },
    /// A record of the audit log.
    Append { record: Vec<u8> },
    /// A nonce, taken at a time in milliseconds since 1970.
    Nonce { nonce: Key, now_ms: i64 },
    /// The messages of a room, which are elsewhere now.
    Forget { room: String },
    /// All attachments taken out.
    DropBlobs,
}

impl Write {
    /// Whose entries it changes.
    pub(super) fn bucket(&self) -> Option<Records> {
        match self {
            Write::Put { bucket, .. } | Write::Beat { bucket, .. } => Some(*bucket),
            Write::Append { .. } | Write::Nonce { .. } | Write::Forget { .. } | Write::DropBlobs => None,
        }
    }
}

/// What a change came to, once it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Written(Revision),
    Conflict(Standing),
    Taken,
    Replayed,
}

impl Verdict {
    /// Whether it changed anything.
    pub(super) fn changes(self) -> bool {
        matches!(self, Verdict::Written(_) | Verdict::Taken)
    }
}

/// Makes a change within the transaction that `connection` is in.
pub(super) fn apply(connection: &Connection, write: &Write) -> rusqlite::Result<Verdict> {
    match write {
        Write::Put { bucket, key, value, expected } => put(connection, *bucket, key, value, *expected),
        Write::Beat { bucket, key, value } => set(connection, *bucket, key, value),
        Write::Append { record } => {
            make_room(connection, record.len())?;
            let sequence = next(connection, Bucket::Audit, record.len())?;
            let insert = "INSERT INTO audit (sequence, record) VALUES (?1, ?2)";
            connection.prepare_cached(insert)?.execute(params![number(sequence), record])?;
            Ok(Verdict::Written(sequence))
        }
        Write::Nonce { nonce, now_ms } => take(connection, nonce, *now_ms),
        Write::Forget { room } => {
            connection.prepare_cached("DELETE FROM history WHERE room = ?1")?.execute([room])?;
            Ok(Verdict::Taken)
        }
        Write::DropBlobs => blobs::drop_all(connection).map(|()| Verdict::Taken),
    }
}

fn put(
    connection: &Connection,
    bucket: Records,
    key: &Key,
    value: &[u8],
    expected: Option<Revision>,
) -> rusqlite::Result<Verdict> {
    let current = get(connection, bucket, key)?.map(|(revision, _)| revision);
    if current != expected {
        return Ok(Verdict::Conflict(current.map_or(Standing::Absent, Standing::At)));
    }
    set(connection, bucket, key, value)
}

fn set(connection: &Connection, bucket: Records, key: &Key, value: &[u8]) -> rusqlite::Result<Verdict> {
    let revision = next(connection, bucket.bucket(), value.len())?;
    let upsert = "INSERT INTO entries (bucket, key, revision, value) VALUES (?1, ?2, ?3, ?4)
                  ON CONFLICT (bucket, key) DO UPDATE SET revision = excluded.revision, value = excluded.value";
    let row = params![bucket.bucket().name(), key.as_str(), number(revision), value];
    connection.prepare_cached(upsert)?.execute(row)?;
    Ok(Verdict::Written(revision))
}

fn take(connection: &Connection, nonce: &Key, now_ms: i64) -> rusqlite::Result<Verdict> {
    let age = i64::try_from(Bucket::Nonces.max_age().as_millis()).unwrap_or(i64::MAX);
    let outdated = now_ms.saturating_sub(age);
    let sweep = "DELETE FROM nonces WHERE nonce IN
                 (SELECT nonce FROM nonces WHERE taken_ms < ?1 ORDER BY taken_ms LIMIT ?2)";
    connection.prepare_cached(sweep)?.execute(params![outdated, SWEEP])?;
    let take = "INSERT INTO nonces (nonce, taken_ms) VALUES (?1, ?2)
                ON CONFLICT (nonce) DO UPDATE SET taken_ms = excluded.taken_ms WHERE taken_ms < ?3";
    let taken = connection.prepare_cached(take)?.execute(params![nonce.as_str(), now_ms, outdated])?;
    Ok(if taken == 0 { Verdict::Replayed } else { Verdict::Taken })
}

fn next(connection: &Connection, bucket: Bucket, bytes: usize) -> rusqlite::Result<Revision> {
    let count = "INSERT INTO sequences (bucket, last, bytes) VALUES (?1, 1, ?2)
                 ON CONFLICT (bucket) DO UPDATE SET last = last + 1, bytes = bytes + excluded.bytes RETURNING last";
    connection.prepare_cached(count)?.query_row(params![bucket.name(), rows(bytes)], |row| revision(row, 0))
}

/// What counts the records of the audit that made way, and their bytes; the schema knows the name.
const GONE: &str = "UNIBUS_audit.gone";

/// Lets the oldest records of the audit make way for so many bytes more, as the engine does.
fn make_room(connection: &Connection, bytes: usize) -> rusqlite::Result<()> {
    let Some(most) = Bucket::Audit.max_bytes() else { return Ok(()) };
    let of = |name: &str| -> rusqlite::Result<i64> {
        let select = "SELECT bytes FROM sequences WHERE bucket = ?1";
        let bytes = connection.prepare_cached(select)?.query_row([name], |row| row.get(0)).optional()?;
        Ok(bytes.unwrap_or(0))
    };
    let mut used = of(Bucket::Audit.name())?.saturating_sub(of(GONE)?).saturating_add(rows(bytes));
    while used > above(most) {
        let select = "SELECT sequence, length(record) FROM audit ORDER BY sequence LIMIT 1";
        let oldest =
            connection.prepare_cached(select)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((sequence, length)): Option<(i64, i64)> = oldest else { break };
        let count = "INSERT INTO sequences (bucket, last, bytes) VALUES (?1, ?2, ?3)
                     ON CONFLICT (bucket) DO UPDATE SET last = excluded.last, bytes = bytes + excluded.bytes";
        connection.prepare_cached(count)?.execute(params![GONE, sequence, length])?;
        connection.prepare_cached("DELETE FROM audit WHERE sequence = ?1")?.execute([sequence])?;
        used = used.saturating_sub(length);
    }
    Ok(())
}

/// The entry `key`.
pub(super) fn get(
    connection: &Connection,
    bucket: Records,
    key: &Key,
) -> rusqlite::Result<Option<(Revision, Vec<u8>)>> {
    let select = "SELECT revision, value FROM entries WHERE bucket = ?1 AND key = ?2";
    let mut select = connection.prepare_cached(select)?;
    select
        .query_row(params![bucket.bucket().name(), key.as_str()], |row| Ok((revision(row, 0)?, row.get(1)?)))
        .optional()
}

/// The last sequence of a bucket; 0 where nothing was written.
pub(super) fn last(connection: &Connection, bucket: Bucket) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT last FROM sequences WHERE bucket = ?1")?;
    let last = select.query_row([bucket.name()], |row| revision(row, 0)).optional()?;
    Ok(last.map_or(0, Revision::get))
}

/// An entry as it lies in the file.
pub(super) struct Found {
    pub(super) key: String,
    pub(super) revision: Revision,
    pub(super) value: Vec<u8>,
}

/// Entries with a revision above `after`, in the order of revisions.
pub(super) fn scan(
    connection: &Connection,
    bucket: Records,
    prefix: &Prefix,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Found>> {
    let select = "SELECT key, revision, value FROM entries
                  WHERE bucket = ?1 AND revision > ?2 AND key >= ?3 AND key < ?4 ORDER BY revision LIMIT ?5";
    let mut select = connection.prepare_cached(select)?;
    let keys = prefix.range();
    let row = params![bucket.bucket().name(), above(after), keys.start, keys.end, rows(limit)];
    let found =
        select.query_map(row, |row| Ok(Found { key: row.get(0)?, revision: revision(row, 1)?, value: row.get(2)? }))?;
    found.collect()
}

/// Records of the audit log with a sequence above `after`, in their order.
pub(super) fn audit(connection: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<(Revision, Vec<u8>)>> {
    let select = "SELECT sequence, record FROM audit WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
    let mut select = connection.prepare_cached(select)?;
    let found = select.query_map(params![above(after), rows(limit)], |row| Ok((revision(row, 0)?, row.get(1)?)))?;
    found.collect()
}

pub(super) fn revision(row: &Row<'_>, column: usize) -> rusqlite::Result<Revision> {
    let number: i64 = row.get(column)?;
    let revision = u64::try_from(number).ok().and_then(Revision::new);
    revision.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}

// The sequences begin at 1 and are counted by SQLite: none passes what it can count.
fn number(revision: Revision) -> i64 {
    above(revision.get())
}

pub(super) fn above(after: u64) -> i64 {
    i64::try_from(after).unwrap_or(i64::MAX)
}

pub(super) fn rows(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
