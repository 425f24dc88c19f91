//! What a copy does not have, because it is damaged where it lies: named, so that the operator who keeps the copy knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use unibus_core::domain::RoomId;

/// Messages that words name; the rest are counted.
const NAMED: usize = 8;

/// What a copy does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    rooms: BTreeMap<RoomId, MissingOf>,
    attachments: BTreeSet<String>,
}

/// What of a room is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MissingOf {
    /// Sequences of messages that could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<u64>,
    /// Nothing is there after this sequence, whether there was anything or not; none: all that could be read is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nothing_after: Option<u64>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Missing {
    /// Whether nothing is missing.
    pub fn is_nothing(&self) -> bool {
        self.rooms.is_empty() && self.attachments.is_empty()
    }

    /// What is missing, by room.
    pub fn rooms(&self) -> &BTreeMap<RoomId, MissingOf> {
        &self.rooms
    }

    /// Attachments that are damaged.
    pub fn attachments(&self) -> &BTreeSet<String> {
        &self.attachments
    }

    pub(super) fn unreadable(&mut self, room: &RoomId, sequences: &[u64]) {
        if !sequences.is_empty() {
            self.rooms.entry(room.clone()).or_default().unreadable.extend(sequences);
        }
    }

    pub(super) fn give_up(&mut self, room: &RoomId, after: u64, why: String) {
        let of = self.rooms.entry(room.clone()).or_default();
        of.nothing_after = Some(after);
        of.why = Some(why);
    }

    pub(super) fn is_given_up(&self, room: &RoomId) -> bool {
        self.rooms.get(room).is_some_and(|of| of.nothing_after.is_some())
    }

    pub(super) fn attachment(&mut self, name: String) {
        self.attachments.insert(name);
    }

    pub(super) fn has_attachment(&self, name: &str) -> bool {
        self.attachments.contains(name)
    }

    /// Forgets rooms that are gone.
    pub(super) fn retain(&mut self, is_in_use: impl Fn(&RoomId) -> bool) {
        self.rooms.retain(|room, _| is_in_use(room));
    }

    /// A line for each.
    pub fn words(&self) -> Vec<String> {
        let rooms = self.rooms.iter().map(|(room, of)| {
            let mut parts = Vec::new();
            if !of.unreadable.is_empty() {
                let named: Vec<String> = of.unreadable.iter().take(NAMED).map(u64::to_string).collect();
                let rest = of.unreadable.len().saturating_sub(NAMED);
                let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
                parts.push(format!("without {}{rest}, which cannot be read", named.join(", ")));
            }
            match (of.nothing_after, &of.why) {
                (Some(0), Some(why)) => parts.push(format!("without its messages: {why}")),
                (Some(after), Some(why)) => parts.push(format!("with nothing after {after}: {why}")),
                _ => {}
            }
            format!("room {room}: {}", parts.join("; "))
        });
        let attachments = self.attachments.iter().map(|name| format!("attachment {name}: damaged, left out"));
        rooms.chain(attachments).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let (hall, attic): (RoomId, RoomId) = ("hall".parse().unwrap(), "attic".parse().unwrap());
        let mut missing = Missing::default();
        missing.unreadable(&hall, &[]);
        assert!(missing.is_nothing());
        missing.unreadable(&hall, &(1..=10).collect::<Vec<_>>());
        missing.give_up(&attic, 5, "broken".to_owned());
        assert!(!missing.is_given_up(&hall) && missing.is_given_up(&attic));
        let words = missing.words().join("\n");
        assert!(words.contains("room attic: with nothing after 5: broken"), "{words}");
        assert!(words.contains("7, 8 and 2 more"), "{words}");
        missing.retain(|room| *room == hall);
        assert_eq!(missing.words().len(), 1);
    }
}
