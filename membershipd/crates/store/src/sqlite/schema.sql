-- Version 1. Changes of entries go up, records and entries stay: the file itself holds to what the store promises.
CREATE TABLE sequences (
    bucket TEXT PRIMARY KEY,
    last   INTEGER NOT NULL,
    bytes  INTEGER NOT NULL -- of all values that were ever written
) STRICT, WITHOUT ROWID;

CREATE TABLE entries (
    bucket   TEXT NOT NULL,
    key      TEXT NOT NULL,
    revision INTEGER NOT NULL CHECK (revision > 0),
    value    BLOB NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT;
CREATE UNIQUE INDEX entries_by_revision ON entries (bucket, revision);

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY CHECK (sequence > 0),
    record   BLOB NOT NULL
) STRICT;

CREATE TABLE nonces (
    nonce    TEXT PRIMARY KEY,
    taken_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_by_time ON nonces (taken_ms);

CREATE TRIGGER entries_stay BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'entries are never deleted'); END;
CREATE TRIGGER entries_go_up BEFORE UPDATE ON entries
WHEN NEW.revision <= OLD.revision OR NEW.bucket <> OLD.bucket OR NEW.key <> OLD.key
BEGIN SELECT RAISE(ABORT, 'a change needs a higher revision'); END;
CREATE TRIGGER sequences_stay BEFORE DELETE ON sequences
BEGIN SELECT RAISE(ABORT, 'sequences are never deleted'); END;
CREATE TRIGGER sequences_go_up BEFORE UPDATE ON sequences WHEN NEW.last <= OLD.last OR NEW.bytes < OLD.bytes
BEGIN SELECT RAISE(ABORT, 'a sequence only goes up'); END;
-- But the oldest records of a full log make way: what is gone is counted first.
CREATE TRIGGER audit_stays BEFORE DELETE ON audit
WHEN OLD.sequence > coalesce((SELECT last FROM sequences WHERE bucket = 'UNIBUS_audit.gone'), 0)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_is_final BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
