//! A command from the order to its outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::audit::{CommandId, Journal, Stage};
use super::error::CommandError;
use super::fence::{Fence, Revoked};
use super::order::{Demand, Order};
use super::pace::{Pace, back_off, within};
use super::plan::{Earlier, Plan, Step, fetch, plan, stands_as_attempted};
use super::queues::{Held, Queues};
use super::state::{State, revision_of};
use super::{claiming, index, keys};
use crate::bus;
use crate::domain::{Handle, Record, RecordKey, Refusal, RevocationOutcome, Subject};
use crate::store::{Records, Revision, Standing, Store, StoreError};

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Time within which attempts begin.
    pub budget: Duration,
    /// Time for the own state to show what was written.
    pub catch_up: Duration,
    /// The first pause after a conflict; later ones are longer.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (catch_up, pause) = (Duration::from_secs(2), Duration::from_millis(5));
        Self { budget: bus::STORE_BUDGET, catch_up, pause }
    }
}

/// What was left behind of a command that is done: nothing that decides anything, and `repair` finishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// `rooms_by_member` does not say so yet.
    Index,
    /// A claim that nobody uses any more is still there.
    Claim,
    /// The audit has only the first of its two records.
    Record,
}

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
    pub written: BTreeMap<RecordKey, Revision>,
    /// How the fence was passed; none: nothing was taken away.
    pub fenced: Option<RevocationOutcome>,
    /// Time that this took.
    pub waited: Duration,
    /// What is left for a repair.
    pub unfinished: Vec<Unfinished>,
}

/// Carries commands out.
#[derive(Debug)]
pub struct Commands<S, F> {
    store: Arc<dyn Store>,
    state: S,
    fence: F,
    journal: Arc<Journal>,
    pace: Arc<dyn Pace>,
    patience: Patience,
    queues: Queues,
}

/// A command under way.
struct Run {
    id: CommandId,
    deadline: Instant,
    attempt: u32,
    earlier: Earlier,
    held: Option<Held>,
    /// Its first record is in the audit.
    begun: bool,
    changed: bool,
    /// Writes of unknown outcome: at which revision, and what the store said.
    doubts: BTreeMap<RecordKey, (Option<Revision>, StoreError)>,
    landed: BTreeMap<RecordKey, Revision>,
    /// What was written last under each key.
    values: BTreeMap<RecordKey, Record>,
    must_fence: bool,
    releases: Vec<Subject>,
    came_or_went: BTreeSet<Handle>,
}

/// How the writes of an attempt ended.
enum Written {
    All,
    /// Somebody changed this record first, or nobody knows.
    Again(RecordKey),
}

impl<S: State, F: Fence> Commands<S, F> {
    /// Decides on `state`, writes to `store` and passes `fence`.
    pub fn new(store: Arc<dyn Store>, state: S, fence: F, pace: Arc<dyn Pace>, patience: Patience) -> Self {
        let journal = Arc::new(Journal::new(store.clone(), pace.clone()));
        Self { store, state, fence, journal, pace, patience, queues: Queues::default() }
    }

    /// The way into the audit log, which others may take too.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What it decides on.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Carries a command out. Takes the budget, one write and the fence at most.
    pub async fn run(&self, order: &Order) -> Result<Outcome, CommandError> {
        let mut run = Run {
            id: self.journal.number(),
            deadline: self.pace.now() + self.patience.budget,
            attempt: 0,
            earlier: Earlier::default(),
            held: None,
            begun: false,
            changed: false,
            doubts: BTreeMap::new(),
            landed: BTreeMap::new(),
            values: BTreeMap::new(),
            must_fence: false,
            releases: Vec::new(),
            came_or_went: BTreeSet::new(),
        };
        let newest = order.if_match.as_ref().and_then(Demand::newest);
        if let (Some(wanted), Some(user)) = (newest, self.state.read(|s| order.actor.user(s).cloned())?) {
            // Whoever demands a revision may have it from another node, which knew of it sooner.
            self.caught_up(keys::bucket(&order.concerns(&user.handle)), wanted).await;
        }
        match self.carry_out(order, &mut run).await {
            Ok(record) => Ok(self.finish(order, run, record).await),
            Err(error) => Err(self.give_up(order, run, error).await),
        }
    }

    /// Attempts until everything is written. Says which record the order is about.
    async fn carry_out(&self, order: &Order, run: &mut Run) -> Result<RecordKey, CommandError> {
        loop {
            let (planned, done) = self.state.read(|view| {
                let planned = plan(order, view, &mut run.earlier);
                (planned, stands_as_attempted(order, view, &run.earlier))
            })?;
            let plan = match (planned, done) {
                (Err(CommandError::Refused(_)), Some((record, revision))) => {
                    run.doubts.remove(&record);
                    run.changed = true;
                    run.landed.insert(record.clone(), revision);
                    return Ok(record);
                }
                (planned, _) => planned?,
            };
            let record = order.concerns(&plan.user.handle);
            if plan.steps.is_empty() {
                return Ok(record);
            }
            let keys = plan.keys();
            // What takes its time is followed by a new look.
            if run.held.as_ref().is_none_or(|held| !held.covers(&keys)) {
                run.held = None;
                let left = run.deadline.saturating_duration_since(self.pace.now());
                let turn = within(&*self.pace, left, self.queues.enter(keys)).await;
                run.held = Some(turn.ok_or(CommandError::Contended(record))?);
                continue;
            }
            if !run.begun {
                let begun = order.record(&self.journal, run.id, &plan.user, Stage::Begun(plan.decided));
                // Whether it is there or not: nothing else has happened.
                self.journal.append(begun).await.map_err(CommandError::Unavailable)?;
                run.begun = true;
                continue;
            }
            let again = match self.write(&plan, run).await? {
                Written::Again(key) => key,
                Written::All => match self.lost_claim(&plan).await {
                    Some(key) => key,
                    None => return Ok(record),
                },
            };
            run.attempt = run.attempt.saturating_add(1);
            if self.pace.now() >= run.deadline {
                return Err(CommandError::Contended(again));
            }
            self.pace.pause(back_off(&*self.pace, self.patience.pause, run.attempt)).await;
        }
    }

    /// Makes the writes of an attempt, as far as nobody comes in between.
    async fn write(&self, plan: &Plan, run: &mut Run) -> Result<Written, CommandError> {
        for (number, step) in plan.steps.iter().enumerate() {
            let key = step.record.key();
            if number > 0 && !self.state.read(|view| plan.stands(view, number))? {
                return Ok(Written::Again(key));
            }
            match self.put(step, &key).await {
                Ok(revision) => run.landed(plan, step, key, revision),
                Err(StoreError::Conflict { current, .. }) => {
                    if let Standing::At(revision) = current {
                        self.caught_up(keys::bucket(&key), revision).await;
                    }
                    return Ok(Written::Again(key));
                }
                Err(error @ StoreError::Unknown { .. }) => {
                    run.doubts(plan, step, key.clone(), error);
                    return Ok(Written::Again(key));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Written::All)
    }

    async fn put(&self, step: &Step, key: &RecordKey) -> Result<Revision, StoreError> {
        let (bucket, named, value) = (keys::bucket(key), keys::key(key)?, keys::encode(&step.record)?);
        match step.expected {
            Some(expected) => self.store.update(bucket, &named, &value, expected).await,
            None => self.store.create(bucket, &named, &value).await,
        }
    }

    /// The document in which the claim of a room in use is missing, once its record is written: a release may have crossed it.
    async fn lost_claim(&self, plan: &Plan) -> Option<RecordKey> {
        let (room, subject) = plan.room_in_use()?;
        match claiming::is_held(&*self.store, room, subject).await {
            Ok(Err(revision)) => {
                if let Some(revision) = revision {
                    self.caught_up(Records::Rooms, revision).await;
                }
                Some(RecordKey::Claims(subject.space()))
            }
            Ok(Ok(())) => None,
            Err(error) => {
                // Without its claim the room is silent, which harms nobody; a repair claims it again.
                tracing::warn!(%room, "cannot look after the claim of a room: {error}");
                None
            }
        }
    }

    async fn finish(&self, order: &Order, mut run: Run, record: RecordKey) -> Outcome {
        for bucket in [Records::Rooms, Records::Members] {
            let of = run.landed.iter().filter(|(key, _)| keys::bucket(key) == bucket).map(|(_, revision)| *revision);
            if let Some(last) = of.max() {
                self.caught_up(bucket, last).await;
            }
        }
        run.held = None;
        let revoked: Vec<_> = run.landed.iter().filter(|(key, _)| !matches!(key, RecordKey::Claims(_))).collect();
        let revoked: Vec<_> = revoked
            .into_iter()
            .map(|(record, revision)| Revoked { record: record.clone(), revision: *revision })
            .collect();
        let fence = async {
            let begun = self.pace.now();
            let outcome = if run.must_fence { Some(self.fence.wait_for_revocation(&revoked).await) } else { None };
            (outcome, outcome.map(|_| self.pace.now().saturating_duration_since(begun)).unwrap_or_default())
        };
        let (recorded, (fenced, waited), indexed) =
            futures::join!(self.conclude(order, &run), fence, self.index(order, &run));
        let released = self.release(order, &run).await;
        let marks = [(indexed, Unfinished::Index), (released, Unfinished::Claim), (recorded, Unfinished::Record)];
        let unfinished = marks.into_iter().filter(|(done, _)| !done).map(|(_, what)| what).collect();
        let known = self.state.read(|view| revision_of(view, &record).zip(fetch(view, &record))).ok().flatten();
        let own = run.landed.get(&record).copied().zip(run.values.remove(&record));
        let now = known.into_iter().chain(own).max_by_key(|(revision, _)| *revision);
        let (revision, value) = now.unzip();
        let changed = run.changed || !run.doubts.is_empty();
        Outcome { id: run.id, changed, record, revision, value, written: run.landed, fenced, waited, unfinished }
    }

    /// Brings `rooms_by_member` up to date. What is missing there decides nothing, and is left to a repair.
    async fn index(&self, order: &Order, run: &Run) -> bool {
        let mut done = true;
        for handle in &run.came_or_went {
            if let Err(error) = index::update(&*self.store, handle, &order.room).await {
                tracing::warn!(room = %order.room, "the rooms of a member are left for a repair: {error}");
                done = false;
            }
        }
        done
    }

    /// Writes the second record.
    async fn conclude(&self, order: &Order, run: &Run) -> bool {
        let Some(user) = run.earlier.user.as_ref().filter(|_| run.begun) else { return true };
        let written = run.landed.iter().map(|(key, revision)| (keys::name(key), *revision)).collect();
        let record = order.record(&self.journal, run.id, user, Stage::Done(written));
        match self.journal.append(record).await {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(id = %run.id, "the audit has only the first record of a command that is done: {error}");
                false
            }
        }
    }

    async fn release(&self, order: &Order, run: &Run) -> bool {
        let mut done = true;
        for subject in &run.releases {
            if !self.fence.release_subject(&order.room, subject).await {
                done = false;
                continue;
            }
            let turn = BTreeSet::from([RecordKey::Claims(subject.space())]);
            let _turn = self.queues.enter(turn).await;
            match claiming::release(&*self.store, &order.room, subject).await {
                Ok(Some(revision)) => self.caught_up(Records::Rooms, revision).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(room = %order.room, "an unused claim is left for a repair: {error}");
                    done = false;
                }
            }
        }
        done
    }

    /// What is to be said of a command that did not get to its end, and recorded.
    async fn give_up(&self, order: &Order, run: Run, error: CommandError) -> CommandError {
        let error = run.doubtful(error);
        let stage = match &error {
            CommandError::Refused(refusal) => Stage::Refused(refusal.to_string()),
            CommandError::Unknown { why } => Stage::Unknown(why.clone()),
            other => Stage::Failed(other.to_string()),
        };
        // Who tries what he may not is worth a record; who mistypes a name is not.
        let worth = run.begun || matches!(error, CommandError::Refused(Refusal::Denied(_)));
        if let Some(user) = run.earlier.user.as_ref().filter(|_| worth) {
            let record = order.record(&self.journal, run.id, user, stage);
            if let Err(error) = self.journal.append(record).await {
                tracing::warn!(id = %run.id, "the audit lacks the record of a command that was not done: {error}");
            }
        }
        error
    }

    async fn caught_up(&self, bucket: Records, revision: Revision) {
        // Only a courtesy to whoever comes next: correctness rests on compare-and-set.
        let _ = within(&*self.pace, self.patience.catch_up, self.state.seen(bucket, revision)).await;
    }
}

impl Run {
    /// A write was acknowledged.
    fn landed(&mut self, plan: &Plan, step: &Step, key: RecordKey, revision: Revision) {
        // It took the place of an earlier one at the same revision, which can no longer land.
        if self.doubts.get(&key).is_some_and(|(expected, _)| *expected == step.expected) {
            self.doubts.remove(&key);
        }
        if !step.touch {
            self.changed |= step.was.as_ref() != Some(&step.record);
            self.may_have_changed(plan, step);
            self.values.insert(key.clone(), step.record.clone());
            self.landed.insert(key, revision);
        }
    }

    /// Nobody knows of a write.
    fn doubts(&mut self, plan: &Plan, step: &Step, key: RecordKey, error: StoreError) {
        if !step.touch {
            self.may_have_changed(plan, step);
            self.earlier.attempted.insert(key.clone(), step.record.clone());
            self.doubts.insert(key, (step.expected, error));
        }
    }

    fn may_have_changed(&mut self, plan: &Plan, step: &Step) {
        self.must_fence |= plan.must_fence;
        self.releases.extend(plan.release.clone().filter(|subject| !self.releases.contains(subject)));
        self.came_or_went.extend(step.changes_presence().cloned());
    }

    /// `error`, or that nobody knows where something may have been done, or was done in part.
    fn doubtful(&self, error: CommandError) -> CommandError {
        let doubt = self.doubts.values().next().map(|(_, doubt)| doubt.to_string());
        // A claim alone is nothing that anybody could use or miss.
        let part = || {
            let key = self.landed.keys().find(|key| !matches!(key, RecordKey::Claims(_)))?;
            Some(format!("{} was written, and the rest was not", keys::name(key)))
        };
        match doubt.or_else(part) {
            Some(doubt) => CommandError::Unknown { why: format!("{doubt}; then: {error}") },
            None => error,
        }
    }
}
