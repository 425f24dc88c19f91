//! What a store holds, as hashes: to compare two, and to say in one line what a copy has.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::blobs::{self, Kept};
use super::end::{End, Item};
use super::error::{Difference, TransferError};
use super::messages::carriable;
use crate::blobs::BlobName;
use crate::history::restored_bytes;
use unibus_api_types::control::Part;
use unibus_core::bus::{self, Bucket};
use unibus_core::domain::{RecordKey, Room, RoomId, RoomState};
use unibus_core::view::{EntryKey, View};
use unibus_store::{Key, Message, Position, Records};

type Hash = [u8; 32];

/// What was said in a room: how much, and a hash over all of it in its order, each message's over the one before it. So what
/// is the beginning of something longer can be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) count: u64,
    /// Bytes that it takes once it is restored.
    pub(super) bytes: u64,
    hash: Hash,
}

impl Said {
    pub(super) fn add(&mut self, room: &RoomId, message: &Message) {
        let mut hash = Sha256::new();
        hash.update(self.hash);
        hash.update(message.at_ms.to_be_bytes());
        hash.update(message.subject.as_bytes());
        // No subject has it, so nothing can be moved from one into the other.
        hash.update([0]);
        hash.update(&message.frame);
        self.hash = hash.finalize().into();
        self.count += 1;
        self.bytes += restored_bytes(room, message);
    }
}

/// What a store holds, heartbeats left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    entries: BTreeMap<Records, BTreeMap<Key, Hash>>,
    audit: Vec<Hash>,
    said: BTreeMap<RoomId, Said>,
    /// Rooms that are in use: only their messages are copied.
    in_use: BTreeSet<RoomId>,
    pub(super) blobs: BTreeMap<BlobName, Kept>,
    /// The highest place that was read of a message. It says nothing of what there is.
    highest: Highest,
}

/// A place that does not count where contents are compared: each store gives numbers of its own.
#[derive(Debug, Clone, Copy, Default)]
struct Highest(u64);

impl PartialEq for Highest {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Highest {}

impl Content {
    /// Reads all that `end` has. `understood` refuses what no node could read.
    pub(super) async fn of(end: &dyn End, understood: bool) -> Result<Self, TransferError> {
        let mut content = Self::default();
        for part in Part::ALL {
            let mut after = Position::default();
            loop {
                let page = end.read(part, after).await?;
                for item in &page.items {
                    if understood {
                        understand(part, item)?;
                    }
                    content.add(part, item)?;
                }
                match page.next {
                    Some(next) => after = next,
                    None => break,
                }
            }
        }
        for room in end.messages().rooms().await? {
            if understood && !content.in_use.contains(&room) {
                continue;
            }
            let mut after = 0;
            loop {
                let page = end.messages().said(&room, after).await?;
                let Some(last) = page.last() else { break };
                after = last.sequence;
                content.highest.0 = content.highest.0.max(after);
                // What cannot be carried in is not compared.
                let page = if understood { carriable(&room, page) } else { page };
                page.iter().for_each(|message| content.hear(&room, message));
            }
        }
        content.blobs = blobs::all(end).await?;
        Ok(content)
    }

    /// Notes a message, at the end of its room's.
    pub(super) fn hear(&mut self, room: &RoomId, message: &Message) {
        self.said.entry(room.clone()).or_default().add(room, message);
    }

    /// Whether a room is in use, by its record.
    pub(super) fn is_in_use(&self, room: &RoomId) -> bool {
        self.in_use.contains(room)
    }

    /// Forgets the messages of rooms that are not in use any more, and names those rooms.
    pub(super) fn forget_unused(&mut self) -> Vec<RoomId> {
        let gone: Vec<RoomId> = self.said.keys().filter(|room| !self.in_use.contains(*room)).cloned().collect();
        self.said.retain(|room, _| self.in_use.contains(room));
        gone
    }

    /// The highest place that was read of a message of any room.
    pub(super) fn highest(&self) -> u64 {
        self.highest.0
    }

    /// What was said, by room.
    pub(super) fn said(&self) -> &BTreeMap<RoomId, Said> {
        &self.said
    }

    /// Messages of all rooms.
    pub fn messages(&self) -> u64 {
        self.said.values().map(|said| said.count).sum()
    }

    /// Notes an item: an entry in the place of one of the same key, a record at the end.
    pub(super) fn add(&mut self, part: Part, item: &Item) -> Result<(), TransferError> {
        let hash = Sha256::digest(&item.value).into();
        match (part, &item.key) {
            (Part::Audit, _) => self.audit.push(hash),
            (Part::Records(_), None) => return Err(TransferError::nameless(part)),
            (Part::Records(_), Some(key)) if is_heartbeat(part, key) => {}
            (Part::Records(records), Some(key)) => {
                self.note_room(part, key, &item.value);
                self.entries.entry(records).or_default().insert(key.clone(), hash);
            }
        }
        Ok(())
    }

    /// Notes whether a room is in use. What is no record of one is refused elsewhere, where it has to be understood.
    fn note_room(&mut self, part: Part, key: &Key, value: &[u8]) {
        let Ok(EntryKey::Record(RecordKey::Room(id))) = EntryKey::parse(part.bucket(), key.as_str()) else { return };
        match serde_json::from_slice::<Room>(value) {
            Ok(room) if room.state == RoomState::Active => drop(self.in_use.insert(id)),
            _ => drop(self.in_use.remove(&id)),
        }
    }

    /// Whether the entry is there, whatever its value.
    pub(super) fn has(&self, records: Records, key: &Key) -> bool {
        self.entries.get(&records).is_some_and(|entries| entries.contains_key(key))
    }

    /// Entries of all buckets.
    pub fn entries(&self) -> usize {
        self.entries.values().map(BTreeMap::len).sum()
    }

    /// Records of the audit log.
    pub fn audit(&self) -> usize {
        self.audit.len()
    }

    /// Attachments.
    pub fn attachments(&self) -> usize {
        self.blobs.len()
    }

    /// Entries, records and messages in all, attachments apart.
    pub fn len(&self) -> usize {
        let messages = usize::try_from(self.messages()).unwrap_or(usize::MAX);
        (self.entries() + self.audit.len()).saturating_add(messages)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() + self.blobs.len() == 0
    }

    /// How much each part has, by its name.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let count = |part| match part {
            Part::Audit => self.audit.len(),
            Part::Records(records) => self.entries.get(&records).map_or(0, BTreeMap::len),
        };
        let messages = usize::try_from(self.messages()).unwrap_or(usize::MAX);
        let beside = [(bus::HISTORY, messages), (Bucket::Blobs.name(), self.blobs.len())];
        Part::ALL.into_iter().map(|part| (part.name(), count(part))).chain(beside).collect()
    }

    /// One hash over all keys and values, and records and messages in their order: lower-case hex. Revisions do not count, since another
    /// store has its own.
    pub fn sha256(&self) -> String {
        let mut all = Sha256::new();
        for part in Part::ALL {
            all.update(part.name());
            all.update([0]);
            match part {
                Part::Audit => self.audit.iter().for_each(|hash| all.update(hash)),
                Part::Records(records) => {
                    for (key, hash) in self.entries.get(&records).into_iter().flatten() {
                        all.update(key.as_str());
                        all.update([0]);
                        all.update(hash);
                    }
                }
            }
        }
        for (room, said) in &self.said {
            all.update(bus::HISTORY);
            all.update([0]);
            all.update(room.as_str());
            all.update([0]);
            all.update(said.hash);
        }
        // What there is none of is not in it, so that the hash of a copy without attachments stays what it was before there were any.
        for kept in self.blobs.values() {
            let Kept { name, by, at_ms, bytes } = kept;
            all.update(format!("{}\0{}\0{by}\0{at_ms}\0{bytes}\0", Bucket::Blobs.name(), name.object()));
        }
        HEXLOWER.encode(&all.finalize())
    }

    /// What `self` has that `other` has not, or has with another value; of the log, what is not the beginning of the other's.
    pub(super) fn beyond(&self, other: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (records, entries) in &self.entries {
            let others = other.entries.get(records);
            let differs = entries.iter().filter(|(key, hash)| others.and_then(|others| others.get(key)) != Some(hash));
            let part = Part::Records(*records).name();
            differences.extend(differs.map(|(key, _)| Difference { part, name: key.to_string() }));
        }
        let differs = self.audit.iter().enumerate().filter(|(at, hash)| other.audit.get(*at) != Some(hash));
        differences
            .extend(differs.map(|(at, _)| Difference { part: Part::Audit.name(), name: format!("record {}", at + 1) }));
        let differs = self.said.iter().filter(|(room, said)| {
            // What one is the beginning of is looked at where it is carried on.
            let other = other.said.get(*room);
            other.is_none_or(|other| said.count > other.count || (said.count == other.count && said != &other))
        });
        let name = |room: &RoomId| format!("room {room}");
        differences.extend(differs.map(|(room, _)| Difference { part: bus::HISTORY, name: name(room) }));
        differences
    }
}

/// Whether an entry is a heartbeat, which is not copied.
pub(super) fn is_heartbeat(part: Part, key: &Key) -> bool {
    matches!(EntryKey::parse(part.bucket(), key.as_str()), Ok(EntryKey::Heartbeat(_)))
}

/// Fails where a node's view would.
fn understand(part: Part, item: &Item) -> Result<(), TransferError> {
    let (Part::Records(records), Some(key)) = (part, &item.key) else { return Ok(()) };
    if Records::DECIDING.contains(&records) {
        View::default()
            .apply(part.bucket(), key.as_str(), &item.value, item.revision.get())
            .map_err(|error| TransferError::NotUnderstood(error.to_string()))?;
    }
    Ok(())
}
