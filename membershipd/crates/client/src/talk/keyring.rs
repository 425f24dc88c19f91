//! The keys of one room: fetched, checked, and made anew where they are sealed for the wrong people.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::error::TalkError;
use super::people::{Listed, People};

use crate::api::{Client, ClientError, Request, room_path};
use crate::identity::Identity;
use unibus_api_types::problem::{Kind, of_denial};
use unibus_core::domain::{Denial, Handle, RoomId};
use unibus_crypto::{Envelope, Epoch, HpkeSecret, KeyId, MessageKey, Recipient, RoomKey, Sealing, Untrue};

/// Attempts at beginning an epoch. Each is lost only to somebody who was faster, whose epoch then may do.
const ATTEMPTS: usize = 8;

/// Looks at an epoch that a frame names and nobody has begun, as far as a server knows that was a moment behind.
const LOOKS: usize = 3;
/// Pause before the next look.
const PAUSE: Duration = Duration::from_millis(150);

#[derive(Debug, Deserialize)]
struct Newest {
    epoch: Option<Epoch>,
    stale: bool,
    own: bool,
}

#[derive(Debug, Deserialize)]
struct Sealed {
    epoch: Epoch,
    by: Handle,
    key_id: KeyId,
    envelope: Envelope,
}

/// The keys of a room that are this user's.
#[derive(Debug)]
pub struct Keyring {
    api: Arc<Client>,
    room: RoomId,
    own: Recipient,
    identity: Arc<Identity>,
    secret: HpkeSecret,
    /// Of epochs that were asked for; none: its key is not sealed for us.
    keys: BTreeMap<Epoch, Option<RoomKey>>,
    message_keys: HashMap<(Epoch, Handle), MessageKey>,
}

impl Keyring {
    /// Of `room`, for `identity`, who was introduced as `own`.
    pub fn new(api: Arc<Client>, room: RoomId, identity: Arc<Identity>, own: Recipient) -> Result<Self, TalkError> {
        let secret = identity.hpke_secret().map_err(TalkError::Identity)?;
        let (keys, message_keys) = (BTreeMap::new(), HashMap::new());
        Ok(Self { api, room, own, identity, secret, keys, message_keys })
    }

    /// The epoch in which to say something, with its key: the newest one, begun by us if the newest is not for those who are
    /// there now.
    pub async fn fresh(&mut self, people: &mut People) -> Result<(Epoch, &RoomKey), TalkError> {
        let mut found = None;
        for _ in 0..ATTEMPTS {
            let newest = self.newest(people).await?;
            match newest {
                Newest { epoch: Some(epoch), stale: false, own: true } => {
                    found = Some(epoch);
                    break;
                }
                Newest { epoch, .. } => self.begin_after(epoch, people).await?,
            }
        }
        let epoch = found.ok_or_else(|| TalkError::Contended(self.room.clone()))?;
        self.load(epoch, people).await?;
        match self.keys.get(&epoch) {
            Some(Some(key)) => Ok((epoch, key)),
            _ => Err(TalkError::Stale(self.room.clone())),
        }
    }

    /// Begins a new epoch, whatever the newest one is like. Returns it.
    pub async fn rotate(&mut self, people: &mut People) -> Result<Epoch, TalkError> {
        let before = self.newest(people).await?.epoch;
        for _ in 0..ATTEMPTS {
            let newest = self.newest(people).await?.epoch;
            if newest > before
                && let Some(epoch) = newest
            {
                // Ours, or that of somebody who did the same at the same time.
                return Ok(epoch);
            }
            self.begin_after(newest, people).await?;
        }
        Err(TalkError::Contended(self.room.clone()))
    }

    /// The key with which `sender` seals in `epoch`; none: that epoch's key is not sealed for us.
    pub async fn message_key(
        &mut self,
        epoch: Epoch,
        sender: &Handle,
        people: &mut People,
    ) -> Result<Option<&MessageKey>, TalkError> {
        let at = (epoch, sender.clone());
        if !self.message_keys.contains_key(&at) {
            self.load(epoch, people).await?;
            let Some(Some(key)) = self.keys.get(&epoch) else { return Ok(None) };
            let derived = key.message_key(&self.room, epoch, sender).map_err(TalkError::Seal)?;
            self.message_keys.insert(at.clone(), derived);
        }
        Ok(self.message_keys.get(&at))
    }

    /// The key of `epoch`; none: it is not sealed for us.
    pub async fn room_key(&mut self, epoch: Epoch, people: &mut People) -> Result<Option<&RoomKey>, TalkError> {
        self.load(epoch, people).await?;
        Ok(self.keys.get(&epoch).and_then(Option::as_ref))
    }

    async fn newest(&self, people: &People) -> Result<Newest, TalkError> {
        let newest = self.api.ask_for::<Newest>(&Request::get(format!("{}/keys", self.path()))).await;
        let newest = newest.map_err(TalkError::api("read which key of the room is the newest"))?;
        if let Some(epoch) = newest.epoch {
            people.pins().reach(&self.room, epoch)?;
        }
        Ok(newest)
    }

    async fn load(&mut self, epoch: Epoch, people: &mut People) -> Result<(), TalkError> {
        if self.keys.contains_key(&epoch) {
            return Ok(());
        }
        let request = Request::get(format!("{}/keys/{epoch}", self.path()));
        let mut looks = LOOKS;
        let sealed = loop {
            match self.api.ask_for::<Sealed>(&request).await {
                Ok(sealed) => break sealed,
                Err(ClientError::Refused(refused)) if refused.slug == Kind::NOT_SEALED.slug => {
                    self.keys.insert(epoch, None);
                    return Ok(());
                }
                Err(ClientError::Refused(refused)) if refused.slug == Kind::NO_SUCH_EPOCH.slug => looks -= 1,
                Err(error) => return Err(TalkError::api("fetch a key of the room")(error)),
            }
            if looks == 0 {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        };
        let wrong = |why| TalkError::Key { room: self.room.clone(), epoch, by: sealed.by.clone(), why };
        if sealed.epoch != epoch {
            return Err(wrong(Untrue::Seal));
        }
        let signer = people.find(&sealed.by).await?.ok_or_else(|| wrong(Untrue::Signature))?;
        let sealing = Sealing { room: &self.room, epoch, by: &sealed.by, key: sealed.key_id };
        let key = sealing.open(&sealed.envelope, &self.own, &self.secret, signer.sign_pub).map_err(wrong)?;
        self.keys.insert(epoch, Some(key));
        Ok(())
    }

    /// Begins the epoch after `newest` for everybody who is there. That somebody was faster is no failure.
    async fn begin_after(&mut self, newest: Option<Epoch>, people: &mut People) -> Result<(), TalkError> {
        let epoch = match newest {
            None => Epoch::FIRST,
            Some(newest) => newest.next().ok_or_else(|| TalkError::Contended(self.room.clone()))?,
        };
        let listed = self.api.list(&format!("{}/recipients", self.path()), "recipients").await;
        let listed = match listed {
            Err(ClientError::Refused(refused)) if refused.slug == of_denial(Denial::RoleTooLow).slug => {
                return Err(TalkError::Stale(self.room.clone()));
            }
            listed => listed.map_err(TalkError::api("read for whom to seal"))?,
        };
        let form = |error| TalkError::api("read for whom to seal")(ClientError::Form(error));
        let key = RoomKey::random().map_err(TalkError::Seal)?;
        let key_id = key.id(&self.room, epoch).map_err(TalkError::Seal)?;
        let pair = self.identity.key_pair().map_err(TalkError::Identity)?;
        let sealing = Sealing { room: &self.room, epoch, by: &self.own.handle, key: key_id };
        let mut envelopes: BTreeMap<Handle, Envelope> = BTreeMap::new();
        for listed in listed {
            let listed: Listed = serde_json::from_value(listed).map_err(form)?;
            let handle = listed.handle.clone();
            let person = people.check(listed)?;
            let Some(hpke_pub) = person.hpke_pub else { continue };
            let to = Recipient { handle: handle.clone(), sign_pub: person.sign_pub, hpke_pub };
            envelopes.insert(handle, sealing.seal(&key, &to, &pair).map_err(TalkError::Seal)?);
        }
        let body = json!({ "key_id": key_id, "envelopes": envelopes });
        let begun = self.api.ask(&Request::put(format!("{}/keys/{epoch}", self.path()), Some(body))).await;
        match begun {
            Ok(_) => Ok(()),
            Err(ClientError::Refused(refused)) if faster(&refused.slug) => Ok(()),
            Err(error) => Err(TalkError::api("begin an epoch of the room's key")(error)),
        }
    }

    fn path(&self) -> String {
        room_path(&self.room)
    }
}

/// Whether what was read before is not so any more.
fn faster(slug: &str) -> bool {
    [Kind::EPOCH_TAKEN, Kind::EPOCH_NOT_NEXT, Kind::RECIPIENTS].iter().any(|kind| kind.slug == slug)
}
