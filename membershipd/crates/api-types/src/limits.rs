//! What a client must know before it asks.

/// The API's port where the operator names no other; deploy/nodes.toml ships the same.
pub const DEFAULT_API_PORT: u16 = 8470;

/// Bytes of an attachment before it is sealed. Clients hold one in memory for that.
pub const ATTACHMENT_BYTES: u64 = 16 << 20;
/// Bytes of an attachment as a node keeps it: with what a seal adds.
pub const BLOB_BYTES: u64 = ATTACHMENT_BYTES + 64;
/// Bytes a second that an upload has to bring on average, once the time for a body is over: a poor uplink of a telephone. So
/// 16 MiB take 9 minutes at most, and no client keeps a place for longer.
pub const BLOB_FLOOR: u32 = 32 << 10;

/// Messages of a room that are answered at once where the request does not say how many, and at most.
pub const HISTORY_USUAL: u32 = 200;
/// See [`HISTORY_USUAL`].
pub const HISTORY_MOST: u32 = 1_000;

/// Where a node says that it is well, unsigned.
pub const LIVEZ: &str = "/livez";
