//! Who is in a room, by its log: what comes of the entries that were verified.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{Head, Keys};
use super::refusal::RosterRefusal;
use super::takings::Takings;
use crate::frame::RosterHead;
use crate::recipient::Recipient;
use unibus_core::domain::{Handle, MemberState, Policy, RoomId, RoomRole, SignPub, Standing, Subject};

/// What a log says, up to its head. A client keeps it beside its pins and applies only what is new ([`State::apply`]); what it reads back
/// from its own disk is not verified again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub(super) room: RoomId,
    pub(super) subject: Subject,
    pub(super) policy: Policy,
    /// The room in whose place this one goes on.
    pub(super) predecessor: Option<Predecessor>,
    /// Hashes of all entries, in their order.
    pub(super) hashes: Vec<RosterHead>,
    /// All that was said of each person, in its order.
    pub(super) people: BTreeMap<Handle, Vec<Moment>>,
    /// All links, by their keys.
    pub(super) links: BTreeMap<SignPub, Link>,
}

/// The room before a room, and what its founder knew of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// The room.
    pub room: RoomId,
    /// The last head that the founder knew.
    pub head: Head,
}

/// How a person stands to the room from an entry on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Number of the entry.
    pub since: u32,
    /// The role; in a removal the one that was lost.
    pub role: RoomRole,
    /// Whether it is in force.
    pub state: MemberState,
    /// The person's keys.
    pub keys: Keys,
    /// The member who signed the entry.
    pub by: Handle,
    /// When they say that they did, in seconds since 1970.
    pub time: u64,
}

/// A link that lets one person in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The role of who comes in with it.
    pub role: RoomRole,
    /// The member who made it.
    pub by: Handle,
    /// With which key.
    pub by_key: SignPub,
    /// Whether it can be used.
    pub state: LinkState,
}

/// Whether a link can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Once.
    Open,
    /// A person came in with it.
    Used,
    /// It was taken back.
    Revoked,
}

/// How a head that a server shows stands to the client's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadOrder {
    /// It is the same.
    Same,
    /// It is newer by so many entries: fetch them.
    Newer(u32),
}

impl Moment {
    /// Role and state.
    pub fn standing(&self) -> Standing {
        Standing { role: self.role, state: self.state }
    }
}

impl State {
    /// The room.
    pub fn room(&self) -> &RoomId {
        &self.room
    }

    /// The room's subject.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The room's policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The room in whose place this one goes on.
    pub fn predecessor(&self) -> Option<&Predecessor> {
        self.predecessor.as_ref()
    }

    /// The newest entry.
    pub fn head(&self) -> Head {
        Head { number: self.length(), hash: self.hashes.last().copied().unwrap_or(RosterHead::NONE) }
    }

    /// How each person stands to the room, those who left or were banned included.
    pub fn people(&self) -> impl Iterator<Item = (&Handle, &Moment)> {
        self.people.iter().filter_map(|(handle, moments)| Some((handle, moments.last()?)))
    }

    /// How `handle` stands to the room.
    pub fn person(&self, handle: &Handle) -> Option<&Moment> {
        self.people.get(handle)?.last()
    }

    /// How `handle` stood to the room when its log ended with entry `number`.
    pub fn person_at(&self, handle: &Handle, number: u32) -> Option<&Moment> {
        self.people.get(handle)?.iter().rev().find(|moment| moment.since <= number)
    }

    /// All links, by their keys.
    pub fn links(&self) -> impl Iterator<Item = (&SignPub, &Link)> {
        self.links.iter()
    }

    /// The number of the entry with this hash; none: this log does not have it, or not yet.
    pub fn position(&self, hash: RosterHead) -> Option<u32> {
        let index = self.hashes.iter().rposition(|known| *known == hash)?;
        u32::try_from(index + 1).ok()
    }

    /// How `head`, which a server shows, stands to this log.
    ///
    /// # Errors
    /// The server shows another log, or an older one.
    pub fn compare(&self, head: Head) -> Result<HeadOrder, RosterRefusal> {
        if head.number > self.length() {
            return Ok(HeadOrder::Newer(head.number - self.length()));
        }
        if self.hash(head.number) != Some(head.hash) {
            return Err(RosterRefusal::Fork(head.number));
        }
        let (seen, found) = (self.length(), head.number);
        if found < seen { Err(RosterRefusal::StepBack { seen, found }) } else { Ok(HeadOrder::Same) }
    }

    /// Who gets the room's key now: members and invited users of the log, minus what the server takes away. Never more.
    pub fn recipients(&self, takings: &Takings) -> Vec<Recipient> {
        let present = self.people().filter(|(_, moment)| moment.state.is_present());
        let people = present.map(|(handle, moment)| moment.keys.of(handle.clone()));
        people.filter(|person| !takings.has(person)).collect()
    }

    /// Owners who are in the room.
    pub fn owners(&self) -> impl Iterator<Item = &Handle> {
        let owner = Standing { role: RoomRole::Owner, state: MemberState::Joined };
        self.people().filter(move |(_, moment)| moment.standing() == owner).map(|(handle, _)| handle)
    }

    /// Whether this room may go on in the place of `old`: its founder was a member there, at the head that it names, and no owner is left
    /// there who could sign, as far as the server's word about `takings` goes. Show it to people, and let them decide.
    pub fn succeeds(&self, old: &State, takings: &Takings) -> Result<(), SuccessionRefusal> {
        let named = self.predecessor.as_ref().filter(|before| before.room == old.room);
        let head = named.ok_or(SuccessionRefusal::OtherRoom)?.head;
        if old.hash(head.number) != Some(head.hash) {
            return Err(SuccessionRefusal::UnknownHead);
        }
        let (founder, first) = self.founder().ok_or(SuccessionRefusal::Stranger)?;
        let joined = old.person_at(founder, head.number).filter(|moment| moment.state == MemberState::Joined);
        if joined.is_none_or(|moment| moment.keys != first.keys) {
            return Err(SuccessionRefusal::Stranger);
        }
        let acts = |handle: &&Handle| old.person(handle).is_some_and(|m| !takings.has(&m.keys.of((*handle).clone())));
        match old.owners().find(acts) {
            Some(owner) if !old.is_full() => Err(SuccessionRefusal::HasOwner(owner.clone())),
            _ => Ok(()),
        }
    }

    /// Who began the log.
    pub fn founder(&self) -> Option<(&Handle, &Moment)> {
        let mut first = self.people.iter().filter_map(|(handle, moments)| Some((handle, moments.first()?)));
        first.find(|(handle, moment)| moment.since == 1 && moment.by == **handle)
    }

    /// Hash of entry `number`.
    pub(super) fn hash(&self, number: u32) -> Option<RosterHead> {
        self.hashes.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    pub(super) fn length(&self) -> u32 {
        u32::try_from(self.hashes.len()).unwrap_or(u32::MAX)
    }
}

/// Why a room does not go on in the place of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionRefusal {
    /// It names another room, or none.
    #[error("the room does not say that it continues this one")]
    OtherRoom,
    /// It names a head that the other room's log does not have.
    #[error("it names a head that the log of the room before it does not have")]
    UnknownHead,
    /// Its founder was not a member there.
    #[error("its founder was not a member of the room before it")]
    Stranger,
    /// The room before it is not without an owner.
    #[error("the room before it still has an owner who can sign: '{0}'")]
    HasOwner(Handle),
}
