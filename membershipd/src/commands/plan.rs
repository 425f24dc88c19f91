//! What a command comes to on a view: the writes in their order, each with the revision that it must find.

use std::collections::{BTreeMap, BTreeSet};

use super::audit::Decided;
use super::error::CommandError;
use super::order::Order;
use super::state::revision_of;
use crate::domain::{
    self, Claims, Handle, MemberState, Membership, Record, RecordKey, Records, Room, RoomId, RoomRole, RoomState,
    Space, Subject, User, takes_away,
};
use crate::store::Revision;
use crate::view::View;

/// A write.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) record: Record,
    pub(super) was: Option<Record>,
    /// The revision it must find; none: no such record.
    pub(super) expected: Option<Revision>,
    /// It only proves that the record is as it was, and makes whoever would change it at the same time begin anew.
    pub(super) touch: bool,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) user: User,
    pub(super) decided: Decided,
    /// Touches first.
    pub(super) steps: Vec<Step>,
    relied: Vec<(RecordKey, Option<Revision>)>,
    pub(super) release: Option<Subject>,
    pub(super) must_fence: bool,
}

/// What earlier attempts at the same command have met.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// The records to be written as they were at first.
    first: BTreeMap<RecordKey, Option<Record>>,
    /// What was written with an unknown outcome.
    pub(super) attempted: BTreeMap<RecordKey, Record>,
    /// Who gives the command, once that is known.
    pub(super) user: Option<User>,
}

/// Decides the command on `view`.
///
/// # Owners
/// Whoever ceases to be an owner does so because another one stays. Two of them could each rely on the other, and both go. So a
/// change that ends an owner first touches the memberships it relies on: it writes them again as they are, by compare-and-set.
/// Then of two such changes that rely on each other's record at most one finds all records as it read them: had both, each
/// would have read its own record after the other's touch of it, and so after the other had read. A circle of more than two is
/// no different. Of everything else that a command relies on nothing relies on what the command writes; there the change that
/// takes the right away and the one that still used it have an order, and the fence of the former sees to it that nothing
/// which begins after its acknowledgement is decided on what was before.
pub(super) fn plan(order: &Order, view: &View, earlier: &mut Earlier) -> Result<Plan, CommandError> {
    let who = order.actor.user(view);
    if let (None, Some(user)) = (&earlier.user, who) {
        earlier.user = Some(user.clone());
    }
    let change = domain::change(who, &order.room, &order.command, view, order.terms)?;
    let user = who.ok_or(domain::Refusal::Denied(domain::Denial::UnknownKey))?;
    precondition(order, user, view, earlier)?;

    let mut steps = Vec::new();
    for record in change.writes {
        let key = record.key();
        let was = fetch(view, &key);
        let first = earlier.first.entry(key.clone()).or_insert_with(|| was.clone());
        if overtaken(first.as_ref(), was.as_ref(), &record) {
            return Err(CommandError::Overtaken(key));
        }
        steps.push(Step { expected: revision_of(view, &key), record, was, touch: false });
    }
    let mut relied: Vec<_> = change.relies_on.into_iter().map(|key| (revision_of(view, &key), key)).collect();
    if steps.iter().any(ends_an_owner) {
        let touches: Vec<_> = relied
            .extract_if(.., |(_, key)| matches!(key, RecordKey::Membership(..)))
            .filter_map(|(expected, key)| {
                let record = fetch(view, &key)?;
                Some(Step { was: Some(record.clone()), record, expected, touch: true })
            })
            .collect();
        steps.splice(0..0, touches);
    }
    let room = view.membership(&order.room, &user.handle).filter(|m| m.state == MemberState::Joined);
    Ok(Plan {
        user: user.clone(),
        decided: Decided { bus: Some(user.role), room: room.map(|m| m.role) },
        steps,
        relied: relied.into_iter().map(|(revision, key)| (key, revision)).collect(),
        release: change.release.clone(),
        must_fence: change.takes_away || change.repeats,
    })
}

impl Plan {
    /// The records that it writes.
    pub(super) fn keys(&self) -> BTreeSet<RecordKey> {
        self.steps.iter().map(|step| step.record.key()).collect()
    }

    /// Whether everything that is still to be written, from step number `from`, and all that it rests on is as it was.
    pub(super) fn stands(&self, view: &View, from: usize) -> bool {
        let mut relied = self.relied.iter();
        let mut steps = self.steps.iter().skip(from);
        relied.all(|(key, revision)| revision_of(view, key) == *revision)
            && steps.all(|step| revision_of(view, &step.record.key()) == step.expected)
    }

    /// A room that it leaves in use, whose claim has to be there when all is written.
    pub(super) fn room_in_use(&self) -> Option<(&RoomId, &Subject)> {
        self.steps.iter().find_map(|step| match &step.record {
            Record::Room(room) if room.state == RoomState::Active => Some((&room.id, &room.subject)),
            _ => None,
        })
    }
}

impl Step {
    /// Whose presence in the room it changes.
    pub(super) fn changes_presence(&self) -> Option<&Handle> {
        let Record::Membership(is) = &self.record else { return None };
        let was = matches!(&self.was, Some(Record::Membership(was)) if was.state.is_present());
        (is.state.is_present() != was).then_some(&is.handle)
    }
}

/// Whether the membership that the order is about stands as an earlier attempt of it wrote it, of which nobody heard: where its
/// author may not do it a second time, as who left a room may not leave it, that is how it is known to be done.
pub(super) fn stands_as_attempted(order: &Order, view: &View, earlier: &Earlier) -> Option<(RecordKey, Revision)> {
    let record = order.concerns(&earlier.user.as_ref()?.handle);
    let ours = earlier.attempted.get(&record).filter(|ours| matches!(ours, Record::Membership(_)))?;
    let revision = revision_of(view, &record)?;
    (fetch(view, &record).as_ref() == Some(ours)).then_some((record, revision))
}

/// The demanded revision, after the rules have been asked: who may not know of a record is not told its revision.
fn precondition(order: &Order, user: &User, view: &View, earlier: &Earlier) -> Result<(), CommandError> {
    let Some(wanted) = &order.if_match else { return Ok(()) };
    let record = order.concerns(&user.handle);
    let now = revision_of(view, &record);
    // What stands there is what we tried to write ourselves, on the demanded revision, and heard nothing of.
    let ours = earlier.attempted.get(&record).is_some_and(|ours| fetch(view, &record).as_ref() == Some(ours));
    if wanted.is_met(now) || ours {
        return Ok(());
    }
    Err(CommandError::Precondition { record, wanted: wanted.clone(), now })
}

fn ends_an_owner(step: &Step) -> bool {
    let owns = |record: &Record| matches!(record, Record::Membership(m) if m.role == RoomRole::Owner && m.state == MemberState::Joined);
    step.was.as_ref().is_some_and(owns) && !owns(&step.record)
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
        RecordKey::Claims(space) => view.claims(*space).cloned().map(Record::Claims),
        RecordKey::Room(room) => view.room(room).cloned().map(Record::Room),
        RecordKey::Membership(room, handle) => view.membership(room, handle).cloned().map(Record::Membership),
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
    fn user(&self, _: &Handle) -> Option<&User> {
        None
    }

    fn room(&self, _: &RoomId) -> Option<&Room> {
        self.room_alone()
    }

    fn claims(&self, _: Space) -> Option<&Claims> {
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
    use crate::domain::{Policy, Standing};

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
