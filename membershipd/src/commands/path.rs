//! The one path of every change: plan, lock, authorize, begin in the audit, compare-and-set, end in the audit, wait for revocation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::audit::{CommandId, Decided, Journal, Stage};
use super::change::Change;
use super::done::{Done, Patience, Unfinished, Wrote};
use super::error::CommandError;
use super::fence::{Fence, Revoked};
use super::keys::{self, Address};
use super::pace::{Pace, back_off, within};
use super::plan::{Earlier, Plan, Step, StepKind, Value};
use super::record_locks::{RecordLockGuard, RecordLocks};
use super::state::State;
use super::{claiming, index};
use crate::config::Hourly;
use unibus_core::domain::{ClaimsKey, Handle, Record, RecordKey, RoomId, Subject};
use unibus_store::{Records, Revision, Standing, Store, StoreError};

/// Carries changes out.
#[derive(Debug)]
pub struct Commands {
    store: Arc<dyn Store>,
    state: Arc<dyn State>,
    /// None: this process alone has the store, and no client is served from it.
    fence: Option<Arc<dyn Fence>>,
    journal: Arc<Journal>,
    pace: Arc<dyn Pace>,
    patience: Patience,
    locks: RecordLocks,
}

/// A change under way.
struct Run {
    id: CommandId,
    deadline: Instant,
    catch_up: Duration,
    attempt: u32,
    earlier: Earlier,
    held: Option<RecordLockGuard>,
    /// Its first record is in the audit.
    begun: bool,
    changed: bool,
    /// Writes of unknown outcome: at which revision, and what the store said.
    doubts: BTreeMap<Address, (Option<Revision>, StoreError)>,
    written: BTreeMap<Address, Wrote>,
    must_fence: bool,
    releases: Vec<(RoomId, Subject)>,
    came_or_went: BTreeSet<(Handle, RoomId)>,
}

/// How the writes of an attempt ended.
enum Written {
    All,
    /// Another change was made to this entry first, or the outcome is unknown.
    Again(Address),
}

impl Commands {
    /// Decides on `state`, writes to `store` and passes `fence`.
    pub fn new(
        store: Arc<dyn Store>,
        state: impl State + 'static,
        fence: impl Fence + 'static,
        pace: Arc<dyn Pace>,
        patience: Patience,
    ) -> Self {
        Self { fence: Some(Arc::new(fence)), ..Self::offline(store, state, pace, patience) }
    }

    /// The same on a store that this process alone has, and from which no client is served: no revocation is waited for.
    pub fn offline(
        store: Arc<dyn Store>,
        state: impl State + 'static,
        pace: Arc<dyn Pace>,
        patience: Patience,
    ) -> Self {
        let journal = Arc::new(Journal::new(store.clone(), pace.clone()));
        Self { store, state: Arc::new(state), fence: None, journal, pace, patience, locks: RecordLocks::default() }
    }

    /// The same, where of what is denied so much has a record each as `hourly` says.
    #[must_use]
    pub fn recording(self, hourly: &Hourly) -> Self {
        let journal = Arc::new(Journal::recording(self.store.clone(), self.pace.clone(), hourly));
        Self { journal, ..self }
    }

    /// The way into the audit log, for what is no change of the store.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What it decides on.
    pub fn state(&self) -> &dyn State {
        &*self.state
    }

    /// What it writes to.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Carries a change out. Takes the budget, one write and the fence at most; where a plan reads
    /// the store, as those of invites and keys do, each reading may take the budget as well.
    pub(crate) async fn carry_out<C: Change>(&self, change: &C) -> Result<Done<C::Found>, C::Error> {
        let mut run = Run {
            id: self.journal.number(),
            deadline: self.pace.now() + self.patience.budget,
            catch_up: C::CATCH_UP.unwrap_or(self.patience.catch_up),
            attempt: 0,
            earlier: Earlier::default(),
            held: None,
            begun: false,
            changed: false,
            doubts: BTreeMap::new(),
            written: BTreeMap::new(),
            must_fence: false,
            releases: Vec::new(),
            came_or_went: BTreeSet::new(),
        };
        let awaited = self.state.read(|view| change.awaits(view)).map_err(|error| change.failed(error.into()))?;
        if let Some((bucket, revision)) = awaited {
            self.caught_up(bucket, revision, run.catch_up).await;
        }
        match self.attempts(change, &mut run).await {
            Ok(plan) => Ok(self.finish(change, run, plan).await),
            Err(error) => Err(self.abort(change, run, error).await),
        }
    }

    /// Attempts until everything is written. Returns the last plan.
    async fn attempts<C: Change>(&self, change: &C, run: &mut Run) -> Result<Plan<C::Found>, C::Error> {
        if let Some(decided) = change.announced() {
            self.begin(change, run, decided).await?;
        }
        loop {
            // The first look says what to lock. One look more follows the wait for the lock, and one the wait for the audit: the
            // last one authorizes, under the lock, and nothing comes between it and the first write.
            let plan = change.plan(self, &mut run.earlier).await?;
            if let Some((record, revision)) = plan.confirmed.clone() {
                run.doubts.remove(&plan.about);
                run.changed = true;
                let wrote = Wrote { revision, record: Some(record), kind: StepKind::Change };
                run.written.insert(plan.about.clone(), wrote);
            }
            let Some(first) = plan.steps.first().map(|step| step.address.clone()) else { return Ok(plan) };
            let addresses = plan.addresses();
            if run.held.as_ref().is_none_or(|held| !held.covers(&addresses)) {
                run.held = None;
                let left = run.deadline.saturating_duration_since(self.pace.now());
                let turn = within(&*self.pace, left, self.locks.lock(addresses)).await;
                run.held = Some(turn.ok_or_else(|| change.failed(CommandError::Contended(first)))?);
                continue;
            }
            if !run.begun {
                self.begin(change, run, plan.decided).await?;
                if run.begun {
                    continue;
                }
            }
            let again = match self.write::<C>(&plan, run).await.map_err(|error| change.failed(error))? {
                Written::Again(address) => address,
                Written::All => match self.lost_claim(&plan, run).await {
                    Some(address) => address,
                    None => return Ok(plan),
                },
            };
            run.attempt = run.attempt.saturating_add(1);
            if self.pace.now() >= run.deadline {
                return Err(change.failed(CommandError::Contended(again)));
            }
            self.pace.pause(back_off(&*self.pace, self.patience.pause, run.attempt)).await;
        }
    }

    /// Writes the first record, of what is audited.
    async fn begin<C: Change>(&self, change: &C, run: &mut Run, decided: Decided) -> Result<(), C::Error> {
        let Some(about) = change.about(&run.earlier) else { return Ok(()) };
        // Whether it is there or not where this fails: nothing else has happened.
        self.journal.begin(run.id, &about, decided).await.map_err(|error| change.failed(CommandError::Audit(error)))?;
        run.begun = true;
        Ok(())
    }

    /// Makes the writes of an attempt, as far as no other change comes in between.
    async fn write<C: Change>(&self, plan: &Plan<C::Found>, run: &mut Run) -> Result<Written, CommandError> {
        for (number, step) in plan.steps.iter().enumerate() {
            if number > 0 && !self.state.read(|view| plan.stands(view, number))? {
                return Ok(Written::Again(step.address.clone()));
            }
            match self.put(step).await {
                Ok(revision) => run.landed(plan, step, revision),
                Err(StoreError::Conflict { current, .. }) => {
                    if let Standing::At(revision) = current {
                        self.caught_up(step.address.bucket, revision, run.catch_up).await;
                    }
                    return Ok(Written::Again(step.address.clone()));
                }
                Err(error @ StoreError::Unknown { .. }) if C::RETRIES_UNKNOWN => {
                    run.doubts(plan, step, error);
                    return Ok(Written::Again(step.address.clone()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Written::All)
    }

    async fn put(&self, step: &Step) -> Result<Revision, StoreError> {
        let Address { bucket, key } = &step.address;
        let value = match &step.value {
            Value::Record(record) => &keys::encode(record)?,
            Value::Json(value) => value,
        };
        match step.expected {
            Some(expected) => self.store.update(*bucket, key, value, expected).await,
            None => self.store.create(*bucket, key, value).await,
        }
    }

    /// The document in which the claim of a room in use is missing, once its record is written: a release may have crossed it.
    async fn lost_claim<T>(&self, plan: &Plan<T>, run: &Run) -> Option<Address> {
        let (room, subject) = plan.room_in_use()?;
        // Without a lease it is as where the store does not answer.
        let level = self.state.read(|view| view.level()).ok()?;
        match claiming::is_held(&*self.store, level, room, subject).await {
            Ok(Err(revision)) => {
                if let Some(revision) = revision {
                    self.caught_up(Records::Rooms, revision, run.catch_up).await;
                }
                Address::of(&RecordKey::Claims(ClaimsKey::deciding(subject, level))).ok()
            }
            Ok(Ok(())) => None,
            Err(error) => {
                // Without its claim the room is silent, which does no harm; a repair claims it again.
                tracing::warn!(%room, "cannot look after the claim of a room: {error}");
                None
            }
        }
    }

    async fn finish<C: Change>(&self, change: &C, mut run: Run, plan: Plan<C::Found>) -> Done<C::Found> {
        let held = run.held.take();
        let written = std::mem::take(&mut run.written);
        let caught_up = async {
            for bucket in Records::DECIDING {
                let of = written.iter().filter(|(address, _)| address.bucket == bucket);
                if let Some(last) = of.map(|(_, wrote)| wrote.revision).max() {
                    self.caught_up(bucket, last, run.catch_up).await;
                }
            }
            // Who comes next sees what was written.
            drop(held);
        };
        let revocation = async {
            let (Some(fence), true) = (&self.fence, run.must_fence) else { return (None, Duration::ZERO) };
            let records = written.values().filter_map(|wrote| Some((wrote.revision, wrote.record.as_ref()?.key())));
            let records = records.filter(|(_, record)| !matches!(record, RecordKey::Claims(_)));
            let revoked: Vec<_> = records.map(|(revision, record)| Revoked { record, revision }).collect();
            let begun = self.pace.now();
            let outcome = fence.wait_for_revocation(&revoked).await;
            (Some(outcome), self.pace.now().saturating_duration_since(begun))
        };
        let done = Done {
            id: run.id,
            changed: run.changed || !run.doubts.is_empty(),
            revision: written.get(&plan.about).map(|wrote| wrote.revision).or(plan.at),
            found: plan.found,
            about: plan.about,
            written: written.clone(),
            fenced: None,
            waited: Duration::ZERO,
            unfinished: Vec::new(),
        };
        let ((fenced, waited), indexed, ()) = futures::join!(revocation, self.index(&run), caught_up);
        // Only now, since `done` says that no node honours what was taken away.
        let recorded = self.end(change, &run, &done).await;
        let released = self.release(&run).await;
        let marks = [(indexed, Unfinished::Index), (released, Unfinished::Claim), (recorded, Unfinished::Record)];
        let unfinished = marks.into_iter().filter(|(done, _)| !done).map(|(_, what)| what).collect();
        Done { fenced, waited, unfinished, ..done }
    }

    /// Writes the last record of a change that is done.
    async fn end<C: Change>(&self, change: &C, run: &Run, done: &Done<C::Found>) -> bool {
        let Some(about) = change.about(&run.earlier).filter(|_| run.begun) else { return true };
        self.journal.end(run.id, &about, Stage::Done(done.names())).await.is_ok()
    }

    /// Brings `rooms_by_member` up to date. What is missing there decides nothing, and is left to a repair.
    async fn index(&self, run: &Run) -> bool {
        let mut done = true;
        for (handle, room) in &run.came_or_went {
            if let Err(error) = index::update(&*self.store, handle, room).await {
                tracing::warn!(%room, "the rooms of a member are left for a repair: {error}");
                done = false;
            }
        }
        done
    }

    async fn release(&self, run: &Run) -> bool {
        let mut done = true;
        for (room, subject) in &run.releases {
            if let Some(fence) = &self.fence
                && !fence.release_subject(room, subject).await
            {
                done = false;
                continue;
            }
            let Ok(level) = self.state.read(|view| view.level()) else {
                done = false;
                continue;
            };
            let claims = Address::of(&RecordKey::Claims(ClaimsKey::deciding(subject, level)));
            let _turn = self.locks.lock(claims.into_iter().collect()).await;
            match claiming::release(&*self.store, level, room, subject).await {
                Ok(Some(revision)) => self.caught_up(Records::Rooms, revision, run.catch_up).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%room, "an unused claim is left for a repair: {error}");
                    done = false;
                }
            }
        }
        done
    }

    /// What is to be said of a change that did not get to its end, and recorded.
    async fn abort<C: Change>(&self, change: &C, run: Run, error: C::Error) -> C::Error {
        let error = match run.in_doubt() {
            Some(doubt) => change.failed(CommandError::Unknown { why: format!("{doubt}; then: {error}") }),
            None => error,
        };
        let stage = change.stage(&error);
        match change.about(&run.earlier) {
            // That it is missing is logged, and what was not done stays so.
            Some(about) if run.begun => drop(self.journal.end(run.id, &about, stage).await),
            Some(about) if change.is_denied(&error) => self.journal.deny(run.id, &about, stage, None).await,
            _ => {}
        }
        error
    }

    async fn caught_up(&self, bucket: Records, revision: Revision, time: Duration) {
        // Only a courtesy to what comes next: correctness rests on compare-and-set. What no view holds is never seen in one.
        if Records::DECIDING.contains(&bucket) {
            let _ = within(&*self.pace, time, self.state.seen(bucket, revision)).await;
        }
    }
}

impl Run {
    /// A write was acknowledged.
    fn landed<T>(&mut self, plan: &Plan<T>, step: &Step, revision: Revision) {
        // It took the place of an earlier one at the same revision, which can no longer land.
        if self.doubts.get(&step.address).is_some_and(|(expected, _)| *expected == step.expected) {
            self.doubts.remove(&step.address);
        }
        if step.kind == StepKind::Touch {
            return;
        }
        self.changed |= step.changes();
        self.may_have_changed(plan, step);
        let wrote = Wrote { revision, record: step.to_record().cloned(), kind: step.kind };
        self.written.insert(step.address.clone(), wrote);
    }

    /// The outcome of a write is unknown.
    fn doubts<T>(&mut self, plan: &Plan<T>, step: &Step, error: StoreError) {
        if step.kind != StepKind::Touch {
            self.may_have_changed(plan, step);
            if let Some(record) = step.to_record() {
                self.earlier.attempted.insert(record.key(), record.clone());
            }
            self.doubts.insert(step.address.clone(), (step.expected, error));
        }
    }

    fn may_have_changed<T>(&mut self, plan: &Plan<T>, step: &Step) {
        self.must_fence |= plan.must_fence;
        self.releases.extend(plan.release.clone().filter(|release| !self.releases.contains(release)));
        self.came_or_went.extend(step.changes_presence());
    }

    /// Why it is unknown whether something was done, or was done in part; none: it certainly was not.
    fn in_doubt(&self) -> Option<String> {
        let doubt = self.doubts.values().next().map(|(_, doubt)| doubt.to_string());
        // A claim alone is nothing that a client could use or miss.
        let is_part = |wrote: &Wrote| !matches!(&wrote.record, None | Some(Record::Claims(_)));
        let part = || {
            let (address, _) = self.written.iter().find(|(_, wrote)| is_part(wrote))?;
            Some(format!("{address} was written, and the rest was not"))
        };
        doubt.or_else(part)
    }
}
