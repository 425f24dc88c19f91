//! Commands about rooms and memberships: planned by the domain on a view, with what stays behind when an owner goes.

use std::time::Duration;

use super::audit::{About, CommandId, Decided, Stage};
use super::change::Change;
use super::done::{Done, Unfinished};
use super::error::CommandError;
use super::keys::{self, Address};
use super::order::{Demand, Order};
use super::path::Commands;
use super::plan::{Earlier, Plan, Step, StepKind, fetch};
use super::state::revision_of;
use unibus_core::domain::{
    self, MemberState, Record, RecordKey, Records as _, Refusal, RevocationOutcome, RoomRole, User,
};
use unibus_core::view::View;
use unibus_store::{Records, Revision};

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its number in the audit.
    pub id: CommandId,
    /// False where it was so already.
    pub changed: bool,
    /// The record it is about, and its revision now; none: that is not known here yet.
    pub record: RecordKey,
    /// See `record`.
    pub revision: Option<Revision>,
    /// The record as it is at that revision.
    pub value: Option<Record>,
    /// All records that were written, with their revisions.
    pub written: Vec<(String, Revision)>,
    /// How the fence was passed; none: nothing was taken away.
    pub fenced: Option<RevocationOutcome>,
    /// Time that this took.
    pub waited: Duration,
    /// What is left for a repair.
    pub unfinished: Vec<Unfinished>,
}

impl Commands {
    /// Carries a command about a room out. Takes the budget, one write and the fence at most.
    pub async fn run(&self, order: &Order) -> Result<Outcome, CommandError> {
        let Done { id, changed, found: record, about, written, fenced, waited, unfinished, .. } =
            self.carry_out(order).await?;
        let known = self.state().read(|view| revision_of(view, &record).zip(fetch(view, &record))).ok().flatten();
        let own = written.get(&about).and_then(|wrote| Some((wrote.revision, wrote.record.clone()?)));
        let written = written.iter().map(|(address, wrote)| (address.to_string(), wrote.revision)).collect();
        let (revision, value) = known.into_iter().chain(own).max_by_key(|(revision, _)| *revision).unzip();
        Ok(Outcome { id, changed, record, revision, value, written, fenced, waited, unfinished })
    }
}

impl Change for Order {
    /// The record that the command is about.
    type Found = RecordKey;
    type Error = CommandError;

    /// A command may have several writes, of which none should be left alone.
    const RETRIES_UNKNOWN: bool = true;

    fn awaits(&self, view: &View) -> Option<(Records, Revision)> {
        let (wanted, user) = (self.if_match.as_ref().and_then(Demand::newest)?, view.user(&self.by)?);
        Some((keys::bucket(&self.concerns(&user.handle)), wanted))
    }

    async fn plan(&self, on: &Commands, earlier: &mut Earlier) -> Result<Plan<RecordKey>, CommandError> {
        on.state().read(|view| match plan(self, view, earlier) {
            Err(CommandError::Refused(refusal)) => match stands_as_attempted(self, view, earlier) {
                Some((key, ours)) => {
                    let none = Decided { bus: None, room: None };
                    Ok(Plan { confirmed: Some(ours), ..Plan::new(none, Address::of(&key)?, Vec::new(), key) })
                }
                None => Err(CommandError::Refused(refusal)),
            },
            planned => planned,
        })?
    }

    fn about(&self, earlier: &Earlier) -> Option<About> {
        earlier.user.as_ref().map(|user| self.about_by(user))
    }

    fn stage(&self, error: &CommandError) -> Stage {
        match error {
            CommandError::Refused(refusal) => Stage::Refused(refusal.to_string()),
            CommandError::Unknown { why } => Stage::Unknown(why.clone()),
            other => Stage::Failed(other.to_string()),
        }
    }

    fn is_denied(&self, error: &CommandError) -> bool {
        matches!(error, CommandError::Refused(Refusal::Denied(_)))
    }

    fn failed(&self, error: CommandError) -> CommandError {
        // Clients know this as the store that does not answer.
        if let CommandError::Audit(error) = error { CommandError::Unavailable(error) } else { error }
    }
}

/// Decides the command on `view`.
///
/// # Owners
/// A member ceases to be an owner because another one stays. Two of them could each rely on the other, and both go. So a
/// change that ends an owner first touches the memberships it relies on: it writes them again as they are, by compare-and-set.
/// Then of two such changes that rely on each other's record at most one finds all records as it read them: had both, each
/// would have read its own record after the other's touch of it, and so after the other had read. A circle of more than two is
/// no different. Of everything else that a command relies on nothing relies on what the command writes; there the change that
/// takes the right away and the one that still used it have an order, and the fence of the former sees to it that nothing
/// which begins after its acknowledgement is decided on what was before.
fn plan(order: &Order, view: &View, earlier: &mut Earlier) -> Result<Plan<RecordKey>, CommandError> {
    let who = view.user(&order.by);
    if let (None, Some(user)) = (&earlier.user, who) {
        earlier.user = Some(user.clone());
    }
    let change = domain::change(who, &order.room, &order.command, view, order.terms)?;
    let user = who.ok_or(Refusal::Denied(domain::Denial::UnknownKey))?;
    precondition(order, user, view, earlier)?;

    let must_fence = change.must_fence();
    let steps: Result<Vec<_>, _> = change.writes.into_iter().map(|record| earlier.step(view, record)).collect();
    let mut steps = steps?;
    let mut relied: Vec<_> = change.relies_on.into_iter().map(|key| (revision_of(view, &key), key)).collect();
    if steps.iter().any(ends_an_owner) {
        let touched = relied.extract_if(.., |(_, key)| matches!(key, RecordKey::Membership(..)));
        let touches = touched.filter_map(|(_, key)| fetch(view, &key));
        let touches: Result<Vec<_>, _> =
            touches.map(|record| Step::record(view, record.clone(), Some(record), StepKind::Touch)).collect();
        steps.splice(0..0, touches?);
    }
    let room = view.membership(&order.room, &user.handle).filter(|m| m.state == MemberState::Joined);
    let decided = Decided { bus: Some(user.role), room: room.map(|m| m.role) };
    let about = order.concerns(&user.handle);
    Ok(Plan {
        relied: relied.into_iter().map(|(revision, key)| (key, revision)).collect(),
        release: change.release.map(|subject| (order.room.clone(), subject)),
        ..Plan::new(decided, Address::of(&about)?, steps, about).revoking(must_fence)
    })
}

/// Whether the membership that the order is about stands as an earlier attempt of it wrote it, of which no answer came: where its
/// author may not do it a second time, as who left a room may not leave it, that is how it is known to be done.
fn stands_as_attempted(order: &Order, view: &View, earlier: &Earlier) -> Option<(RecordKey, (Record, Revision))> {
    let key = order.concerns(&earlier.user.as_ref()?.handle);
    let ours = earlier.attempted.get(&key).filter(|ours| matches!(ours, Record::Membership(_)))?;
    let revision = revision_of(view, &key)?;
    (fetch(view, &key).as_ref() == Some(ours)).then(|| (key, (ours.clone(), revision)))
}

/// The demanded revision, after the rules have been asked: who may not know of a record is not told its revision.
fn precondition(order: &Order, user: &User, view: &View, earlier: &Earlier) -> Result<(), CommandError> {
    let Some(wanted) = &order.if_match else { return Ok(()) };
    let record = order.concerns(&user.handle);
    let now = revision_of(view, &record);
    // What stands there is what we tried to write ourselves, on the demanded revision, and heard nothing of.
    let ours = fetch(view, &record).is_some_and(|now| earlier.is_ours(&now));
    if wanted.is_met(now) || ours {
        return Ok(());
    }
    Err(CommandError::Precondition { record, wanted: wanted.clone(), now })
}

fn ends_an_owner(step: &Step) -> bool {
    let owns = |record: &Record| matches!(record, Record::Membership(m) if m.role == RoomRole::Owner && m.state == MemberState::Joined);
    step.was.as_ref().is_some_and(owns) && !step.to_record().is_some_and(owns)
}
