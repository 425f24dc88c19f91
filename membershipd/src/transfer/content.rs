//! What a store holds, as hashes: to compare two, and to say in one line what a copy has.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::end::{End, Item, Part};
use super::error::{Difference, TransferError};
use crate::store::{Key, Position, Records};
use crate::view::{EntryKey, View};

type Hash = [u8; 32];

/// What a store holds, heartbeats left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    entries: BTreeMap<Records, BTreeMap<Key, Hash>>,
    audit: Vec<Hash>,
}

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
        Ok(content)
    }

    /// Notes an item: an entry in the place of one of the same key, a record at the end.
    pub(super) fn add(&mut self, part: Part, item: &Item) -> Result<(), TransferError> {
        let hash = Sha256::digest(&item.value).into();
        match (part, &item.key) {
            (Part::Audit, _) => self.audit.push(hash),
            (Part::Records(_), None) => return Err(TransferError::nameless(part)),
            (Part::Records(_), Some(key)) if is_heartbeat(part, key) => {}
            (Part::Records(records), Some(key)) => {
                self.entries.entry(records).or_default().insert(key.clone(), hash);
            }
        }
        Ok(())
    }

    /// Whether the entry is there, whatever its value.
    pub(super) fn has(&self, records: Records, key: &Key) -> bool {
        self.entries.get(&records).is_some_and(|entries| entries.contains_key(key))
    }

    /// Records of the audit log.
    pub fn audit(&self) -> usize {
        self.audit.len()
    }

    /// Entries and records in all.
    pub fn len(&self) -> usize {
        self.entries.values().map(BTreeMap::len).sum::<usize>() + self.audit.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much each part has, by its name.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let count = |part| match part {
            Part::Audit => self.audit.len(),
            Part::Records(records) => self.entries.get(&records).map_or(0, BTreeMap::len),
        };
        Part::ALL.into_iter().map(|part| (part.name(), count(part))).collect()
    }

    /// One hash over all keys and values, and the records in their order: lower-case hex. Revisions do not count, since another
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
        HEXLOWER.encode(&all.finalize())
    }

    /// What `self` has that `other` has not, or has with another value; of the log, what is not the beginning of the other's.
    pub(super) fn beyond(&self, other: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (records, entries) in &self.entries {
            let others = other.entries.get(records);
            let differs = entries.iter().filter(|(key, hash)| others.and_then(|others| others.get(key)) != Some(hash));
            let part = Part::Records(*records);
            differences.extend(differs.map(|(key, _)| Difference { part, name: key.to_string() }));
        }
        let differs = self.audit.iter().enumerate().filter(|(at, hash)| other.audit.get(*at) != Some(hash));
        differences.extend(differs.map(|(at, _)| Difference { part: Part::Audit, name: format!("record {}", at + 1) }));
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
