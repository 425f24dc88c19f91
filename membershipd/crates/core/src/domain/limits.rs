//! How much there may be of everything in the domain, each with its reason, written once.

/// Longest subject that a room may claim, in bytes. Together with `ROOMS_PER_USER` it bounds the permissions of a
/// connection; the engine's own bound, `max_control_line` of 4096 bytes, is far.
pub const SUBJECT_BYTES: usize = 100;

/// Most tokens of a claimed subject. The engine walks a tree as deep as this for each message, and members may still add
/// tokens of their own below the claim.
pub const SUBJECT_TOKENS: usize = 8;

/// Longest id of a room, in bytes: the hexadecimal digits of a SHA-256 fit, a UUID does too.
pub const ROOM_ID_BYTES: usize = 64;

/// Rooms in which a user may be joined at once. What the engine is told about a connection travels as one message, a signed
/// token inside a signed token, so each byte of permissions costs 16/9 bytes of the 1 MiB that `max_payload` allows: 1,000
/// rooms with the longest ids and subjects take 0.98 MiB. The other half is for changes that are counted on two nodes at once.
pub const ROOMS_PER_USER: usize = 500;

/// Rooms of which a connection is told at most. Above it rights are left out, which is on the safe side.
pub const ROOMS_PER_CONNECTION: usize = 2 * ROOMS_PER_USER;

/// Members and invited ones of a room. A change of the room cuts all of its connections, and an engine that has not
/// confirmed that after a second is killed (`bus::KICK`): 2,000 kicks, 64 at a time and 7 ms each, take a quarter of that.
pub const MEMBERS_PER_ROOM: usize = 2_000;

/// Subjects that are claimed in one document: a space's, and from feature level 2 on that of a second token. Nested claims are in
/// one document, so that they conflict; it is written anew with each claim and must stay well below `max_payload`.
pub const CLAIMS_PER_DOCUMENT: usize = 2_000;

/// Rooms in use, in all, from feature level 2 on: what the nodes are measured with. Before, the documents of claims are the limit.
pub const ROOMS: usize = 10_000;

/// Rooms that persist, or did and keep what was said then. The engine sets the bytes that each may take aside on every node
/// (`bus::HISTORY_ROOM_BYTES`), so all of them have to fit into `bus::HISTORY_BYTES`; a few more do, since two nodes may count at
/// the same time.
pub const PERSISTED_ROOMS: usize = 300;

/// Most bytes of one claim in its document: both names, their quotes, colon and comma.
const CLAIM_BYTES: usize = SUBJECT_BYTES + ROOM_ID_BYTES + 6;

// A full document fits with more than half of the engine's 1 MiB to spare.
const _: () = assert!(CLAIMS_PER_DOCUMENT * CLAIM_BYTES < 1024 * 1024 / 2);

/// Life of an invite, in seconds: 7 days, long enough for somebody who reads his messages once a week.
pub const INVITE_LIFETIME_S: i64 = 7 * 24 * 60 * 60;
