//! What is copied from store to store, as it goes over the control socket.

use serde::{Deserialize, Serialize};
use unibus_core::bus::Bucket;
use unibus_core::domain::{Handle, RoomId};
use unibus_core::key::Records;

use crate::BlobId;

/// A part of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Part {
    /// Entries by key.
    Records(Records),
    /// The audit log.
    Audit,
}

impl Part {
    /// All of them, in the order in which they are written: what gives a right comes after what it rests on.
    pub const ALL: [Part; 7] = [
        Part::Records(Records::Users),
        Part::Records(Records::Rooms),
        Part::Records(Records::Members),
        Part::Records(Records::RoomKeys),
        Part::Records(Records::Invites),
        Part::Records(Records::RoomsByMember),
        Part::Audit,
    ];

    /// The bucket behind it.
    pub fn bucket(self) -> Bucket {
        match self {
            Part::Records(records) => records.bucket(),
            Part::Audit => Bucket::Audit,
        }
    }

    /// Its name, as the operator sees it.
    pub fn name(self) -> &'static str {
        self.bucket().name()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        part.name().to_owned()
    }
}

impl TryFrom<String> for Part {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Part::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| format!("there is no bucket '{name}'"))
    }
}

/// An item in a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// Its key; none: a record of the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its value, base64.
    pub value: String,
    /// Its revision where it comes from.
    pub revision: u64,
}

/// A message in a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentMessage {
    /// Its place where it comes from.
    pub sequence: u64,
    /// When it was kept, milliseconds since 1970.
    pub at_ms: i64,
    /// Where it was said.
    pub subject: String,
    /// What was said, base64.
    pub frame: String,
}

/// What a copy asks about attachments.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what", deny_unknown_fields)]
pub enum BlobCopy {
    /// Which ones there are after this one.
    List {
        /// None: from the beginning.
        after: Option<Name>,
    },
    /// A piece of one.
    Read {
        /// Of which.
        name: Name,
        /// Where: 0, or the `next` of the piece before.
        from: u64,
    },
    /// A piece of one that is not there yet.
    Write {
        /// Of which.
        name: Name,
        /// Which attempt it is of, base64.
        upload: String,
        /// Its bytes, base64.
        piece: String,
    },
    /// All pieces are written.
    Commit {
        /// What it is.
        kept: SentBlob,
        /// Which attempt it was, base64.
        upload: String,
        /// How many pieces there are.
        pieces: u64,
    },
}

/// A name in a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The room.
    pub room: RoomId,
    /// What it is called there.
    pub sha256: BlobId,
}

/// An attachment in a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentBlob {
    /// What it is called.
    pub name: Name,
    /// Who added it.
    pub by: Handle,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// How long it is.
    pub bytes: u64,
}
