//! What a user has read: a mark in each room, in a file beside the identity.
//!
//! It is a help and proves nothing, so what is wrong with it stands in the way of nothing: a message is shown once more then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use unibus_core::domain::{Handle, RoomId, Schema};
use unibus_core::private_file;
use unibus_crypto::MessageId;

/// Messages of a room that are remembered beside its mark, at most.
const MOST: usize = 1_024;
/// Bytes of the file that are read, at most.
const BYTES: u64 = 16 << 20;

/// How far a user has read in a room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Number up to which the history was shown; none: the room was never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read: Option<u64>,
    /// What was shown when it came, and has no number up to there: ids and senders.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    shown: BTreeSet<String>,
    /// Numbers above that of what the user said.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    said: BTreeSet<u64>,
}

impl Mark {
    /// The history was shown up to `read`; of what came since, `shown` was.
    pub(super) fn reach(&mut self, read: u64, shown: impl IntoIterator<Item = String>) {
        self.advance(read);
        self.shown = shown.into_iter().collect();
    }

    /// The history was shown up to `read`, and there is more of it.
    pub(super) fn advance(&mut self, read: u64) {
        self.read = Some(read);
        self.said.retain(|said| *said > read);
    }

    /// A message was shown when it came.
    pub(super) fn show(&mut self, message: String) {
        // Ids begin with the time.
        self.shown.insert(message);
        while self.shown.len() > MOST {
            self.shown.pop_first();
        }
    }

    /// The user has said something, which is kept as this number.
    pub(super) fn say(&mut self, number: u64) {
        if self.read.is_none_or(|read| read < number) {
            self.said.insert(number);
        }
        while self.said.len() > MOST {
            self.said.pop_first();
        }
    }

    /// Whether a message was shown when it came.
    pub(super) fn has_shown(&self, message: &str) -> bool {
        self.shown.contains(message)
    }

    /// Of `count` messages above the mark, those that are new to the user.
    pub(super) fn unread(&self, count: u64) -> u64 {
        let known = self.shown.len().saturating_add(self.said.len());
        count.saturating_sub(u64::try_from(known).unwrap_or(u64::MAX))
    }
}

/// What a message is called in the file.
pub(super) fn name(id: MessageId, sender: &Handle) -> String {
    format!("{id} {sender}")
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    schema: Schema<1>,
    rooms: BTreeMap<RoomId, Mark>,
}

/// The marks of one user.
#[derive(Debug)]
pub(super) struct Marks {
    path: PathBuf,
}

impl Marks {
    /// Those beside the identity file `identity`.
    pub(super) fn beside(identity: &Path) -> Self {
        Self { path: private_file::sibling(identity, "read") }
    }

    /// All of them; a file that is not understood is none.
    pub(super) fn all(&self) -> BTreeMap<RoomId, Mark> {
        let file = OpenOptions::new().read(true).custom_flags(flags()).open(&self.path);
        file.ok().and_then(|mut file| read(&mut file).ok()).unwrap_or_default().rooms
    }

    /// That of `room`.
    pub(super) fn of(&self, room: &RoomId) -> Option<Mark> {
        self.all().remove(room)
    }

    /// Changes that of `room`; says on standard error, and goes on, where that is not possible.
    pub(super) fn change(&self, room: &RoomId, change: impl FnOnce(&mut Mark)) {
        if let Err(error) = self.try_change(room, change) {
            eprintln!("membershipd: what you have read is not noted in {}: {error:#}", self.path.display());
        }
    }

    fn try_change(&self, room: &RoomId, change: impl FnOnce(&mut Mark)) -> anyhow::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags());
        let mut file = options.open(&self.path)?;
        // One program at a time, and each on what the last one left. It is not synced: nothing depends on it.
        file.lock()?;
        let mut document = read(&mut file).unwrap_or_default();
        let mark = document.rooms.entry(room.clone()).or_default();
        let before = mark.clone();
        change(mark);
        if *mark != before {
            let text = serde_json::to_vec(&document)?;
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(&text)?;
        }
        Ok(())
    }
}

/// A link is not followed, and a pipe not waited for.
fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed()
}

fn read(file: &mut File) -> anyhow::Result<Document> {
    let mut text = Vec::new();
    file.take(BYTES).read_to_end(&mut text)?;
    serde_json::from_slice(&text).context("it is no file of read marks")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn marks_are_private_and_survive_the_program_and_damage() {
        let dir = std::env::temp_dir().join(format!("unibus-marks-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (identity, room): (_, RoomId) = (dir.join("alice.toml"), "kitchen".parse().unwrap());
        let marks = Marks::beside(&identity);
        assert_eq!(marks.of(&room), None);
        marks.change(&room, |mark| mark.reach(7, ["a bob".to_owned()]));
        marks.change(&"hall".parse().unwrap(), |mark| mark.say(3));
        let again = Marks::beside(&identity);
        assert!(again.of(&room).is_some_and(|mark| mark.read == Some(7) && mark.has_shown("a bob")));
        let file = dir.join("alice.toml.read");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "{").unwrap();
        assert_eq!(again.of(&room), None);
        again.change(&room, |mark| mark.reach(8, []));
        assert_eq!(again.of(&room).and_then(|mark| mark.read), Some(8));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_was_shown_or_said_is_not_new() {
        let mut mark = Mark::default();
        mark.reach(10, ["1 bob".to_owned()]);
        [9, 11, 12].into_iter().for_each(|number| mark.say(number));
        assert_eq!((mark.unread(5), mark.unread(1)), (2, 0));
        mark.reach(11, []);
        assert_eq!(mark.unread(5), 4);
        (0..2 * MOST).for_each(|number| mark.show(format!("{number:05} bob")));
        assert!(mark.shown.len() == MOST && !mark.has_shown("00000 bob") && mark.has_shown("02047 bob"));
    }
}
