//! What a user has once seen of others, kept beside the identity file: a server can lie the first time, and never after.
//!
//! The file beside it that programs lock to take turns remembers that there were pins. So pins that are gone are no first time: nothing
//! is believed until they are back, or the user says that each user is to be met for the first time again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use unibus_core::domain::{Handle, RoomId, Schema, SignPub};
use unibus_core::private_file::{self, PrivateFileError};
use unibus_crypto::{Epoch, HpkePub};

/// What the file that is locked says once there were pins.
const NOTE: &[u8] = b"There are pins beside this file. Where they are gone, membershipd says so.\n";

/// What is pinned of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// His signing key.
    pub sign_pub: SignPub,
    /// His HPKE key; none: he had not set one when he was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hpke_pub: Option<HpkePub>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: Schema<1>,
    users: BTreeMap<Handle, Pinned>,
    /// The newest epoch of each room that was seen.
    epochs: BTreeMap<RoomId, Epoch>,
    /// Rooms whose messages were sealed when they were seen.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    sealed: BTreeSet<RoomId>,
}

/// Why the pins are in the way.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// They cannot be kept.
    #[error("cannot keep what was seen of others in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not private, or cannot be written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file is not one of ours.
    #[error("{path} is no file of pins: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: serde_json::Error,
    },
    /// There were pins, and they are gone.
    #[error("{path}, which says whose keys you have seen, is gone: servers could now name any key as anybody's")]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// A key is not the one that was seen first.
    #[error("the servers name another {what} for '{handle}' than before")]
    Swapped {
        /// Whose.
        handle: Handle,
        /// Which key.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A server says that messages are in clear where they were sealed.
    #[error("the servers say that messages of '{room}' are in clear, and they were sealed before")]
    Unsealed {
        /// The room.
        room: RoomId,
    },
    /// A server names an older epoch than was seen.
    #[error("the servers name epoch {named} as the newest of '{room}', and epoch {seen} was seen already")]
    WentBack {
        /// The room.
        room: RoomId,
        /// What is named now.
        named: Epoch,
        /// What was seen.
        seen: Epoch,
        /// The file.
        path: PathBuf,
    },
}

impl PinsError {
    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            PinsError::Io { .. } | PinsError::File(_) | PinsError::Unreadable { .. } => "pins",
            PinsError::Gone { .. } => "pins-gone",
            PinsError::Swapped { .. } => "swapped-key",
            PinsError::Unsealed { .. } => "unsealed",
            PinsError::WentBack { .. } => "epoch-went-back",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            PinsError::Io { .. } | PinsError::File(_) => "make the directory of the identity file writable".to_owned(),
            PinsError::Unreadable { path, .. } => {
                format!("look at {}; without it each user is met for the first time again", path.display())
            }
            PinsError::Gone { .. } => {
                "put it back from a copy; if there is none: membershipd key pins --begin-anew, and then compare \
                                       the keys of those you talk to with them in person"
                    .to_owned()
            }
            PinsError::Swapped { handle, .. } => format!(
                "believe nothing until you have asked '{handle}' in person; if the new key is right: membershipd key forget \
                 {handle}"
            ),
            PinsError::Unsealed { room } => format!(
                "say nothing there until you have asked an owner of '{room}' in person; if it is meant to be so: membershipd key \
                 unseal {room}"
            ),
            PinsError::WentBack { path, .. } => format!(
                "a server lies, or it was restored from an older backup; if it was: remove the room's line from {}",
                path.display()
            ),
        }
    }
}

/// The pins of one user. Several programs may use them at once.
#[derive(Debug, Clone)]
pub struct Pins {
    path: PathBuf,
}

impl Pins {
    /// Those beside the identity file `identity`.
    pub fn beside(identity: &Path) -> Self {
        Self { path: private_file::sibling(identity, "pins") }
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everybody who is pinned.
    pub fn users(&self) -> Result<BTreeMap<Handle, Pinned>, PinsError> {
        Ok(self.read()?.users)
    }

    /// Pins what is seen of `handle`, or compares it with what is pinned.
    pub fn meet(&self, handle: &Handle, seen: Pinned) -> Result<(), PinsError> {
        self.change(|document| {
            let Some(before) = document.users.get_mut(handle) else {
                document.users.insert(handle.clone(), seen);
                return Ok(());
            };
            let swapped = |what| PinsError::Swapped { handle: handle.clone(), what, path: self.path.clone() };
            if before.sign_pub != seen.sign_pub {
                return Err(swapped("signing key"));
            }
            match (before.hpke_pub, seen.hpke_pub) {
                (Some(before), Some(now)) if before != now => Err(swapped("HPKE key")),
                // A key that was there and is gone is no more to be sealed for, and nothing is to be unlearned.
                (Some(_), _) => Ok(()),
                (None, now) => {
                    before.hpke_pub = now;
                    Ok(())
                }
            }
        })
    }

    /// Takes it that the pins are gone for good: each user is met for the first time again. Says whether they were gone.
    pub fn begin_anew(&self) -> Result<bool, PinsError> {
        let _turn = self.lock()?;
        match self.read() {
            Err(PinsError::Gone { .. }) => self.write(&Document::default()).map(|()| true),
            other => other.map(|_| false),
        }
    }

    /// Notes that `epoch` is named as the newest of `room`.
    pub fn reach(&self, room: &RoomId, epoch: Epoch) -> Result<(), PinsError> {
        self.change(|document| match document.epochs.insert(room.clone(), epoch) {
            Some(seen) if seen > epoch => {
                Err(PinsError::WentBack { room: room.clone(), named: epoch, seen, path: self.path.clone() })
            }
            _ => Ok(()),
        })
    }

    /// Notes that messages of `room` are sealed, if they are, and refuses that they are not any more.
    pub fn hold(&self, room: &RoomId, sealed: bool) -> Result<(), PinsError> {
        self.change(|document| {
            if sealed {
                document.sealed.insert(room.clone());
            } else if document.sealed.contains(room) {
                return Err(PinsError::Unsealed { room: room.clone() });
            }
            Ok(())
        })
    }

    /// Takes it that messages of `room` are in clear from now on. Says whether they had to be sealed.
    pub fn unseal(&self, room: &RoomId) -> Result<bool, PinsError> {
        let mut was = false;
        self.change(|document| {
            was = document.sealed.remove(room);
            Ok(())
        })?;
        Ok(was)
    }

    /// Forgets a user, who is met for the first time again. Says whether he was pinned.
    pub fn forget(&self, handle: &Handle) -> Result<bool, PinsError> {
        let mut was = false;
        self.change(|document| {
            was = document.users.remove(handle).is_some();
            Ok(())
        })?;
        Ok(was)
    }

    // One program at a time, and each on what the last one left.
    fn change(&self, change: impl FnOnce(&mut Document) -> Result<(), PinsError>) -> Result<(), PinsError> {
        let mut turn = self.lock()?;
        let before = self.read()?;
        let mut document = before.clone();
        change(&mut document)?;
        if document != before {
            self.write(&document)?;
        }
        // After the pins are there, also those of a release that noted nothing.
        let mut note = || {
            let new = self.path.try_exists()? && turn.metadata()?.len() == 0;
            if new { turn.write_all(NOTE) } else { Ok(()) }
        };
        note().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> PinsError {
        PinsError::Io { path: self.path.clone(), source }
    }

    fn lock_path(&self) -> PathBuf {
        private_file::sibling(&self.path, "lock")
    }

    /// The turn of this program, until it is dropped.
    fn lock(&self) -> Result<File, PinsError> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(self.lock_path()).map_err(|source| self.failed(source))?;
        File::lock(&lock).map_err(|source| self.failed(source))?;
        Ok(lock)
    }

    fn write(&self, document: &Document) -> Result<(), PinsError> {
        let text =
            serde_json::to_vec_pretty(document).map_err(io::Error::from).map_err(|source| self.failed(source))?;
        Ok(private_file::write(&self.path, &text)?)
    }

    fn read(&self) -> Result<Document, PinsError> {
        if !self.path.try_exists().map_err(|source| self.failed(source))? {
            let noted = std::fs::metadata(self.lock_path()).is_ok_and(|lock| lock.len() > 0);
            return if noted { Err(PinsError::Gone { path: self.path.clone() }) } else { Ok(Document::default()) };
        }
        let text = private_file::read(&self.path)?;
        serde_json::from_str(text.expose_secret()).map_err(|why| PinsError::Unreadable { path: self.path.clone(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_crypto::HpkeSecret;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("unibus-pins-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn pinned(sign: u8, hpke: Option<u8>) -> Pinned {
        let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [sign; 32]).unwrap();
        let hpke_pub = hpke.map(|seed| HpkeSecret::from_bytes([seed; 32]).public().unwrap());
        Pinned { sign_pub: SignPub::from_nkey(&pair.public_key()).unwrap(), hpke_pub }
    }

    #[test]
    fn whoever_was_met_stays_who_he_was_until_he_is_forgotten() {
        let place = Place::new("meet");
        let identity = place.0.join("alice.toml");
        let (pins, bob): (_, Handle) = (Pins::beside(&identity), "bob".parse().unwrap());
        pins.meet(&bob, pinned(1, None)).unwrap();
        pins.meet(&bob, pinned(1, Some(2))).unwrap();
        pins.meet(&bob, pinned(1, None)).unwrap();
        let again = Pins::beside(&identity);
        assert_eq!(again.users().unwrap()[&bob], pinned(1, Some(2)));
        for (swapped, what) in [(pinned(1, Some(3)), "HPKE key"), (pinned(4, Some(2)), "signing key")] {
            let error = again.meet(&bob, swapped).unwrap_err();
            assert!(matches!(error, PinsError::Swapped { what: found, .. } if found == what), "{error}");
            assert!(error.remedy().contains("in person"), "{}", error.remedy());
        }
        assert_eq!(again.users().unwrap()[&bob], pinned(1, Some(2)));
        assert!(pins.forget(&bob).unwrap() && !pins.forget(&bob).unwrap());
        pins.meet(&bob, pinned(4, Some(3))).unwrap();
    }

    #[test]
    fn pins_that_are_gone_are_no_first_time() {
        let place = Place::new("gone");
        let (pins, bob): (_, Handle) = (Pins::beside(&place.0.join("a.toml")), "bob".parse().unwrap());
        assert!(pins.users().unwrap().is_empty() && !pins.begin_anew().unwrap(), "nobody was met yet");
        pins.meet(&bob, pinned(1, Some(2))).unwrap();
        std::fs::remove_file(pins.path()).unwrap();
        assert!(matches!(pins.users(), Err(PinsError::Gone { .. })));
        let error = pins.meet(&bob, pinned(4, Some(3))).unwrap_err();
        assert!(matches!(error, PinsError::Gone { .. }) && error.remedy().contains("--begin-anew"), "{error}");
        assert!(pins.begin_anew().unwrap() && !pins.begin_anew().unwrap());
        assert!(pins.users().unwrap().is_empty());
        pins.meet(&bob, pinned(4, Some(3))).unwrap();
        // Those of a release that noted nothing are noted when they are next changed.
        std::fs::write(pins.lock_path(), "").unwrap();
        pins.meet(&bob, pinned(4, Some(3))).unwrap();
        std::fs::remove_file(pins.path()).unwrap();
        assert!(matches!(pins.users(), Err(PinsError::Gone { .. })));
    }

    #[test]
    fn rooms_do_not_go_back_and_a_damaged_file_is_not_an_empty_one() {
        let place = Place::new("reach");
        let (pins, room): (_, RoomId) = (Pins::beside(&place.0.join("a.toml")), "kitchen".parse().unwrap());
        let epoch = |number| Epoch::new(number).unwrap();
        for number in [1, 3, 3] {
            pins.reach(&room, epoch(number)).unwrap();
        }
        assert!(matches!(pins.reach(&room, epoch(2)), Err(PinsError::WentBack { .. })));
        pins.reach(&room, epoch(3)).unwrap();
        pins.hold(&room, false).unwrap();
        pins.hold(&room, true).unwrap();
        assert!(matches!(pins.hold(&room, false), Err(PinsError::Unsealed { .. })));
        assert!(pins.unseal(&room).unwrap() && !pins.unseal(&room).unwrap());
        pins.hold(&room, false).unwrap();
        private_file::write(pins.path(), b"{").unwrap();
        assert!(matches!(pins.reach(&room, epoch(4)), Err(PinsError::Unreadable { .. })));
        assert_eq!(std::fs::read(pins.path()).unwrap(), b"{");
    }
}
