//! Makes frames: what `frame` takes apart.

use std::fmt;

use nkeys::KeyPair;

use super::Untrue;
use super::content::{self, Content};
use super::epoch::Epoch;
use super::frame::{FrameVersion, SEALED, SEVERAL, SIGNED};
use super::id::MessageId;
use super::recipient::sign;
use super::room_key::{MessageKey, RoomKey};
use unibus_core::domain::{Handle, RoomId};

/// Makes the frames of one sender in one room.
pub struct Sealer {
    version: FrameVersion,
    room: RoomId,
    sender: Handle,
    pair: Option<KeyPair>,
    key: Option<(Epoch, MessageKey)>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} in {})", self.sender, self.room)
    }
}

impl Sealer {
    /// For `sender` in `room`: signs if there is a `pair`, seals if there is a key. Writes version 1 until it is told otherwise.
    pub fn new(
        room: RoomId,
        sender: Handle,
        pair: Option<KeyPair>,
        key: Option<(Epoch, &RoomKey)>,
    ) -> Result<Self, Untrue> {
        let derived = |(epoch, key): (Epoch, &RoomKey)| Ok((epoch, key.message_key(&room, epoch, &sender)?));
        let key = key.map(derived).transpose()?;
        Ok(Self { version: FrameVersion::V1, room, sender, pair, key })
    }

    /// The same, which writes `version`.
    pub fn writing(self, version: FrameVersion) -> Self {
        Self { version, ..self }
    }

    /// The epoch in which it seals.
    pub fn epoch(&self) -> Option<Epoch> {
        self.key.as_ref().map(|(epoch, _)| *epoch)
    }

    /// A frame with these texts, to be published on `subject`. No id may be used for two frames.
    pub fn seal<T: AsRef<[u8]>>(&self, subject: &str, id: MessageId, texts: &[T]) -> Result<Vec<u8>, Untrue> {
        self.seal_contents(subject, id, &texts.iter().map(Content::text).collect::<Vec<_>>())
    }

    /// A frame with these messages, to be published on `subject`. Version 1 takes texts only. No id may be used for two frames.
    pub fn seal_contents(&self, subject: &str, id: MessageId, contents: &[Content]) -> Result<Vec<u8>, Untrue> {
        let several = self.version == FrameVersion::V1 && contents.len() != 1;
        let mut payload = match self.version {
            FrameVersion::V1 => texts(contents)?,
            FrameVersion::V2 { .. } => content::list(contents)?,
        };
        let flag = |set: bool, flag| if set { flag } else { 0 };
        let flags = flag(self.key.is_some(), SEALED) | flag(self.pair.is_some(), SIGNED) | flag(several, SEVERAL);
        let length = u8::try_from(self.sender.as_str().len()).map_err(|_| Untrue::Seal)?;
        let mut frame = vec![self.version.number(), flags];
        frame.extend_from_slice(&id.to_bytes());
        frame.extend_from_slice(&self.epoch().map_or([0; 4], Epoch::to_bytes));
        if let FrameVersion::V2 { roster } = self.version {
            frame.extend_from_slice(&roster.to_bytes());
        }
        frame.push(length);
        frame.extend_from_slice(self.sender.as_str().as_bytes());
        if let Some((_, key)) = &self.key {
            key.seal(id.nonce(), &self.version.bound(&self.room, subject, &frame), &mut payload)?;
        }
        let statement = |payload: &[u8]| self.version.statement(&self.room, subject, &frame, payload);
        let signature = self.pair.as_ref().map(|pair| sign(pair, &statement(&payload)));
        frame.append(&mut payload);
        if let Some(signature) = signature {
            frame.extend_from_slice(&signature?.to_bytes());
        }
        Ok(frame)
    }
}

/// The payload of version 1: one text, or several, each behind its length.
fn texts(contents: &[Content]) -> Result<Vec<u8>, Untrue> {
    let several = contents.len() != 1;
    let mut payload = Vec::new();
    for content in contents {
        let Content::Text(text) = content else { return Err(Untrue::TextOnly) };
        if several {
            let length = u32::try_from(text.len()).map_err(|_| Untrue::Seal)?;
            payload.extend_from_slice(&length.to_be_bytes());
        }
        payload.extend_from_slice(text);
    }
    Ok(payload)
}
