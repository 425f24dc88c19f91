//! How much a request may take of this node, each with its reason, written once; what an operator may choose is in `config::Bounds`.

use std::time::Duration;

use unibus_api_types::limits;
pub(super) use unibus_api_types::limits::{BLOB_BYTES, BLOB_FLOOR};

/// Messages of a room that are answered at once, where the request does not say how many, and at most.
pub(super) const HISTORY_USUAL: usize = limits::HISTORY_USUAL as usize;
pub(super) const HISTORY_MOST: usize = limits::HISTORY_MOST as usize;

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

/// Bytes of an answer that the kernel holds for a client, which it doubles. Without it that grows to megabytes for each connection,
/// and an answer counts as sent before any of it is taken. Enough for 2 MiB a second to the other end of the world.
pub(super) const SEND_BYTES: usize = 256 << 10;

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
/// Requests at once of clients that have no user yet, and from one address. Each has a small body and a place of its own, so that
/// none of them takes the place of a user; together they hold 128 KiB.
pub(super) const NEWCOMERS: usize = 32;
pub(super) const NEWCOMERS_PER_ADDRESS: usize = 4;

/// Seconds for which a client may save up requests.
pub(super) const BURST_S: u32 = 2;
/// Keys of users behind one address that may each use up their rate: an office, or a machine with many bots.
pub(super) const KEYS_PER_ADDRESS: u32 = 5;
/// In which what is kept for good is counted.
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);
/// Slots in which rates are counted. Two clients that meet in one share a rate; there is no more memory to take.
pub(super) const RATE_SLOTS: usize = 1 << 14;
