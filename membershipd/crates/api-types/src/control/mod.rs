//! What root and the daemon's own user may ask a running daemon over its control socket: a request and an answer a connection,
//! each a line of JSON.

mod copy;
mod page;
mod probe;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use unibus_core::domain::{Handle, Role, RoomId, SignPub};

pub use copy::{BlobCopy, Name, Part, Sent, SentBlob, SentMessage};
pub use page::page;
pub use probe::{ProbeValue, REGISTERS, Register};

/// Longest request, bytes: a batch of a copy.
pub const REQUEST_BYTES: u64 = 8 << 20;
/// Longest answer that is read, bytes: a page of a copy, or a list as release 0.1.0 answers, whole.
pub const ANSWER_BYTES: u64 = 64 << 20;
/// Entries of a list in one answer.
pub const LIST_PAGE: usize = 1_000;

/// The socket in the runtime directory.
pub fn socket(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The posture.
    Status,
    /// Users, by handle. Without a limit all of them, as release 0.1.0 asks; that release ignores both and answers so.
    UserList {
        /// After which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Handle>,
        /// How many at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// One user.
    UserShow {
        /// Who.
        handle: Handle,
    },
    /// A new user.
    UserAdd {
        /// Who.
        handle: Handle,
        /// With which key.
        sign_pub: SignPub,
        /// In which role.
        role: Role,
    },
    /// A user switched on, off or removed.
    UserSet {
        /// Who.
        handle: Handle,
        /// To what.
        state: unibus_core::domain::State,
        /// Even if no admin is left.
        last_admin: bool,
    },
    /// Another role of a user on the bus. Release 0.1.0 does not know it.
    UserRole {
        /// Whose.
        handle: Handle,
        /// Which.
        role: Role,
        /// Even if no admin is left.
        last_admin: bool,
    },
    /// A register set, if it still has the revision that is expected.
    ProbeWrite {
        /// Which.
        key: Register,
        /// To what.
        value: ProbeValue,
        /// The revision that it must have; 0: it was never written.
        expected: u64,
    },
    /// A register read.
    ProbeRead {
        /// Which.
        key: Register,
    },
    /// More copies of every bucket.
    Scale {
        /// How many.
        copies: usize,
    },
    /// The feature level of the cluster, and what each node can do.
    Level,
    /// The feature level raised to the highest that the daemon can do.
    LevelRaise,
    /// A fresh handshake with every other node's route port.
    ProbeRoutes,
    /// What interrupted commands left behind, finished.
    Repair,
    /// The damaged history of a room, replaced by one with all that can still be read.
    Mend {
        /// Of which room.
        room: RoomId,
        /// Even without messages that are kept and that no copy gives out now.
        without_unreadable: bool,
    },
    /// A page of what the store has, for a copy.
    CopyOut {
        /// Of which bucket.
        part: Part,
        /// After which revision.
        after: u64,
    },
    /// The rooms that have messages, for a copy, by id; pages as those of users.
    CopyRooms {
        /// After which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<RoomId>,
        /// How many at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// Messages of a room, for a copy.
    CopySaid {
        /// Of which room.
        room: RoomId,
        /// After which sequence.
        after: u64,
    },
    /// Messages of a copy, put behind those that are there.
    CopyKeep {
        /// Of which room.
        room: RoomId,
        /// How many are there.
        there: u64,
        /// How much all of the room's take.
        bytes: u64,
        /// The highest place that anything in the copy has.
        #[serde(default)]
        above: u64,
        /// The messages.
        messages: Vec<SentMessage>,
    },
    /// Items of a copy, written where there are none.
    CopyIn {
        /// Into which bucket.
        part: Part,
        /// The items.
        items: Vec<Sent>,
    },
    /// What a copy asks about attachments.
    CopyBlobs {
        /// What is asked.
        ask: BlobCopy,
    },
}

/// Why there is no answer to a request.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{message}; remedy: {remedy}")]
pub struct Failure {
    /// A word for programs.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Failure {
    /// Why, and what to do about it.
    pub fn new(code: &str, message: &str, remedy: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned(), remedy: remedy.to_owned() }
    }
}

/// The answer: a value, or why there is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The value.
    Ok(serde_json::Value),
    /// Why not.
    Error(Failure),
}
