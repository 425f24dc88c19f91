//! What a change comes to: the writes in their order, each with the revision that it must find.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::audit::Decided;
use super::error::CommandError;
use super::keys::{self, Address};
use super::state::revision_of;
use unibus_core::domain::{
    Claims, ClaimsKey, FeatureLevel, Handle, LevelRecord, Membership, Record, RecordKey, Records, Room, RoomId,
    RoomState, Subject, User, takes_away,
};
use unibus_core::view::View;
use unibus_store::{Revision, StoreError};

/// A write.
#[derive(Debug, Clone)]
pub struct Step {
    pub(super) address: Address,
    pub(super) value: Value,
    pub(super) was: Option<Record>,
    /// The revision it must find; none: no such entry.
    pub(super) expected: Option<Revision>,
    pub(super) kind: StepKind,
}

/// What is written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A record of the domain.
    Record(Record),
    /// The entry of a bucket that no view holds, or that only goes with a record.
    Json(Vec<u8>),
}

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepKind {
    /// It is the change, or a part of it.
    Change,
    /// It comes before a part of the change, and alone it means nothing.
    Claim,
    /// It only proves that the record is as it was, and makes others who would change it at the same time begin anew.
    Touch,
}

/// What is to be done, and what was found: what a change that needs no write is answered with.
#[derive(Debug, Clone)]
pub struct Plan<T> {
    /// By which rights.
    pub(super) decided: Decided,
    /// Touches first.
    pub(super) steps: Vec<Step>,
    pub(super) relied: Vec<(RecordKey, Option<Revision>)>,
    pub(super) release: Option<(RoomId, Subject)>,
    pub(super) must_fence: bool,
    /// The entry that it is about, and the revision that it has where that is known and nothing is to be written.
    pub(super) about: Address,
    pub(super) at: Option<Revision>,
    /// The entry stands as an earlier attempt wrote it, of which no answer came: that attempt is known to have succeeded.
    pub(super) confirmed: Option<(Record, Revision)>,
    pub(super) found: T,
}

/// What earlier attempts at the same change have met.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The records to be written as they were at first.
    first: BTreeMap<RecordKey, Option<Record>>,
    /// What was written with an unknown outcome.
    pub(super) attempted: BTreeMap<RecordKey, Record>,
    /// The user who gives a command about a room, once that is known.
    pub(super) user: Option<User>,
}

impl Earlier {
    /// Writes `record` in the place of what `view` has. Fails where the record was restricted since the change first looked at
    /// it, and this would undo some of that.
    pub(crate) fn step(&mut self, view: &View, record: Record) -> Result<Step, CommandError> {
        let key = record.key();
        let was = fetch(view, &key);
        let first = self.first.entry(key.clone()).or_insert_with(|| was.clone());
        if overtaken(first.as_ref(), was.as_ref(), &record) {
            return Err(CommandError::Overtaken(key));
        }
        Step::record(view, record, was, StepKind::Change)
    }

    /// Whether `record` is what an attempt wrote without hearing of it.
    pub(crate) fn is_ours(&self, record: &Record) -> bool {
        self.attempted.get(&record.key()) == Some(record)
    }
}

impl Step {
    pub(super) fn record(
        view: &View,
        record: Record,
        was: Option<Record>,
        kind: StepKind,
    ) -> Result<Self, CommandError> {
        let (address, expected) = (Address::of(&record.key())?, revision_of(view, &record.key()));
        Ok(Self { address, value: Value::Record(record), was, expected, kind })
    }

    /// Writes the entry of a bucket that no view holds, at the revision `expected` (none: there is no such entry).
    pub(crate) fn entry(
        address: Address,
        value: &impl Serialize,
        expected: Option<Revision>,
    ) -> Result<Self, StoreError> {
        let value = Value::Json(keys::json(address.bucket.bucket(), value)?);
        Ok(Self { address, value, was: None, expected, kind: StepKind::Change })
    }

    /// Makes an entry that comes before the change, and that means nothing without it.
    pub(crate) fn claim(address: Address, value: &impl Serialize) -> Result<Self, StoreError> {
        Ok(Self { kind: StepKind::Claim, ..Self::entry(address, value, None)? })
    }

    pub(super) fn to_record(&self) -> Option<&Record> {
        if let Value::Record(record) = &self.value { Some(record) } else { None }
    }

    /// Whether it makes something other than it was.
    pub(super) fn changes(&self) -> bool {
        self.kind == StepKind::Change && self.to_record().is_none_or(|record| self.was.as_ref() != Some(record))
    }

    /// Whose presence in which room it changes.
    pub(super) fn changes_presence(&self) -> Option<(Handle, RoomId)> {
        let Some(Record::Membership(is)) = self.to_record() else { return None };
        let was = matches!(&self.was, Some(Record::Membership(was)) if was.state.is_present());
        (is.state.is_present() != was).then(|| (is.handle.clone(), is.room.clone()))
    }
}

impl<T> Plan<T> {
    /// These writes, allowed by the rights `decided`, which leave `found` in the entry `about`.
    pub(crate) fn new(decided: Decided, about: Address, steps: Vec<Step>, found: T) -> Self {
        let relied = Vec::new();
        Self { decided, steps, relied, release: None, must_fence: false, about, at: None, confirmed: None, found }
    }

    /// No write: the entry `about` has `found` already, at the revision `at`.
    pub(crate) fn stands_already(decided: Decided, about: Address, at: Option<Revision>, found: T) -> Self {
        Self { at, ..Self::new(decided, about, Vec::new(), found) }
    }

    /// The same. Where `revokes`, no node may honour the old state any more before it is reported as done.
    pub(crate) fn revoking(self, revokes: bool) -> Self {
        Self { must_fence: revokes, ..self }
    }

    /// The entries that it writes.
    pub(super) fn addresses(&self) -> BTreeSet<Address> {
        self.steps.iter().map(|step| step.address.clone()).collect()
    }

    /// Whether everything that is still to be written, from step number `from`, and all that it rests on is as it was.
    pub(super) fn stands(&self, view: &View, from: usize) -> bool {
        let mut relied = self.relied.iter();
        let mut records =
            self.steps.iter().skip(from).filter_map(|step| Some((step.to_record()?.key(), step.expected)));
        relied.all(|(key, revision)| revision_of(view, key) == *revision)
            && records.all(|(key, expected)| revision_of(view, &key) == expected)
    }

    /// A room that it leaves in use, whose claim has to be there when all is written.
    pub(super) fn room_in_use(&self) -> Option<(&RoomId, &Subject)> {
        self.steps.iter().find_map(|step| match step.to_record() {
            Some(Record::Room(room)) if room.state == RoomState::Active => Some((&room.id, &room.subject)),
            _ => None,
        })
    }
}

/// Whether the record was restricted since the command first looked at it, and the command would undo some of that. A grant
/// that is under way when something is taken away must not land afterwards, not even by being decided anew.
fn overtaken(first: Option<&Record>, now: Option<&Record>, new: &Record) -> bool {
    let (Some(now), false) = (now, first == now || matches!(new, Record::Claims(_))) else { return false };
    let out = matches!(now, Record::Membership(m) if !m.state.is_present());
    let lost = |was: &Record, is: &Record| takes_away(std::slice::from_ref(is), &Only(was));
    (out || first.is_some_and(|first| lost(first, now))) && lost(new, now)
}

pub(super) fn fetch(view: &View, key: &RecordKey) -> Option<Record> {
    match key {
        RecordKey::User(handle) => view.user(handle).cloned().map(Record::User),
        RecordKey::Claims(claims) => view.claims(claims).cloned().map(Record::Claims),
        RecordKey::Room(room) => view.room(room).cloned().map(Record::Room),
        RecordKey::Membership(room, handle) => view.membership(room, handle).cloned().map(Record::Membership),
        RecordKey::Level => view.revision(key).map(|_| Record::Level(LevelRecord::new(view.level()))),
    }
}

/// A world of one record, for comparing two versions of it by the rules.
struct Only<'a>(&'a Record);

impl Only<'_> {
    fn room_alone(&self) -> Option<&Room> {
        if let Record::Room(room) = self.0 { Some(room) } else { None }
    }
}

impl Records for Only<'_> {
    fn level(&self) -> FeatureLevel {
        if let Record::Level(record) = self.0 { record.level } else { FeatureLevel::default() }
    }

    fn user(&self, _: &Handle) -> Option<&User> {
        None
    }

    fn room(&self, _: &RoomId) -> Option<&Room> {
        self.room_alone()
    }

    fn claims(&self, _: &ClaimsKey) -> Option<&Claims> {
        None
    }

    fn membership(&self, _: &RoomId, _: &Handle) -> Option<&Membership> {
        if let Record::Membership(membership) = self.0 { Some(membership) } else { None }
    }

    fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.room_alone().into_iter()
    }

    fn members<'a>(&'a self, _: &'a RoomId) -> impl Iterator<Item = &'a Membership> {
        std::iter::empty()
    }

    fn memberships<'a>(&'a self, _: &'a Handle) -> impl Iterator<Item = &'a Membership> {
        std::iter::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_core::domain::{MemberState, Policy, RoomRole, Standing};

    fn member(role: RoomRole, state: MemberState) -> Record {
        let (room, bob) = ("kitchen".parse().unwrap(), "bob".parse().unwrap());
        Record::Membership(Membership::new(room, bob, Standing { role, state }, "alice".parse().unwrap()))
    }

    #[test]
    fn a_grant_does_not_land_on_what_was_taken_away_meanwhile() {
        use MemberState::{Banned, Invited, Joined, Removed};
        use RoomRole::{Member, Moderator, Reader};
        for (first, now, new, is) in [
            (None, Some((Reader, Removed)), (Member, Invited), true),
            (Some((Member, Removed)), Some((Member, Removed)), (Member, Invited), false),
            (Some((Member, Invited)), Some((Member, Removed)), (Member, Invited), true),
            (Some((Member, Joined)), Some((Reader, Joined)), (Moderator, Joined), true),
            (Some((Moderator, Joined)), Some((Reader, Joined)), (Member, Joined), true),
            (Some((Reader, Joined)), Some((Member, Joined)), (Moderator, Joined), false),
            (Some((Member, Joined)), Some((Member, Banned)), (Member, Removed), false),
            (None, Some((Member, Invited)), (Member, Invited), false),
            (Some((Member, Joined)), Some((Member, Removed)), (Member, Banned), false),
        ] {
            let of = |(role, state)| member(role, state);
            let said = overtaken(first.map(of).as_ref(), now.map(of).as_ref(), &of(new));
            assert_eq!(said, is, "{first:?}, now {now:?}, wants {new:?}");
        }
    }

    #[test]
    fn a_room_that_was_restricted_meanwhile_is_not_opened_again() {
        let room = |policy| {
            let subject = "rpc.kitchen".parse().unwrap();
            Record::Room(Room::new("kitchen".parse().unwrap(), subject, policy, "alice".parse().unwrap()))
        };
        let (clear, sealed) = (room(Policy::TELEMETRY), room(Policy { encrypt: true, ..Policy::TELEMETRY }));
        assert!(overtaken(Some(&clear), Some(&sealed), &clear));
        assert!(!overtaken(Some(&clear), Some(&sealed), &sealed));
        assert!(!overtaken(Some(&sealed), Some(&sealed), &clear), "nobody came in between");
    }
}
