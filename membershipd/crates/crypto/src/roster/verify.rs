//! Verifying a log that was fetched, against what a client trusts.

use super::entry::{Head, RosterAction};
use super::link::RoomLink;
use super::refusal::{RefusedAt, RosterRefusal};
use super::signed::SignedEntry;
use super::state::State;
use unibus_core::domain::{RoomId, SignPub};

/// By what a client knows a room's log from a forged one.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The newest head that it has verified.
    Pinned(Head),
    /// The key of the person who made or adopted the room.
    Creator(SignPub),
    /// The link with which it was invited.
    Link(&'a RoomLink),
    /// Nothing: the log is what the server shows, and is only checked to be one. A server checks so what it is given; a client pins the
    /// head that it finds, and says so to its user.
    FirstUse,
}

impl State {
    /// Verifies a whole log of `room`.
    ///
    /// # Errors
    /// The first entry that is not as it should be, and why. A log that is shorter than what is trusted is refused behind its end.
    pub fn verify(room: &RoomId, entries: &[SignedEntry], trust: Trust<'_>) -> Result<Self, RefusedAt> {
        let at = |number: u32| move |why| RefusedAt { number, why };
        let (first, rest) = entries.split_first().ok_or(RosterRefusal::Gap { expected: 1, found: 0 }).map_err(at(1))?;
        let found = &first.entry().room;
        if found != room {
            return Err(at(1)(RosterRefusal::ForeignRoom { expected: room.clone(), found: found.clone() }));
        }
        if matches!(trust, Trust::Creator(key) if key != first.entry().actor_key) {
            return Err(at(1)(RosterRefusal::OtherCreator));
        }
        let mut state = Self::begin(first).map_err(at(1))?;
        trust.check(first).map_err(at(1))?;
        for (entry, number) in rest.iter().zip(2..) {
            state.apply(entry).map_err(at(number))?;
            trust.check(entry).map_err(at(number))?;
        }
        let (found, seen) = (state.length(), trust.head().map_or(0, |head| head.number));
        if seen > found {
            return Err(at(found + 1)(RosterRefusal::StepBack { seen, found }));
        }
        Ok(state)
    }

    /// Applies what is new, and says how many entries it was. On an error those before it are applied.
    pub fn extend(&mut self, entries: &[SignedEntry]) -> Result<usize, RefusedAt> {
        for entry in entries {
            let number = self.length() + 1;
            self.apply(entry).map_err(|why| RefusedAt { number, why })?;
        }
        Ok(entries.len())
    }
}

impl Trust<'_> {
    fn head(&self) -> Option<Head> {
        match self {
            Trust::Pinned(head) => Some(*head),
            Trust::Link(link) => Some(link.head),
            Trust::Creator(_) | Trust::FirstUse => None,
        }
    }

    /// Whether an entry is the one that is trusted, where it has its number.
    fn check(&self, signed: &SignedEntry) -> Result<(), RosterRefusal> {
        let entry = signed.entry();
        let Some(head) = self.head().filter(|head| head.number == entry.number) else { return Ok(()) };
        if head.hash != signed.hash() {
            return Err(RosterRefusal::Fork(entry.number));
        }
        let Trust::Link(link) = self else { return Ok(()) };
        let invite = link.seed.invite_key().map_err(|_| RosterRefusal::OtherLink)?.public();
        let is_its = matches!(entry.action, RosterAction::InviteLink { invite_pub, .. } if invite_pub == invite);
        let by_inviter = entry.actor == link.inviter && entry.actor_key == link.inviter_key;
        if is_its && by_inviter { Ok(()) } else { Err(RosterRefusal::OtherLink) }
    }
}
