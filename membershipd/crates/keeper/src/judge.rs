//! Whether a frame is kept: what a client would check before it shows it. Pure.

use std::time::Instant;

use super::heard::Heard;
use super::notice::Reason;
use unibus_core::domain::{
    Action, Handle, Policy, Records, Resource, Room, RoomId, Subject, Verifier, decide, holds_its_subject,
};
use unibus_core::view::View;
use unibus_crypto::{Frame, FrameRefusal};

/// The room in which a message on `subject` is kept, and whose subject it is; none: it is in no room that keeps what is said there.
pub(crate) fn place(subject: &str, view: &View) -> Option<(RoomId, Handle)> {
    let (above, sender) = subject.rsplit_once('.')?;
    let (of_room, sender): (Subject, Handle) = (above.parse().ok()?, sender.parse().ok()?);
    let room = view.room(view.claims(of_room.space())?.holder(&of_room)?)?;
    keeps(room, view).then(|| (room.id.clone(), sender))
}

/// Whether what is said in `room` is kept.
fn keeps(room: &Room, view: &View) -> bool {
    room.policy.persist && holds_its_subject(room, view)
}

/// What the frame of an entitled sender is checked with.
#[derive(Debug)]
pub(crate) struct Terms {
    policy: Policy,
    verifier: Verifier,
}

/// Whether the sender may say that there, as far as `view` knows; the view is proven up to `proven`. None: what is missing may
/// have been granted before the frame was heard, and the view does not know yet.
pub(crate) fn entitled(heard: &Heard, view: &View, proven: Option<Instant>) -> Option<Result<Terms, Reason>> {
    let terms = || {
        let room = view.room(&heard.room).filter(|room| keeps(room, view))?;
        let there = heard.subject.strip_suffix(heard.sender.as_str())?.strip_suffix('.')? == room.subject.as_str();
        let user = view.user(&heard.sender)?;
        let speaks = decide(Some(user), Action::Publish, Resource::Subject(&room.id, &room.subject), view).is_allow();
        let verifier = user.sign_pub.verifier().filter(|_| there && speaks)?;
        Some(Terms { policy: room.policy, verifier })
    };
    match terms() {
        Some(terms) => Some(Ok(terms)),
        None if proven.is_some_and(|proven| proven > heard.at) => Some(Err(Reason::NotAllowed)),
        None => None,
    }
}

/// Whether the frame is one that its sender made for this place.
pub(crate) fn authentic(heard: &Heard, terms: &Terms) -> Result<(), Reason> {
    let frame = Frame::parse(&heard.frame).map_err(|_| Reason::Malformed)?;
    if frame.header.sender != heard.sender {
        return Err(Reason::OtherSender);
    }
    match frame.open(&heard.room, &heard.subject, terms.policy, Some(&terms.verifier), None) {
        // What is sealed only members open; the signature was checked before.
        Ok(_) | Err(FrameRefusal::NoKey(_)) => Ok(()),
        Err(FrameRefusal::Clear | FrameRefusal::Unsigned) => Err(Reason::Policy),
        Err(FrameRefusal::Untrue(..) | FrameRefusal::NoSender(_)) => Err(Reason::Signature),
        Err(_) => Err(Reason::Malformed),
    }
}
