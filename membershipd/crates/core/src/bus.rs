//! Names and limits of the bus, each written once.

use std::time::Duration;

/// Account of the members' connections.
pub const ACCOUNT_BUS: &str = "BUS";
/// Account that owns the buckets; only daemons are in it.
pub const ACCOUNT_CONTROL: &str = "CTL";
/// The engine's system account.
pub const ACCOUNT_SYSTEM: &str = "SYS";

/// Account in which a node's engine asks its own daemon, and only that one, whom to admit.
pub fn account_callout(node: &str) -> String {
    format!("{ACCOUNT_CALLOUT_PREFIX}{node}")
}

/// What the names of the callout accounts begin with.
pub const ACCOUNT_CALLOUT_PREFIX: &str = "AUTH_";

/// Subject on which the engine publishes authorization requests (nats-server `server/auth_callout.go`).
pub const CALLOUT_SUBJECT: &str = "$SYS.REQ.USER.AUTH";
/// Header that carries the engine's public curve key when requests are encrypted.
pub const CALLOUT_XKEY_HEADER: &str = "Nats-Server-Xkey";
/// A subject on which nobody answers, in no account: it lies where no client may listen, however open the bus.
pub const NOBODY: &str = "$KV.nobody";

/// Header by which a stream keeps a message once, however often it is sent within its `duplicate_window`. Where there are several
/// copies it says so before it compares anything (`checkMsgHeadersPreClusteredProposal`); of a lone copy there is but one leader. It
/// also tells our own write from one of the same bytes by somebody else.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Where a user waits for answers, without the last tokens; nobody else may listen there.
pub fn inbox(user: &str) -> String {
    format!("_INBOX.{user}")
}

/// Where a user waits for answers that come from an rpc room, without the last tokens. A member who may answer in the room may publish there.
pub fn room_inbox(user: &str, room: &str) -> String {
    format!("{}.{room}", inbox(user))
}

/// Below it one user alone is told what concerns him.
pub fn user_events(user: &str) -> String {
    format!("unibus.user.{user}")
}

/// Where `user` is told that it met a bound, and so was refused or disconnected.
pub fn bound_notices(user: &str) -> String {
    format!("{}.bounds", user_events(user))
}

/// Where `user` is told what came of what it said in a room that daemons keep.
pub fn kept_notices(user: &str, room: &str) -> String {
    format!("{}.kept.{room}", user_events(user))
}

/// Where the members of a room are told who comes and goes.
pub fn room_events(room: &str) -> String {
    format!("unibus.event.{room}")
}

/// Subject in the system account on which a node asks how far the others have come with what was revoked.
pub const FENCE_SUBJECT: &str = "unibus.fence";
/// Subject in the system account on which a node asks the daemons of the others what they are.
pub const POSTURE_SUBJECT: &str = "unibus.posture";
/// Time for the others to say it.
pub const POSTURE_TIME: Duration = Duration::from_secs(4);
/// Pause after which it asks again.
pub const FENCE_AGAIN: Duration = Duration::from_millis(250);

/// User name of the route layer; the secret is the password.
pub const ROUTE_USER: &str = "unibus-route";

/// How long the engine waits for a verdict on a connection, and how long a daemon stays mute after its start.
/// Above 2 s clients may take the engine's PING for an admission.
pub const AUTHORIZATION_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval of the heartbeat round that renews the lease.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Time within which a heartbeat round must have been acknowledged and seen again to count.
pub const HEARTBEAT_ROUND: Duration = Duration::from_secs(4);
/// Validity of the lease from the send time of its round: longest election (9 s), heartbeat, margin.
pub const LEASE: Duration = Duration::from_secs(12);
/// Time within which those who lost a right are cut off, be it by the death of the engine.
pub const KICK: Duration = Duration::from_secs(1);
/// The part of it within which the engine must confirm a kick before it is killed.
pub const CONFIRM: Duration = Duration::from_millis(800);
/// The longest that a cut of those who lost a right goes on while the engine answers, however slowly, before it is killed. No proof
/// renews the lease meanwhile, and the end of the lease cuts every member, so the bound of a revocation holds whatever this is. It leaves
/// the lease time for a round that was sent during the cut.
pub const CUT: Duration = Duration::from_secs(6);
/// Silence after which the service manager kills the daemon; stands in the unit as WatchdogSec.
pub const WATCHDOG: Duration = Duration::from_secs(10);
/// Allowance for the kill of a silent daemon and its engine to take effect.
pub const KILL: Duration = Duration::from_secs(2);

/// Time after which no node can admit or serve anybody on a view older than a write that it has not seen:
/// `max(lease + kick, watchdog + kill)` plus 1 % for clock rates.
pub fn revocation_bound() -> Duration {
    let bound = (LEASE + KICK).max(WATCHDOG + KILL);
    bound + bound / 100
}

/// How often a daemon compares the connections that its engine lists with those that it stands behind, and ends the others. So a
/// connection that the daemon did not admit, by whatever fault, lives for that long and [`KICK`] at most.
pub const STRAYS: Duration = Duration::from_secs(10);
/// How long a connection goes on with less than its user is allowed: what a connection may is fixed when it is admitted.
pub const OUTDATED: Duration = Duration::from_secs(600);
/// Such connections that are ended together, so that those of a large room do not all come back in one moment.
pub const OUTDATED_AT_ONCE: usize = 64;

/// Time within which attempts at reading or writing an entry begin, before it is reported what is known. An election takes
/// up to 9 s (nats-server `raft.go`), and a bucket has no leader meanwhile; the last attempt ends before a lease would.
pub const STORE_BUDGET: Duration = Duration::from_secs(10);
/// Time for one attempt at something that is repeated. Requests right after a leader died are lost and never answered, so
/// short attempts are what ends an outage soon after its election.
pub const ATTEMPT: Duration = Duration::from_secs(1);
/// Time for one request to the engine that is not repeated.
pub const ASK: Duration = Duration::from_secs(2);

/// How long before a certificate ends the log says so.
pub const CERTIFICATE_WARNING: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often the certificates are looked at.
pub const CERTIFICATE_CHECK: Duration = Duration::from_secs(24 * 60 * 60);

/// Copies of each bucket with which the loss of one node loses nothing.
pub const HA_COPIES: usize = 3;

/// Longest value of an entry, in bytes: the engine takes messages of 1 MiB, headers included (nats-server `const.go`,
/// MAX_PAYLOAD_SIZE).
pub const VALUE_BYTES: usize = PAYLOAD_BYTES - (4 << 10);

/// Bytes of a message, headers included: the engine's own limit, on which frames and entries rely ([`VALUE_BYTES`]).
pub const PAYLOAD_BYTES: usize = 1 << 20;
/// Tokens of a subject to which a client may subscribe. A subject of a room has 8 at most. Without a limit a subscription of 4 KiB has
/// 2,000 of them, and takes 0.4 MB of every engine (measured on 2.15.1).
pub const SUBSCRIPTION_TOKENS: u8 = 16;

/// Disk that JetStream may use on a node. Blobs and the audit log have their own, smaller limits, so that the control
/// buckets can always grow; of the audit the oldest records then make way.
pub const STORE_BYTES: u64 = 10 * GIB;
const GIB: u64 = 1 << 30;

/// What the streams of all rooms that persist are called together.
pub const HISTORY: &str = "UNIBUS_history";
/// Disk that the messages of one room may take on a node; the oldest make way. Some 20,000 messages of 450 bytes.
pub const HISTORY_ROOM_BYTES: u64 = 10 << 20;
/// Disk that the messages of all rooms may take on a node.
pub const HISTORY_BYTES: u64 = 3 * GIB;
/// Time within which a message of the same `Nats-Msg-Id` is the same message: whoever publishes tries again for as long as a
/// write of ours would, and a client that lost its connection for some time after that.
pub const HISTORY_DUPLICATES: Duration = Duration::from_secs(120);

/// Name of the stream that keeps the messages of a room, in the account of the members.
pub fn history_stream(room: &str) -> String {
    format!("{}{room}", history_streams())
}

/// What the names of these streams begin with.
pub fn history_streams() -> String {
    format!("{HISTORY}_")
}

/// Subject of messages of a room that a daemon carries in from a copy. It lies where no client may publish or listen, however
/// open the bus, so what is on it is the daemon's own word. A stream of a room always has it: one without subjects would be
/// given its own name for one.
pub fn history_restored(room: &str) -> String {
    format!("$KV.{HISTORY}.{room}")
}

/// Time within which a frame that comes again is the same: the sender sends it again for as long as it waits, and a frame that was
/// held by other nodes may come late.
pub const KEPT_DUPLICATES: Duration = Duration::from_secs(300);

/// Streams over which rooms that persist are spread, in the account of the daemons. It never changes: what is stored under a name
/// is found there.
pub const SHARDS: u8 = 16;

/// What the streams of all shards are called together.
pub const KEPT: &str = "UNIBUS_kept";
/// Sequences of one incarnation of a shard: those of the next one, into which a copy was carried, lie above all of them.
const SHARD_SPAN: u64 = 1_000_000_000_000;
/// Sequence of the first message of a shard. It lies above every sequence of the streams that captured a room each, so a reader's place
/// says which of the two it is of.
pub const SHARD_FIRST: u64 = SHARD_SPAN + 1;

/// Of which incarnation of the places of a room a sequence is: 0 of the stream that captured it, 1 of the first shard.
pub fn incarnation(sequence: u64) -> u64 {
    sequence.saturating_sub(1) / SHARD_SPAN
}

/// Sequence of the first message of a shard into which places up to `above` are carried: of a later incarnation than all of them.
pub fn shard_first(above: u64) -> u64 {
    (incarnation(above) + 1).saturating_mul(SHARD_SPAN) + 1
}

/// Name of the stream of a shard.
pub fn shard_stream(shard: u8) -> String {
    format!("{KEPT}_{shard:02}")
}

/// What stands before a room's id in the subject of its messages in a shard, the last dot included.
pub fn shard_prefix(shard: u8) -> String {
    format!("unibus.kept.{shard:02}.")
}

/// Name of the stream in which the messages of a room lie while its own is replaced, in the account of the members.
pub fn mending_stream(room: &str) -> String {
    format!("{}{room}", mending_streams())
}

/// What the names of these streams begin with.
pub fn mending_streams() -> String {
    format!("{MENDING}_")
}

/// Subject of messages there; as with [`history_restored`], what is on it is the daemon's own word.
pub fn mending_restored(room: &str) -> String {
    format!("$KV.{MENDING}.{room}")
}

const MENDING: &str = "UNIBUS_mending";

/// Name of the bucket of attachments among object stores (ADR-20); its stream has `OBJ_` before it.
pub const BLOBS: &str = "UNIBUS_blobs";
/// Bytes of a message that holds a piece of an attachment: what the clients of NATS use (ADR-20), small enough that many
/// uploads at once take little memory.
pub const BLOB_CHUNK_BYTES: usize = 128 << 10;
/// How often what nobody needs of the attachments is looked for.
pub const BLOB_SWEEP: Duration = Duration::from_secs(60 * 60);
/// Age at which chunks that no attachment has are left over: far longer than any upload may take.
pub const BLOB_ORPHAN: Duration = Duration::from_secs(60 * 60);

/// A replicated stream that the daemon owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// Who exists: handles, keys, roles, tombstones.
    Users,
    /// Rooms, their policies and subject claims.
    Rooms,
    /// Who is in which room; authoritative.
    Members,
    /// Sealed room keys by epoch.
    RoomKeys,
    /// Who may become a user, by the hash of a token. Decides nothing until somebody registers, and is read from the store then.
    Invites,
    /// Rooms of a member; derived from `Members`.
    RoomsByMember,
    /// Nonces of signed requests, for as long as a request may be valid.
    Nonces,
    /// The same by authority, many in one message: where all nodes know it (feature level 2) it takes the place of [`Self::Nonces`].
    NonceLog,
    /// Ciphertext of attachments.
    Blobs,
    /// Append-only record of what was decided.
    Audit,
}

impl Bucket {
    /// All of them, in the order in which they are made.
    pub const ALL: [Bucket; 10] = [
        Bucket::Users,
        Bucket::Rooms,
        Bucket::Members,
        Bucket::RoomKeys,
        Bucket::Invites,
        Bucket::RoomsByMember,
        Bucket::Nonces,
        Bucket::NonceLog,
        Bucket::Blobs,
        Bucket::Audit,
    ];

    /// The buckets whose content decides access: each must be proven current for the lease to hold.
    pub const DECIDING: [Bucket; 3] = [Bucket::Users, Bucket::Rooms, Bucket::Members];

    /// Name as the operator sees it.
    pub fn name(self) -> &'static str {
        match self {
            Bucket::Users => "UNIBUS_users",
            Bucket::Rooms => "UNIBUS_rooms",
            Bucket::Members => "UNIBUS_members",
            Bucket::RoomKeys => "UNIBUS_room_keys",
            Bucket::Invites => "UNIBUS_invites",
            Bucket::RoomsByMember => "UNIBUS_rooms_by_member",
            Bucket::Nonces => "UNIBUS_nonces",
            Bucket::NonceLog => "UNIBUS_nonce_log",
            Bucket::Blobs => "OBJ_UNIBUS_blobs",
            Bucket::Audit => "UNIBUS_audit",
        }
    }

    /// Name of the stream behind it.
    pub fn stream(self) -> String {
        match self {
            Bucket::Blobs | Bucket::Audit | Bucket::NonceLog => self.name().to_owned(),
            _ => format!("KV_{}", self.name()),
        }
    }

    /// Subjects that the stream stores.
    pub fn subjects(self) -> Vec<String> {
        match self {
            // Of an object its chunks and its record (nats-architecture-and-design ADR-20).
            Bucket::Blobs => ["C.>", "M.>"].map(|below| format!("{}{below}", self.key_prefix())).to_vec(),
            _ => vec![format!("{}>", self.key_prefix())],
        }
    }

    /// What stands before a key in the subject of its entry, the last dot included.
    pub fn key_prefix(self) -> String {
        match self {
            Bucket::Audit => "unibus.audit.".to_owned(),
            Bucket::NonceLog => "unibus.nonces.".to_owned(),
            Bucket::Blobs => format!("$O.{BLOBS}."),
            _ => format!("$KV.{}.", self.name()),
        }
    }

    /// Age after which entries go by themselves. A nonce outlives any request that may carry it: 120 s of validity, 30 s
    /// of clock skew on either side, and 60 s for the insert itself, which is tried several times.
    pub fn max_age(self) -> Duration {
        match self {
            Bucket::Nonces | Bucket::NonceLog => Duration::from_secs(240),
            _ => Duration::ZERO,
        }
    }

    /// Bytes it may hold on a node, or none where only `STORE_BYTES` limits it.
    pub fn max_bytes(self) -> Option<u64> {
        match self {
            Bucket::Blobs => Some(4 * GIB),
            Bucket::Audit => Some(GIB),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_covers_the_lease_and_the_watchdog() {
        assert_eq!(revocation_bound(), Duration::from_millis(13_130));
        assert!(revocation_bound() > WATCHDOG + KILL);
        assert!(CONFIRM < KICK);
        // A round that was sent when the cut ended is in time, and so is one that was sent a second before.
        assert!(CONFIRM < CUT && CUT + HEARTBEAT + HEARTBEAT_ROUND < LEASE);
    }

    #[test]
    fn a_write_rides_over_an_election_and_ends_before_the_lease() {
        assert!(STORE_BUDGET > Duration::from_secs(9) && STORE_BUDGET + ATTEMPT < LEASE);
    }

    #[test]
    fn limited_streams_leave_room_for_the_control_buckets() {
        let limited: u64 = Bucket::ALL.iter().filter_map(|b| b.max_bytes()).sum();
        assert!(limited <= STORE_BYTES / 2);
        assert!(limited + HISTORY_BYTES <= STORE_BYTES - 2 * GIB);
        let rooms = u64::try_from(crate::domain::limits::PERSISTED_ROOMS).unwrap();
        assert!((rooms + 5) * HISTORY_ROOM_BYTES <= HISTORY_BYTES, "with those that two nodes counted at once");
    }

    #[test]
    fn a_place_says_of_which_incarnation_it_is() {
        assert_eq!([0, 1, SHARD_FIRST - 1].map(incarnation), [0; 3]);
        assert_eq!([0, 1, SHARD_FIRST - 1].map(shard_first), [SHARD_FIRST; 3]);
        let second = shard_first(SHARD_FIRST);
        assert_eq!((incarnation(SHARD_FIRST), incarnation(second - 1), incarnation(second)), (1, 1, 2));
        assert!(second > SHARD_FIRST && shard_first(second - 1) == second && shard_first(second) > second);
    }

    #[test]
    fn who_publishes_again_is_not_heard_twice() {
        assert!(HISTORY_DUPLICATES > 2 * STORE_BUDGET);
    }
}
