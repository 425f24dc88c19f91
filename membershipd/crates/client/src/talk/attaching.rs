//! Attachments of a room: sealed before they leave this machine, opened when they are here.

use std::sync::Arc;

use super::error::TalkError;
use super::keyring::Keyring;
use super::part::Part;
use super::people::People;
use super::pins::Pins;
use super::sending::{Sender, Sent};
use crate::api::{AddedBlob, Client, Room};
use crate::identity::Identity;
use unibus_api_types::BlobId;
use unibus_api_types::limits::{ATTACHMENT_BYTES, BLOB_BYTES};
use unibus_core::domain::RoomId;
use unibus_core::random;
use unibus_crypto::{Attachment, AttachmentName, Content, FrameVersion, Untrue, blob};

/// The attachments of a room, as one of its members has them.
#[derive(Debug)]
pub struct Attachments {
    api: Arc<Client>,
    room: Room,
    keyring: Keyring,
    people: People,
}

impl Attachments {
    /// Those of `room`, for a member, who asks through `api`.
    pub async fn over(
        api: Arc<Client>,
        identity: impl Into<Arc<Identity>>,
        pins: Pins,
        room: RoomId,
    ) -> Result<Self, TalkError> {
        let identity = identity.into();
        let Part { people, keyring, room } = Part::take(&api, &identity, pins, &room).await?;
        Ok(Self { api, room, keyring, people })
    }

    /// Most bytes that an attachment may have before it is sealed.
    pub fn most() -> usize {
        const { assert!(blob::OVERHEAD as u64 <= BLOB_BYTES - ATTACHMENT_BYTES) };
        usize::try_from(ATTACHMENT_BYTES).unwrap_or(usize::MAX)
    }

    /// Adds an attachment, sealed with the key of those who are there now. In a room whose messages are in clear it is, too. Says
    /// what it is called there, and that differs each time: a seal is random.
    pub async fn add(&mut self, plain: Vec<u8>) -> Result<AddedBlob, TalkError> {
        if plain.len() > Self::most() {
            return Err(TalkError::AttachmentTooLarge { bytes: plain.len(), most: Self::most() });
        }
        let kept = if self.room.policy.encrypt {
            let (epoch, key) = self.keyring.fresh(&mut self.people).await?;
            let salt = random::bytes().map_err(|_| TalkError::Seal(Untrue::Randomness))?;
            blob::seal(&self.room.id, epoch, key, salt, plain).map_err(TalkError::Seal)?
        } else {
            plain
        };
        let added = self.api.put_blob(&self.room.id, kept.into()).await;
        added.map_err(TalkError::api("add the attachment"))
    }

    /// The attachment that is called `id`, opened.
    pub async fn fetch(&mut self, id: BlobId) -> Result<Vec<u8>, TalkError> {
        let kept = self.api.get_blob(&self.room.id, id).await.map_err(TalkError::api("fetch the attachment"))?;
        let epoch = match blob::epoch(&kept) {
            Some(epoch) if self.room.policy.encrypt => epoch,
            // Nobody passes off as sealed what is not.
            None if self.room.policy.encrypt => return Err(TalkError::Attachment { id, why: Untrue::Seal }),
            _ => return Ok(kept.to_vec()),
        };
        match self.keyring.room_key(epoch, &mut self.people).await? {
            Some(key) => blob::open(&self.room.id, key, &kept).map_err(|why| TalkError::Attachment { id, why }),
            None => Err(TalkError::NotSealed { room: self.room.id.clone(), epoch }),
        }
    }
}

impl Sender {
    /// Tells the room of an attachment that was added as `id`: `bytes` is what it has when it is opened, `name` what it is
    /// called. Only version 2 of frames can say it: none where that is not written.
    pub async fn announce(&mut self, id: BlobId, bytes: u64, name: AttachmentName) -> Result<Option<Sent>, TalkError> {
        if self.frames().await? == FrameVersion::V1 {
            return Ok(None);
        }
        let attachment = Attachment { sha256: id.sha256(), size: bytes, name };
        self.say_contents(&[Content::Attachment(attachment)]).await.map(Some)
    }
}
