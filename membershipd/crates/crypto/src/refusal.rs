//! Why a frame is not shown, and not kept.

use super::Untrue;
use super::epoch::Epoch;
use unibus_core::domain::Handle;

/// Why a frame is not shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameRefusal {
    /// It is no frame.
    #[error("it is no message of unibus: {0}")]
    Malformed(&'static str),
    /// It is larger than what is kept.
    #[error("it has {0} bytes, and {most} at most are kept", most = super::FRAME_BYTES)]
    TooLarge(usize),
    /// The room's messages have to be sealed.
    #[error("it is in clear, and the room's messages have to be sealed")]
    Clear,
    /// The room's messages have to be signed.
    #[error("it is unsigned, and the room's messages have to be signed")]
    Unsigned,
    /// It is sealed with the key of an epoch that the reader does not have.
    #[error("it is sealed with the key of epoch {0}, which is not sealed for you")]
    NoKey(Epoch),
    /// Nobody has this handle.
    #[error("it names {0} as its sender, and there is no such user")]
    NoSender(Handle),
    /// It is not what its sender made.
    #[error("it names {0} as its sender, but {1}")]
    Untrue(Handle, Untrue),
    /// It came before.
    #[error("it has come before: somebody sent it again")]
    Replayed,
    /// It was not made when it came.
    #[error("it was made {0} s before or after it came: it is an old one sent again, or a clock is wrong")]
    WrongTime(u64),
}

impl FrameRefusal {
    /// A word for programs: the one in docs/conversations.md.
    pub fn code(&self) -> &'static str {
        match self {
            FrameRefusal::Malformed(_) => "malformed",
            FrameRefusal::TooLarge(_) => "too-large",
            FrameRefusal::Clear => "clear",
            FrameRefusal::Unsigned => "unsigned",
            FrameRefusal::NoKey(_) => "no-key",
            FrameRefusal::NoSender(_) => "no-sender",
            FrameRefusal::Untrue(_, why) => why.code(),
            FrameRefusal::Replayed => "replayed",
            FrameRefusal::WrongTime(_) => "wrong-time",
        }
    }
}
