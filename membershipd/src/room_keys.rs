//! The keys of rooms and of their members, as the store keeps them: public, or sealed for users, not for the server.
//!
//! Nothing here decides access, and nothing here can be opened by a server. What holds: a user's HPKE key is set once, so that one
//! that was swapped is one too many; an epoch is made once, whole, with an envelope for each user it is for, and only after
//! the one before it; neither is ever changed. So all read the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::commands::audit::{About, Decided, Stage};
use crate::commands::keys::Address;
use crate::commands::{Change, CommandError, Commands, Earlier, NotProven, Plan, Principal, Step};
use unibus_core::domain::{Action, Author, Denial, Handle, Records as _, Resource, RoomId, Schema, State, User};
use unibus_core::view::View;
use unibus_crypto::{Envelope, Epoch, HpkePub, KeyId, Recipient, Signature};
use unibus_store::{
    Entry, Operation, Records, Revision, Standing, Store, StoreError, create_json, get_json, update_json,
};

/// Keys of members that are read at once.
const AT_ONCE: usize = 32;

/// A user's HPKE key, with the user's signature of it.
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
    /// Others were always faster, or held the record.
    #[error("others kept changing {0} until the time was up; nothing was changed")]
    Contended(Address),
    /// The one who gives them may not any more.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// This node cannot prove that its view is current.
    #[error(transparent)]
    NotProven(#[from] NotProven),
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
    commands: Arc<Commands>,
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
    /// Changed by `commands`, in their store.
    pub fn new(commands: Arc<Commands>) -> Self {
        Self { commands, known: Mutex::default() }
    }

    fn store(&self) -> &dyn Store {
        &**self.commands.store()
    }

    /// The HPKE key of a user; none: they have not set one.
    pub async fn of_user(&self, handle: &Handle) -> Result<Option<Vouched>, StoreError> {
        if let Some(known) = self.known().get(handle) {
            return Ok(Some(known.clone()));
        }
        let read = get_json::<Vouched>(self.store(), Records::RoomKeys, &hpke_key(handle)?.key).await?;
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
        let what = What::Publish(vouched);
        let changed = self.commands.carry_out(&KeysCommand { keys: self, by: user, what }).await?.changed;
        // Where it was so already the store has a signature that may be another one, as good as this.
        if changed {
            self.known().insert(user.handle.clone(), vouched.clone());
        }
        Ok(changed)
    }

    /// One epoch of a room; none: it was never begun.
    pub async fn epoch(&self, room: &RoomId, epoch: Epoch) -> Result<Option<EpochRecord>, StoreError> {
        let read = get_json::<EpochRecord>(self.store(), Records::RoomKeys, &epoch_key(room, epoch)?.key).await?;
        Ok(read.map(|entry| entry.value))
    }

    /// The newest epoch of a room; none: it has no key yet.
    pub async fn newest(&self, room: &RoomId) -> Result<Option<(Epoch, EpochRecord)>, StoreError> {
        let hint = get_json::<Hint>(self.store(), Records::RoomKeys, &newest_key(room)?.key).await?;
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

    /// Begins an epoch of `room`, as `by`. False: it was begun so already.
    pub async fn begin(&self, by: &User, room: &RoomId, epoch: Epoch, record: &EpochRecord) -> Result<bool, KeysError> {
        let what = What::Begin { room, epoch, record };
        let done = self.commands.carry_out(&KeysCommand { keys: self, by, what }).await?;
        if done.changed {
            self.point(room, epoch).await;
        }
        Ok(done.changed)
    }

    /// Of those who are in a room, or invited to it, and admitted to the bus, the ones who have an HPKE key.
    pub async fn present(&self, room: &RoomId) -> Result<BTreeSet<Handle>, KeysError> {
        let handles = |view: &View| there(view, room).map(|user| user.handle.clone()).collect();
        let handles = self.commands.state().read(handles)?;
        Ok(self.of_users(handles).await?.into_keys().collect())
    }

    /// Moves the hint. Without it, or with an old one, the newest epoch takes some more looks to find.
    async fn point(&self, room: &RoomId, epoch: Epoch) {
        let moved = async {
            let key = newest_key(room)?.key;
            let hint = Hint { schema: Schema, epoch };
            match get_json::<Hint>(self.store(), Records::RoomKeys, &key).await? {
                Some(entry) if entry.value.epoch >= epoch => Ok(None),
                Some(entry) => {
                    update_json(self.store(), Records::RoomKeys, &key, &hint, entry.revision).await.map(Some)
                }
                None => create_json(self.store(), Records::RoomKeys, &key, &hint).await.map(Some),
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

/// A user with a key, for whom a room's key can be sealed.
pub fn recipient(user: &User, vouched: &Vouched) -> Recipient {
    Recipient { handle: user.handle.clone(), sign_pub: user.sign_pub, hpke_pub: vouched.hpke_pub }
}

/// Who is in a room, or invited to it, and admitted to the bus; by handle. An invited user can have the key before they accept,
/// since no member may be there any more to seal it when they do; they are given it only once they have.
pub fn there<'a>(view: &'a View, room: &'a RoomId) -> impl Iterator<Item = &'a User> {
    let present = view.members(room).filter(|membership| membership.state.is_present());
    present.filter_map(|m| view.user(&m.handle)).filter(|user| user.state == State::Active)
}

/// A change of keys, as it is given.
struct KeysCommand<'a> {
    keys: &'a RoomKeys,
    by: &'a User,
    what: What<'a>,
}

enum What<'a> {
    /// The HPKE key of the one who gives it. It is not audited: the signature in it says whose word it is.
    Publish(&'a Vouched),
    Begin {
        room: &'a RoomId,
        epoch: Epoch,
        record: &'a EpochRecord,
    },
}

impl Change for KeysCommand<'_> {
    type Found = ();
    type Error = KeysError;

    async fn plan(&self, on: &Commands, _: &mut Earlier) -> Result<Plan<()>, KeysError> {
        let user = &self.by.handle;
        let (action, room, about) = match self.what {
            What::Publish(_) => (Action::PublishKey, None, hpke_key(user)?),
            What::Begin { room, epoch, .. } => (Action::RotateRoomKeys, Some(room), epoch_key(room, epoch)?),
        };
        let step = match self.what {
            What::Publish(vouched) => match get_json::<Vouched>(self.keys.store(), about.bucket, &about.key).await? {
                Some(Entry { value, revision }) if value.hpke_pub == vouched.hpke_pub => Err(revision),
                Some(_) => return Err(KeysError::OtherHpke(user.clone())),
                None => Ok(Step::entry(about.clone(), vouched, None)?),
            },
            What::Begin { room, epoch, record } => self.begin(&about, room, epoch, record).await?,
        };
        on.state().read(|view| {
            let resource = room.map_or(Resource::User(user), Resource::Room);
            Principal::from(self.by).authorize(action, resource, view)?;
            let member = room.and_then(|room| view.membership(room, user));
            let decided = Decided { bus: Some(self.by.role), room: member.map(|member| member.role) };
            Ok(match step {
                Ok(step) => Plan::new(decided, about, vec![step], ()),
                Err(there) => Plan::stands_already(decided, about, Some(there), ()),
            })
        })?
    }

    fn about(&self, _: &Earlier) -> Option<About> {
        let What::Begin { room, epoch, .. } = self.what else { return None };
        let about = About::new(Author::User(self.by.handle.clone()), Action::RotateRoomKeys.name());
        Some(About { room: Some(room.clone()), with: Some(format!("epoch={epoch}")), ..about })
    }

    fn stage(&self, error: &KeysError) -> Stage {
        match error {
            KeysError::Store(StoreError::Unknown { .. }) => Stage::Unknown(error.to_string()),
            KeysError::Store(_) | KeysError::Audit(_) | KeysError::NotProven(_) => Stage::Failed(error.to_string()),
            _ => Stage::Refused(error.to_string()),
        }
    }

    fn is_denied(&self, error: &KeysError) -> bool {
        matches!(error, KeysError::Denied(_))
    }

    fn failed(&self, error: CommandError) -> KeysError {
        let operation = || Operation::on("write to", Records::RoomKeys.bucket());
        match error {
            CommandError::NotProven(error) => KeysError::NotProven(error),
            CommandError::Audit(error) => KeysError::Audit(error),
            CommandError::Unavailable(error) | CommandError::Store(error) => KeysError::Store(error),
            CommandError::Unknown { why } => StoreError::Unknown { operation: operation(), why }.into(),
            CommandError::Contended(address) => KeysError::Contended(address),
            _ => StoreError::Conflict { operation: operation(), current: Standing::NotSaid }.into(),
        }
    }
}

impl KeysCommand<'_> {
    /// The write that begins `epoch`, or the revision of the same one where it was begun already.
    async fn begin(
        &self,
        about: &Address,
        room: &RoomId,
        epoch: Epoch,
        record: &EpochRecord,
    ) -> Result<Result<Step, Revision>, KeysError> {
        let found = get_json::<EpochRecord>(self.keys.store(), about.bucket, &about.key).await?;
        if let Some(Entry { value: found, revision }) = found {
            // The same one, sent again, or another.
            let is_same = (&found.by, found.key_id) == (&record.by, record.key_id);
            return if is_same { Ok(Err(revision)) } else { Err(KeysError::Taken { epoch, by: found.by }) };
        }
        if let Some(mismatch) = record.mismatch(&self.keys.present(room).await?) {
            return Err(KeysError::Recipients(mismatch));
        }
        if let Some(before) = epoch.previous()
            && self.keys.epoch(room, before).await?.is_none()
        {
            return Err(KeysError::NotNext(epoch));
        }
        Ok(Ok(Step::entry(about.clone(), record, None)?))
    }
}

fn named(text: &str) -> Result<Address, StoreError> {
    Address::new(Records::RoomKeys, text)
}

fn hpke_key(handle: &Handle) -> Result<Address, StoreError> {
    named(&format!("hpke.{handle}"))
}

fn newest_key(room: &RoomId) -> Result<Address, StoreError> {
    named(&format!("newest.{room}"))
}

fn epoch_key(room: &RoomId, epoch: Epoch) -> Result<Address, StoreError> {
    named(&format!("epoch.{room}.{epoch}"))
}
