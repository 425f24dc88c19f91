//! The keys of rooms and of their members, as the store keeps them: public, or sealed for somebody who is not us.
//!
//! Nothing here decides access, and nothing here can be opened by a server. What holds: a user's HPKE key is set once, so that one
//! that was swapped is one too many; an epoch is made once, whole, with an envelope for everybody it is for, and only after
//! the one before it; neither is ever changed. So whoever has read one has read what everybody else reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::commands::audit::{AuditRecord, Decided, Journal, Stage};
use crate::conversation::{Envelope, Epoch, HpkePub, KeyId, Recipient, Signature};
use crate::domain::{Action, Author, Handle, InvalidValue, RoomId, Schema, User};
use crate::store::{Key, Operation, Records, Revision, Store, StoreError, create_json, get_json, update_json};

/// Keys of members that are read at once.
const AT_ONCE: usize = 32;

/// A user's HPKE key, and his word that it is his.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vouched {
    schema: Schema<1>,
    /// The key.
    pub hpke_pub: HpkePub,
    /// See [`Recipient::vouch`].
    pub signature: Signature,
}

/// The keys of one epoch of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    schema: Schema<1>,
    /// Who has made the key.
    pub by: Handle,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Which key it is.
    pub key_id: KeyId,
    /// The key, sealed for each.
    pub envelopes: BTreeMap<Handle, Envelope>,
}

/// Where to look for the newest epoch: it is this one or a later one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    schema: Schema<1>,
    epoch: Epoch,
}

/// Why keys were not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The user has another one.
    #[error(
        "'{0}' has another HPKE key already, and a user's HPKE key never changes; remedy: use the identity file that has it"
    )]
    OtherHpke(Handle),
    /// There is such an epoch, and it is another one.
    #[error("epoch {epoch} was begun by '{by}' already; remedy: read it, and use its key")]
    Taken {
        /// Which.
        epoch: Epoch,
        /// By whom.
        by: Handle,
    },
    /// There is no epoch before it.
    #[error("there is no epoch before {0}; remedy: read which one is the newest, and begin the one after it")]
    NotNext(Epoch),
    /// It is not sealed for those who are in the room.
    #[error("{0}; remedy: read the recipients again, and seal a new key for them")]
    Recipients(Mismatch),
    /// The record of the audit could not be written; nothing was changed.
    #[error("the audit log did not take its record, and nothing was changed: {0}")]
    Audit(StoreError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// For whom keys are sealed, and for whom they are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// In the room, without an envelope.
    pub missing: Vec<Handle>,
    /// With an envelope, and not in the room.
    pub foreign: Vec<Handle>,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A few are enough to see what is the matter.
        let some = |handles: &[Handle]| {
            let named: Vec<&str> = handles.iter().take(5).map(Handle::as_str).collect();
            if named.is_empty() { "nobody".to_owned() } else { format!("{} ({})", handles.len(), named.join(", ")) }
        };
        let (missing, foreign) = (some(&self.missing), some(&self.foreign));
        write!(f, "without an envelope, though in the room: {missing}; with one, though not there: {foreign}")
    }
}

/// Reads and writes keys.
#[derive(Debug)]
pub struct RoomKeys {
    store: Arc<dyn Store>,
    journal: Arc<Journal>,
    /// Those that were read. They never change.
    known: Mutex<HashMap<Handle, Vouched>>,
}

impl Vouched {
    /// `hpke_pub` as the key of the one who signed for it.
    pub fn new(hpke_pub: HpkePub, signature: Signature) -> Self {
        Self { schema: Schema, hpke_pub, signature }
    }
}

impl EpochRecord {
    /// A key of a room, sealed.
    pub fn new(by: Handle, at_ms: i64, key_id: KeyId, envelopes: BTreeMap<Handle, Envelope>) -> Self {
        Self { schema: Schema, by, at_ms, key_id, envelopes }
    }

    /// Whether it is sealed for others than `present`.
    pub fn is_stale(&self, present: &BTreeSet<Handle>) -> bool {
        self.mismatch(present).is_some()
    }

    fn mismatch(&self, present: &BTreeSet<Handle>) -> Option<Mismatch> {
        let missing: Vec<_> = present.iter().filter(|handle| !self.envelopes.contains_key(handle)).cloned().collect();
        let foreign: Vec<_> = self.envelopes.keys().filter(|handle| !present.contains(handle)).cloned().collect();
        (!missing.is_empty() || !foreign.is_empty()).then_some(Mismatch { missing, foreign })
    }
}

impl RoomKeys {
    /// In `store`, with records in `journal`.
    pub fn new(store: Arc<dyn Store>, journal: Arc<Journal>) -> Self {
        Self { store, journal, known: Mutex::default() }
    }

    /// The HPKE key of a user; none: he has not set one.
    pub async fn of_user(&self, handle: &Handle) -> Result<Option<Vouched>, StoreError> {
        if let Some(known) = self.known().get(handle) {
            return Ok(Some(known.clone()));
        }
        let read = get_json::<Vouched>(&*self.store, Records::RoomKeys, &hpke_key(handle)?).await?;
        let vouched = read.map(|entry| entry.value);
        if let Some(vouched) = &vouched {
            self.known().insert(handle.clone(), vouched.clone());
        }
        Ok(vouched)
    }

    /// The HPKE keys of these users; who has none is left out.
    pub async fn of_users(&self, handles: Vec<Handle>) -> Result<BTreeMap<Handle, Vouched>, StoreError> {
        let read = stream::iter(handles).map(async |handle| {
            let vouched = self.of_user(&handle).await?;
            Ok(vouched.map(|vouched| (handle, vouched)))
        });
        let found = read.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Sets the HPKE key of `user`, whose word for it was checked. False: it was so already.
    pub async fn set(&self, user: &User, vouched: &Vouched) -> Result<bool, KeysError> {
        let same = |found: Option<Vouched>| match found {
            Some(found) if found.hpke_pub == vouched.hpke_pub => Ok(Some(false)),
            Some(_) => Err(KeysError::OtherHpke(user.handle.clone())),
            None => Ok(None),
        };
        if let Some(answer) = same(self.of_user(&user.handle).await?)? {
            return Ok(answer);
        }
        match create_json(&*self.store, Records::RoomKeys, &hpke_key(&user.handle)?, vouched).await {
            Ok(_) => {
                self.known().insert(user.handle.clone(), vouched.clone());
                Ok(true)
            }
            Err(conflict @ StoreError::Conflict { .. }) => {
                same(self.of_user(&user.handle).await?)?.ok_or(KeysError::Store(conflict))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One epoch of a room; none: it was never begun.
    pub async fn epoch(&self, room: &RoomId, epoch: Epoch) -> Result<Option<EpochRecord>, StoreError> {
        let read = get_json::<EpochRecord>(&*self.store, Records::RoomKeys, &epoch_key(room, epoch)?).await?;
        Ok(read.map(|entry| entry.value))
    }

    /// The newest epoch of a room; none: it has no key yet.
    pub async fn newest(&self, room: &RoomId) -> Result<Option<(Epoch, EpochRecord)>, StoreError> {
        let hint = get_json::<Hint>(&*self.store, Records::RoomKeys, &newest_key(room)?).await?;
        let mut newest = None;
        let mut next = Some(hint.map_or(Epoch::FIRST, |hint| hint.value.epoch));
        while let Some(epoch) = next {
            match self.epoch(room, epoch).await? {
                Some(record) => newest = Some((epoch, record)),
                None => break,
            }
            next = epoch.next();
        }
        Ok(newest)
    }

    /// Begins an epoch: `present` are those of the room who have an HPKE key. False: it was begun so already.
    pub async fn begin(
        &self,
        by: (&User, Decided),
        room: &RoomId,
        epoch: Epoch,
        record: &EpochRecord,
        present: &BTreeSet<Handle>,
    ) -> Result<bool, KeysError> {
        if let Some(found) = self.epoch(room, epoch).await? {
            return same_epoch(epoch, &found, record);
        }
        if let Some(mismatch) = record.mismatch(present) {
            return Err(KeysError::Recipients(mismatch));
        }
        if let Some(before) = epoch.previous()
            && self.epoch(room, before).await?.is_none()
        {
            return Err(KeysError::NotNext(epoch));
        }
        let (user, decided) = by;
        let id = self.journal.number();
        let noted = |stage| {
            let author = Author::User(user.handle.clone());
            let noted = self.journal.record(id, author, Action::RotateRoomKeys.name(), stage);
            AuditRecord { room: Some(room.clone()), with: Some(format!("epoch={epoch}")), ..noted }
        };
        self.journal.append(noted(Stage::Begun(decided))).await.map_err(KeysError::Audit)?;
        let key = epoch_key(room, epoch)?;
        let created = create_json(&*self.store, Records::RoomKeys, &key, record).await;
        let stage = match &created {
            Ok(revision) => Stage::Done(vec![(key.to_string(), *revision)]),
            Err(StoreError::Conflict { .. }) => Stage::Refused("somebody else was faster".to_owned()),
            Err(error @ StoreError::Unknown { .. }) => Stage::Unknown(error.to_string()),
            Err(error) => Stage::Failed(error.to_string()),
        };
        if let Err(error) = self.journal.append(noted(stage)).await {
            tracing::warn!(%id, "the audit has only the first record of new keys of a room: {error}");
        }
        match created {
            Ok(_) => {
                self.point(room, epoch).await;
                Ok(true)
            }
            Err(conflict @ StoreError::Conflict { .. }) => match self.epoch(room, epoch).await? {
                Some(found) => same_epoch(epoch, &found, record),
                None => Err(conflict.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Moves the hint. Without it, or with an old one, the newest epoch takes some more looks to find.
    async fn point(&self, room: &RoomId, epoch: Epoch) {
        let moved = async {
            let key = newest_key(room)?;
            let hint = Hint { schema: Schema, epoch };
            match get_json::<Hint>(&*self.store, Records::RoomKeys, &key).await? {
                Some(entry) if entry.value.epoch >= epoch => Ok(None),
                Some(entry) => {
                    update_json(&*self.store, Records::RoomKeys, &key, &hint, entry.revision).await.map(Some)
                }
                None => create_json(&*self.store, Records::RoomKeys, &key, &hint).await.map(Some),
            }
        };
        let moved: Result<Option<Revision>, StoreError> = moved.await;
        if let Err(error) = moved {
            tracing::debug!("the hint at the newest epoch stays behind: {error}");
        }
    }

    // Every change under this lock is a single step.
    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Handle, Vouched>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a user and his key, to whom it can be sealed.
pub fn recipient(user: &User, vouched: &Vouched) -> Recipient {
    Recipient { handle: user.handle.clone(), sign_pub: user.sign_pub, hpke_pub: vouched.hpke_pub }
}

/// An epoch that is there already: the same one, sent again, or another.
fn same_epoch(epoch: Epoch, found: &EpochRecord, wanted: &EpochRecord) -> Result<bool, KeysError> {
    if (&found.by, found.key_id) == (&wanted.by, wanted.key_id) {
        Ok(false)
    } else {
        Err(KeysError::Taken { epoch, by: found.by.clone() })
    }
}

fn named(text: String) -> Result<Key, StoreError> {
    let refused = |error: InvalidValue| StoreError::Refused {
        operation: Operation::on("name an entry of", Records::RoomKeys.bucket()),
        why: error.to_string(),
    };
    text.parse().map_err(refused)
}

fn hpke_key(handle: &Handle) -> Result<Key, StoreError> {
    named(format!("hpke.{handle}"))
}

fn newest_key(room: &RoomId) -> Result<Key, StoreError> {
    named(format!("newest.{room}"))
}

fn epoch_key(room: &RoomId, epoch: Epoch) -> Result<Key, StoreError> {
    named(format!("epoch.{room}.{epoch}"))
}
