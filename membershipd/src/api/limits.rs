//! How much a request may take of this node before it is known whose it is, each with its reason, written once.

use std::time::Duration;

pub(super) use unibus_api_types::limits::{BLOB_BYTES, BLOB_FLOOR};

/// Most connections at once. A TLS connection takes about 40 KiB.
pub(super) const CONNECTIONS: usize = 1024;
/// Most connections at once from one address: half, so that one machine never takes all.
pub(super) const CONNECTIONS_PER_ADDRESS: usize = CONNECTIONS / 2;

/// Bytes of a head that are read at all. A head of more than 16 KiB is refused by name (`signature`), a larger one than this
/// by the HTTP library.
pub(super) const HEAD_BYTES: usize = 32 * 1024;
/// Fields of a head that are read at all.
pub(super) const HEAD_FIELDS: usize = 100;
/// Time to complete the TLS handshake, and again to send the first head.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// Time until the next head on the same connection has come: idleness and sending together.
pub(super) const NEXT_HEAD_TIME: Duration = Duration::from_secs(30);
/// Time for the client to take what was sent, as long as it takes nothing.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Bytes of a body.
pub(super) const BODY_BYTES: usize = 1 << 20;
/// Bytes of a body of somebody who is nobody yet: a token takes 60.
pub(super) const NEWCOMER_BYTES: usize = 4 << 10;
/// Requests a second of newcomers from one address: each costs a signature to verify and a read of the store, and has no key whose
/// rate would count, as anybody makes as many keys as he likes.
pub(super) const NEWCOMERS_A_SECOND: u32 = 1;
/// Seconds' worth of them that may come at once: a few people in an office, or one who tries again.
pub(super) const NEWCOMERS_BURST_S: u32 = 10;
/// Time to send a body, whatever its length.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);
/// Bytes of all bodies that are being received or carried out.
pub(super) const BODIES_BYTES: usize = 32 << 20;

/// Uploads at once, and of one user. Each holds a chunk that gathers, one that is being written in two copies, and what is
/// read of its connection: half a MiB.
pub(super) const UPLOADS: usize = 64;
pub(super) const UPLOADS_PER_USER: usize = 8;
/// Downloads at once, and of one user. Each holds a chunk, and once more in base64, as the engine hands it out.
pub(super) const DOWNLOADS: usize = 128;
pub(super) const DOWNLOADS_PER_USER: usize = 16;
/// Lists of attachments at once: for each the names of all that there are come from the engine, 4 MiB at most.
pub(super) const BLOB_LISTS: usize = 4;

/// Signed requests at once. A removal stays for as long as its fence takes, up to 13 s.
pub(super) const REQUESTS: usize = 512;

/// Seconds for which a client may save up requests.
pub(super) const BURST_S: u32 = 2;
/// Keys of users behind one address that may each use up their rate: an office, or a machine with many bots.
pub(super) const KEYS_PER_ADDRESS: u32 = 5;
/// Slots in which rates are counted. Two clients that meet in one share a rate; there is no more memory to take.
pub(super) const RATE_SLOTS: usize = 1 << 14;

/// Messages of a room that are answered at once, where nobody says how many, and at most.
pub(super) const HISTORY_USUAL: usize = 200;
pub(super) const HISTORY_MOST: usize = 1_000;
/// Answers with messages at once, until they are sent. Each has 1 MiB of messages or one that is larger, which base64 makes
/// a third longer, and for a moment there are three copies of it.
pub(super) const READINGS: usize = 16;
/// Of them those of one user, and of one room, whose readers may all be slow to answer: a quarter each.
pub(super) const READINGS_PER_USER: usize = READINGS / 4;
pub(super) const READINGS_PER_ROOM: usize = READINGS / 4;
