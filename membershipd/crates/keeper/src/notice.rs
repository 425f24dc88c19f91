//! What the sender of a frame is told: kept, or refused and why. Only daemons publish where it is told.

use serde::{Deserialize, Serialize};

use unibus_core::bus;
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::FrameId;

/// What came of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Which frame.
    pub id: FrameId,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A majority of the copies has it.
    Kept {
        /// Its place in the room's history.
        seq: u64,
    },
    /// It is not kept.
    Refused {
        /// Why.
        refused: Reason,
        /// Whether the same frame may be kept when it is sent again.
        retry: bool,
    },
}

/// Why a frame is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is larger than a frame may be.
    TooLarge,
    /// It is no frame.
    Malformed,
    /// It names another sender than the subject on which it came.
    OtherSender,
    /// The room wants its messages sealed, or signed, and it is not.
    Policy,
    /// The signature is not one of its sender.
    Signature,
    /// Its sender may not speak in the room.
    NotAllowed,
    /// Too much of its sender waits already.
    TooMuch,
    /// The cluster could not take it in time.
    Unavailable,
}

impl Reason {
    /// Whether the same frame may be kept when it is sent again.
    pub fn retry(self) -> bool {
        matches!(self, Reason::TooMuch | Reason::Unavailable)
    }
}

impl Outcome {
    /// A refusal.
    pub fn refused(reason: Reason) -> Self {
        Outcome::Refused { refused: reason, retry: reason.retry() }
    }
}

/// Where `sender` is told what came of what it said in `room`.
pub fn subject(sender: &Handle, room: &RoomId) -> String {
    bus::kept_notices(sender.as_str(), room.as_str())
}

/// Every such subject, for those who hold what others append.
pub(crate) fn all_subjects() -> String {
    bus::kept_notices("*", "*")
}

/// Whether a notice comes on `subject`.
pub(crate) fn is_notice(subject: &str) -> bool {
    let [first, second, _, word, _] = *subject.split('.').collect::<Vec<_>>() else { return false };
    [first, second, word] == ["unibus", "user", "kept"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_as_it_is_documented() {
        let id = FrameId::of(&"kitchen".parse().unwrap(), "room.kitchen.bob", b"hello");
        let golden = [
            (Outcome::Kept { seq: 7 }, format!(r#"{{"id":"{id}","seq":7}}"#)),
            (
                Outcome::refused(Reason::OtherSender),
                format!(r#"{{"id":"{id}","refused":"other-sender","retry":false}}"#),
            ),
            (Outcome::refused(Reason::TooMuch), format!(r#"{{"id":"{id}","refused":"too-much","retry":true}}"#)),
        ];
        for (outcome, text) in golden {
            let notice = Notice { id, outcome };
            assert_eq!(serde_json::to_string(&notice).unwrap(), text);
            assert_eq!(serde_json::from_str::<Notice>(&text).unwrap(), notice);
        }
    }

    #[test]
    fn a_notice_is_known_by_its_subject() {
        let subject = subject(&"bob".parse().unwrap(), &"kitchen".parse().unwrap());
        assert_eq!(subject, "unibus.user.bob.kept.kitchen");
        assert!(is_notice(&subject));
        for other in ["unibus.user.bob.rights", "room.user.bob.kept.kitchen", "unibus.user.bob.kept.a.b"] {
            assert!(!is_notice(other), "{other}");
        }
        assert_eq!(all_subjects(), "unibus.user.*.kept.*");
    }
}
