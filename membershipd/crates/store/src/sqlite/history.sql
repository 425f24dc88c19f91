-- Version 2: what was said in rooms, as a copy has it. A node that starts with the file carries it into its engine, and then it goes.
CREATE TABLE history (
    room    TEXT NOT NULL,
    seq     INTEGER NOT NULL CHECK (seq > 0),
    subject TEXT NOT NULL,
    at_ms   INTEGER NOT NULL, -- since 1970
    frame   BLOB NOT NULL,
    PRIMARY KEY (room, seq)
) STRICT;
