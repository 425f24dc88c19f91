//! From a frame to what somebody said, or to why it is not shown.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use super::error::TalkError;
use super::keyring::Keyring;
use super::people::People;
use unibus_core::domain::{Handle, Policy, RoomId};
use unibus_crypto::{Content, Epoch, Frame, FrameRefusal, FrameVersion, Header, MessageId, Seen, Source};

/// A frame, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// On which subject.
    pub subject: &'a str,
    /// The frame.
    pub frame: &'a [u8],
    /// When it came or was kept, in milliseconds since 1970.
    pub at_ms: u64,
    /// By which way.
    pub source: Source,
}

/// What somebody said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How the frame was written.
    pub version: FrameVersion,
    /// Id of the frame.
    pub id: MessageId,
    /// Who said it.
    pub sender: Handle,
    /// It is proven that he did: he has signed it. Otherwise it may be anybody in the room.
    pub signed: bool,
    /// The epoch of the key with which it was sealed; none: it came in clear.
    pub epoch: Option<Epoch>,
    /// On which subject.
    pub subject: String,
    /// When it came or was kept, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its number in the history; none: it came from the bus.
    pub seq: Option<u64>,
    /// What was said; several where they were sent together.
    pub contents: Vec<Content>,
}

/// Reads the frames of one room.
#[derive(Debug)]
pub struct Reader {
    room: RoomId,
    policy: Policy,
    keyring: Keyring,
    seen: Seen,
    told: Told,
}

/// What was refused lately, and by which way it had come. A frame that was kept comes by both, and is told of once.
#[derive(Debug, Default)]
struct Told(VecDeque<([u8; 32], bool)>);

impl Told {
    /// Refusals that are remembered.
    const MOST: usize = 1_024;

    /// Notes that a frame is refused. False: it was told when it came by the other way.
    fn is_new(&mut self, arrived: &Arrived<'_>) -> bool {
        let digest = Sha256::new().chain_update(arrived.subject).chain_update([0]).chain_update(arrived.frame);
        let (digest, live) = (digest.finalize().into(), arrived.source == Source::Live);
        if let Some(at) = self.0.iter().position(|told| *told == (digest, !live)) {
            self.0.remove(at);
            return false;
        }
        if self.0.len() >= Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back((digest, live));
        true
    }
}

impl Reader {
    /// For `room`, whose messages have to be as `policy` says.
    pub fn new(room: RoomId, policy: Policy, keyring: Keyring) -> Self {
        Self { room, policy, keyring, seen: Seen::default(), told: Told::default() }
    }

    /// Holds frames to another policy from now on.
    pub fn hold_to(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Reads a frame. None: it has been read, or refused, when it came by the other way.
    pub async fn read(
        &mut self,
        arrived: Arrived<'_>,
        people: &mut People,
    ) -> Result<Result<Option<Message>, FrameRefusal>, TalkError> {
        Ok(match self.decide(arrived, people).await? {
            Err(_) if !self.told.is_new(&arrived) => Ok(None),
            decided => decided,
        })
    }

    async fn decide(
        &mut self,
        arrived: Arrived<'_>,
        people: &mut People,
    ) -> Result<Result<Option<Message>, FrameRefusal>, TalkError> {
        let frame = match Frame::parse(arrived.frame) {
            Ok(frame) => frame,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Header { version, id, epoch, ref sender, .. } = frame.header;
        let signer = if frame.is_signed() { people.verifier(sender).await? } else { None };
        let key = match epoch {
            Some(epoch) => self.keyring.message_key(epoch, sender, people).await?,
            None => None,
        };
        let contents = match frame.open(&self.room, arrived.subject, self.policy, signer.as_deref(), key) {
            Ok(contents) => contents,
            Err(refusal) => return Ok(Err(refusal)),
        };
        // Only what is true is remembered: nobody keeps a message away by sending a false one of the same id first.
        match self.seen.admit(id, sender, arrived.at_ms, arrived.source) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(None)),
            // Its sender heard nothing and sent it again: where only the sender publishes, no other can have.
            Err(FrameRefusal::Replayed) if arrived.source == Source::Live && is_own(arrived.subject, sender) => {
                return Ok(Ok(None));
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
        let seq = match arrived.source {
            Source::Live => None,
            Source::History { seq } => Some(seq),
        };
        let (sender, signed) = (sender.clone(), frame.is_signed());
        let (subject, at_ms) = (arrived.subject.to_owned(), arrived.at_ms);
        Ok(Ok(Some(Message { version, id, sender, signed, epoch, subject, at_ms, seq, contents })))
    }
}

/// Whether `subject` is the one on which `sender` says what daemons keep.
fn is_own(subject: &str, sender: &Handle) -> bool {
    subject.strip_suffix(sender.as_str()).is_some_and(|above| above.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_its_senders_by_its_last_token() {
        let bob: Handle = "bob".parse().unwrap();
        assert!(is_own("room.hall.bob", &bob));
        for other in ["room.hall", "room.hall.alice", "room.hall.xbob", "room.bob.hall", "bob"] {
            assert!(!is_own(other, &bob), "{other}");
        }
    }
}
