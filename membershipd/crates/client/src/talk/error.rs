//! Why a conversation does not go on.

use crate::api::{ClientError, Refused};
use unibus_api_types::BlobId;
use unibus_api_types::bound::BoundMet;
use unibus_api_types::notice::Reason;
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::{Epoch, MessageId, Untrue};

use super::pins::PinsError;
use crate::words;

/// Why something could not be said or heard.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// The API did not do it.
    #[error("{}", not_done(doing, error))]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// Why not.
        error: ClientError,
    },
    /// What the pins say, or that they cannot be kept.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// A user's HPKE key is not signed by that user.
    #[error("the servers name an HPKE key of '{0}' that '{0}' has not signed: {1}")]
    NotVouched(Handle, Untrue),
    /// Our own HPKE key is not the one that the servers name.
    #[error("the servers name another HPKE key for '{0}' than the one in its identity file")]
    OtherIdentity(Handle),
    /// The key of an epoch cannot be had.
    #[error("the key of epoch {epoch} of '{room}', made by '{by}', is not what it should be: {why}")]
    Key {
        /// The room.
        room: RoomId,
        /// The epoch.
        epoch: Epoch,
        /// Who made it.
        by: Handle,
        /// What is the matter.
        why: Untrue,
    },
    /// The room has no key for us, and we may not make one.
    #[error("the key of '{0}' is not sealed for those who are there now, and a reader cannot make another")]
    Stale(RoomId),
    /// Others always were faster.
    #[error("others began epochs of '{0}' faster than this user could, again and again")]
    Contended(RoomId),
    /// The user is not in the room.
    #[error("you are not in {0}")]
    NotMember(RoomId, Handle),
    /// No node lets us onto the bus.
    #[error("no node's bus can be reached: {0}")]
    Bus(String),
    /// No node lets us onto the bus, at least one of them because we have as much of it as a user may.
    #[error("{0}")]
    Bound(BoundMet),
    /// The bus does not let us say it.
    #[error("the bus does not take messages of this user on {0}")]
    NotPermitted(String),
    /// Sealing failed.
    #[error("cannot seal the message: {0}")]
    Seal(Untrue),
    /// The message is larger than the bus takes.
    #[error("the message has {}, and the bus takes {} with all that is around it", size(*bytes), size(*most))]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// What is possible.
        most: usize,
    },
    /// The attachment is larger than what is taken.
    #[error("the attachment has {bytes} bytes, and may have {most} at most ({})", size(*most))]
    AttachmentTooLarge {
        /// Its bytes.
        bytes: usize,
        /// What is possible.
        most: usize,
    },
    /// An attachment is not what a member sealed for this room.
    #[error("the attachment {id} is not what a member of the room has sealed: {why}")]
    Attachment {
        /// What it is called.
        id: BlobId,
        /// What is the matter.
        why: Untrue,
    },
    /// It was sealed when we were not there.
    #[error(
        "it was added before you joined {room}, or while you were not in it: its key (epoch {epoch}) is not sealed for you"
    )]
    NotSealed {
        /// The room.
        room: RoomId,
        /// The epoch.
        epoch: Epoch,
    },
    /// The cluster refused to keep it.
    #[error("the message was not kept: {}", refused.why())]
    NotKept {
        /// Why.
        refused: Reason,
        /// Whether saying it again may help.
        retry: bool,
    },
    /// It was said, and it is not known whether it was kept.
    #[error("message {0} was sent, and it is not known whether it was kept")]
    Unknown(MessageId),
    /// The identity is not usable.
    #[error("the identity cannot be used: {0:#}")]
    Identity(anyhow::Error),
}

fn size(bytes: usize) -> String {
    words::size(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// What people are told where the API did not do it: a refusal in words of its own needs no other ones.
fn not_done(doing: &str, error: &ClientError) -> String {
    match error {
        ClientError::Refused(refused) if refused.words().is_some() => refused.to_string(),
        _ => format!("cannot {doing}: {error}"),
    }
}

impl TalkError {
    /// The refusal of a node, where that is why.
    pub fn refusal(&self) -> Option<&Refused> {
        match self {
            TalkError::Api { error: ClientError::Refused(refused), .. } => Some(refused),
            _ => None,
        }
    }

    /// Names what was attempted with the API.
    pub(super) fn api(doing: &'static str) -> impl Fn(ClientError) -> Self {
        move |error| TalkError::Api { doing, error }
    }

    /// A word for programs.
    pub fn code(&self) -> &str {
        match self {
            TalkError::Api { error, .. } => error.code(),
            TalkError::Pins(error) => error.code(),
            TalkError::NotVouched(..) => "not-vouched",
            TalkError::OtherIdentity(_) => "other-identity",
            TalkError::Key { .. } => "bad-key",
            TalkError::Stale(_) => "stale-key",
            TalkError::Contended(_) => "contended",
            TalkError::NotMember(..) => "not-member",
            TalkError::Bus(_) => "no-bus",
            TalkError::Bound(_) => "bound-met",
            TalkError::NotPermitted(_) => "not-permitted",
            TalkError::Seal(Untrue::TextOnly) => "text-only",
            TalkError::Seal(_) => "seal",
            TalkError::TooLarge { .. } | TalkError::AttachmentTooLarge { .. } => "too-large",
            TalkError::Attachment { .. } => "bad-attachment",
            TalkError::NotSealed { .. } => "not-sealed",
            TalkError::NotKept { .. } => "not-kept",
            TalkError::Unknown(_) => "unknown-outcome",
            TalkError::Identity(_) => "identity",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            TalkError::Api { error, .. } => error.remedy(),
            TalkError::Pins(error) => error.remedy(),
            TalkError::NotVouched(handle, _) => {
                format!("a server lies, or its store is damaged; tell the operator, and ask '{handle}' in person")
            }
            TalkError::OtherIdentity(handle) => {
                format!("use the identity file that '{handle}' used first; without it a new user is needed")
            }
            TalkError::Key { by, .. } => format!("ask '{by}' to make another: membershipd key rotate"),
            TalkError::Stale(room) => format!("ask a member of '{room}' to say something, or: membershipd key rotate"),
            TalkError::Contended(_) => "try again".to_owned(),
            TalkError::NotMember(room, _) => format!(
                "if you are invited: membershipd member accept {room}; if not, ask one of its moderators or owners to invite you"
            ),
            TalkError::Bus(_) => "name more nodes with --url; if it stays so, tell your operator".to_owned(),
            TalkError::Bound(met) => met.remedy().to_owned(),
            TalkError::NotPermitted(_) => "see your role with 'membershipd room show'".to_owned(),
            TalkError::NotKept { retry: true, .. } => "say it again in a moment".to_owned(),
            TalkError::NotKept { refused: Reason::NotAllowed, .. } => {
                "see your role with 'membershipd room show'".to_owned()
            }
            TalkError::NotKept { .. } => "see that this program is as new as the servers, then say it again".to_owned(),
            TalkError::Seal(Untrue::TextOnly) => {
                "say it as a text, or again when all nodes and members have a newer release".to_owned()
            }
            TalkError::Seal(_) | TalkError::Identity(_) => "see the identity file".to_owned(),
            TalkError::TooLarge { .. } => "send it as an attachment: membershipd blob put".to_owned(),
            TalkError::AttachmentTooLarge { .. } => "add it in parts".to_owned(),
            TalkError::Attachment { .. } => "ask whoever added it to add it again".to_owned(),
            TalkError::NotSealed { .. } => "ask a member who was there before to add it again".to_owned(),
            TalkError::Unknown(_) => {
                "look with 'membershipd tail' whether it is there before you say it again".to_owned()
            }
        }
    }

    /// Whether trying again later may help, without anybody changing anything.
    pub(super) fn passes(&self) -> bool {
        match self {
            TalkError::Api { error, .. } => !matches!(error, ClientError::Refused(_) | ClientError::Form(_)),
            TalkError::Bus(_)
            | TalkError::Bound(_)
            | TalkError::Contended(_)
            | TalkError::NotKept { retry: true, .. } => true,
            _ => false,
        }
    }
}
