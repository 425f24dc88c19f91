//! What the sender of a frame is told on the bus: kept, or refused and why. Only daemons publish where it is told.

use serde::{Deserialize, Serialize};
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
    /// What a later release says.
    #[serde(other)]
    Other,
}

impl Reason {
    /// Whether the same frame may be kept when it is sent again.
    pub fn retry(self) -> bool {
        matches!(self, Reason::TooMuch | Reason::Unavailable)
    }

    /// For people: what stands after 'it was not kept: '.
    pub fn why(self) -> &'static str {
        match self {
            Reason::TooLarge => "it is larger than a message may be",
            Reason::Malformed => "it is no message of unibus",
            Reason::OtherSender => "it names another sender",
            Reason::Policy => "the room wants its messages sealed or signed, and it is not",
            Reason::Signature => "its signature is not the sender's",
            Reason::NotAllowed => "the sender may not speak in the room",
            Reason::TooMuch => "too much of the sender waits already",
            Reason::Unavailable => "the cluster could not take it in time",
            Reason::Other => "the cluster says so",
        }
    }
}

impl Outcome {
    /// A refusal.
    pub fn refused(reason: Reason) -> Self {
        Outcome::Refused { refused: reason, retry: reason.retry() }
    }
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
        let newer = format!(r#"{{"id":"{id}","refused":"of-a-later-release","retry":false}}"#);
        let expected = Outcome::Refused { refused: Reason::Other, retry: false };
        assert_eq!(serde_json::from_str::<Notice>(&newer).unwrap().outcome, expected);
    }
}
