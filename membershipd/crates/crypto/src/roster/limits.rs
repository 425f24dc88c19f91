//! How much there may be of everything in a roster log.

use unibus_core::domain::limits::MEMBERS_PER_ROOM;

/// Most members, invited users and open links of a room.
pub const MEMBERS: usize = MEMBERS_PER_ROOM;

/// Most entries of a log: 10 MB at most, and a second or two of verifying, once.
pub const ENTRIES: u32 = 10_000;

/// Entries until the log takes only those that end something. What is left suffices to end everything that there can be, so a member
/// who fills the log does not keep the owners from removing members.
pub const GRANTS: u32 = ENTRIES - 2_000;

// Of everything that is there one entry makes an end.
const _: () = assert!(MEMBERS <= (ENTRIES - GRANTS) as usize);

/// Most bytes of an encoded entry but the first: their parts have bounds, so none can be longer. What stores them may refuse by it.
pub const ENTRY_BYTES: usize = 1_024;

/// Most bytes of the first entry, which has a whole room in it where it adopts one: 2,000 members with the longest handles take 264 kB.
pub const FIRST_ENTRY_BYTES: usize = 288 << 10;
