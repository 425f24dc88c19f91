-- Attachments of a copy: what an engine holds, as far as a file has to. A file that was made before there were any has none.
CREATE TABLE IF NOT EXISTS blobs (
    room   TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    by     TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    bytes  INTEGER NOT NULL CHECK (bytes > 0),
    PRIMARY KEY (room, sha256)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blob_pieces (
    room   TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    number INTEGER NOT NULL,
    piece  BLOB NOT NULL,
    PRIMARY KEY (room, sha256, number)
) STRICT;
