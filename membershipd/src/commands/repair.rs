//! What interrupted commands left behind, finished. Safe beside commands that are under way, and safe to repeat.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::{About, CommandId, Decided, Journal, Stage};
use super::fence::{Fence, Revoked};
use super::load::load;
use super::pace::Pace;
use super::state::revision_of;
use super::{claiming, index, keys};
use unibus_core::bus;
use unibus_core::domain::{
    Author, Claims, MemberState, Membership, Record, RecordKey, Records as _, Room, RoomId, RoomRole, RoomState,
    Standing, State, Subject,
};
use unibus_core::view::View;
use unibus_store::{Revision, Store, StoreError};

/// What a repair did. Where all of it is empty there was nothing to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// Rooms that were made but for their owner; whoever made one is in it now.
    pub owned: Vec<RoomId>,
    /// Subjects that their rooms had lost and have again.
    pub claimed: Vec<Subject>,
    /// Subjects that no room used and that are free again.
    pub released: Vec<Subject>,
    /// Ids that were claimed for and of which no room came; they are spent.
    pub never_made: Vec<RoomId>,
    /// Rooms in use whose subject another room has: nobody hears them until they are given another one.
    pub silent: Vec<RoomId>,
    /// Entries of `rooms_by_member` that did not agree with the memberships.
    pub indexed: usize,
    /// How many more of these an answer leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unnamed: usize,
}

impl Repaired {
    /// Of each list, what is named in one answer.
    const NAMED: usize = 500;

    /// The same with lists that are short enough for one answer.
    #[must_use]
    pub fn in_short(mut self) -> Self {
        fn cut<T>(list: &mut Vec<T>) -> usize {
            let more = list.len().saturating_sub(Repaired::NAMED);
            list.truncate(Repaired::NAMED);
            more
        }
        self.unnamed += cut(&mut self.owned) + cut(&mut self.never_made) + cut(&mut self.silent);
        self.unnamed += cut(&mut self.claimed) + cut(&mut self.released);
        self
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Finishes what interrupted commands left behind.
#[derive(Debug)]
pub struct Repair<'a, F> {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The fence, which the end of a claim needs.
    pub fence: &'a F,
    /// Time and chance.
    pub pace: Arc<dyn Pace>,
    /// As whom: root on this node.
    pub by: Author,
    /// Time that a claim must stay unused before it is released; see [`Self::GRACE`].
    pub grace: Duration,
}

impl<F: Fence> Repair<'_, F> {
    /// Longer than any command that makes a room or moves one is between its claim and its room: its budget, and a write.
    pub const GRACE: Duration = bus::STORE_BUDGET.saturating_mul(2).saturating_add(bus::ATTEMPT);

    /// Looks for what there is to do, and does it. After an error it may be done in part; repeating is safe.
    pub async fn run(&self) -> Result<Repaired, StoreError> {
        let journal = Journal::new(self.store.clone(), self.pace.clone());
        let mut repaired = Repaired::default();
        let view = load(&*self.store).await?;
        self.owners(&journal, &view, &mut repaired).await?;
        self.lost_claims(&journal, &view, &mut repaired).await?;
        self.unused_claims(&journal, &view, &mut repaired).await?;
        self.index(&mut repaired).await?;
        Ok(repaired)
    }

    /// Rooms in use that nobody ever was in: their creation ended before its last write. It is made now, as it would have been.
    async fn owners(&self, journal: &Journal, view: &View, repaired: &mut Repaired) -> Result<(), StoreError> {
        for room in view.rooms().filter(|room| room.state == RoomState::Active) {
            let Author::User(maker) = &room.created_by else { continue };
            if view.members(&room.id).next().is_some()
                || view.user(maker).is_none_or(|user| user.state != State::Active)
            {
                continue;
            }
            let about = About { member: Some(maker.clone()), ..self.about("repair.owner", &room.id) };
            let id = self.begun(journal, &about).await?;
            let standing = Standing { role: RoomRole::Owner, state: MemberState::Joined };
            let owner = Membership::new(room.id.clone(), maker.clone(), standing, self.by.clone());
            let Some(written) = self.create(&Record::Membership(owner)).await? else { continue };
            index::update(&*self.store, maker, &room.id).await?;
            journal.end(id, &about, Stage::Done(vec![written])).await?;
            repaired.owned.push(room.id.clone());
        }
        Ok(())
    }

    /// Rooms in use whose subject is not claimed for them: a release crossed a move.
    async fn lost_claims(&self, journal: &Journal, view: &View, repaired: &mut Repaired) -> Result<(), StoreError> {
        for room in view.rooms().filter(|room| room.state == RoomState::Active) {
            if view.holder(&room.subject) == Some(&room.id) {
                continue;
            }
            let about = self.about("repair.claim", &room.id);
            let id = self.begun(journal, &About { with: with(&room.subject), ..about.clone() }).await?;
            if claiming::claim(&*self.store, view.level(), &room.id, &room.subject).await? {
                journal.end(id, &about, Stage::Done(Vec::new())).await?;
                repaired.claimed.push(room.subject.clone());
            } else {
                repaired.silent.push(room.id.clone());
            }
        }
        Ok(())
    }

    /// Claims that no room uses: a creation or a move that was interrupted, or a removal or a move before its release. They
    /// may also belong to a command that is under way, so they are looked at again after a time.
    async fn unused_claims(&self, journal: &Journal, view: &View, repaired: &mut Repaired) -> Result<(), StoreError> {
        let before = unused(view);
        if before.is_empty() {
            return Ok(());
        }
        self.pace.pause(self.grace).await;
        let now = load(&*self.store).await?;
        let still: Vec<_> = unused(&now).intersection(&before).cloned().collect();
        let mut ended = Vec::new();
        for (subject, room) in still {
            let about = self.about("repair.release", &room);
            let id = self.begun(journal, &About { with: with(&subject), ..about }).await?;
            let tombstone = RecordKey::Room(room.clone());
            match revision_of(&now, &tombstone) {
                Some(revision) => ended.push((id, subject, Revoked { record: tombstone, revision })),
                None => {
                    let never = Room::never_made(room.clone(), subject.clone(), self.by.clone());
                    // Where there is a record by now, somebody finished what he began.
                    let Some((_, revision)) = self.create(&Record::Room(never)).await? else { continue };
                    repaired.never_made.push(room);
                    ended.push((id, subject, Revoked { record: tombstone, revision }));
                }
            }
        }
        if ended.is_empty() {
            return Ok(());
        }
        // Whoever moved the room or removed it may have died before the fence.
        let revoked: Vec<_> = ended.iter().map(|(_, _, revoked)| revoked.clone()).collect();
        let _ = self.fence.wait_for_revocation(&revoked).await;
        for (id, subject, Revoked { record, revision }) in ended {
            let RecordKey::Room(room) = &record else { continue };
            if !self.fence.release_subject(room, &subject).await {
                continue;
            }
            if claiming::release(&*self.store, now.level(), room, &subject).await?.is_some() {
                let written = vec![(keys::name(&record), revision)];
                journal.end(id, &self.about("repair.release", room), Stage::Done(written)).await?;
                repaired.released.push(subject);
            }
        }
        Ok(())
    }

    /// `rooms_by_member`, compared with the memberships as they are after all else.
    async fn index(&self, repaired: &mut Repaired) -> Result<(), StoreError> {
        let entries = index::entries(&*self.store).await?;
        let view = load(&*self.store).await?;
        repaired.indexed = index::agree(&*self.store, &entries, &index::wanted(&view)).await?;
        Ok(())
    }

    /// Writes a record that must not be there yet; none: somebody else wrote it.
    async fn create(&self, record: &Record) -> Result<Option<(String, Revision)>, StoreError> {
        let of = record.key();
        match self.store.create(keys::bucket(&of), &keys::key(&of)?, &keys::encode(record)?).await {
            Ok(revision) => Ok(Some((keys::name(&of), revision))),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn begun(&self, journal: &Journal, about: &About) -> Result<CommandId, StoreError> {
        let id = journal.number();
        journal.begin(id, about, Decided { bus: None, room: None }).await?;
        Ok(id)
    }

    /// What the audit says of a repair of `room`.
    fn about(&self, action: &str, room: &RoomId) -> About {
        About { room: Some(room.clone()), ..About::new(self.by.clone(), action) }
    }
}

/// Which subject a repair is about. Only its first record says so.
fn with(subject: &Subject) -> Option<String> {
    Some(format!("subject={subject}"))
}

fn unused(view: &View) -> BTreeSet<(Subject, RoomId)> {
    let of =
        |claims: &Claims| claims.unused(|id| view.room(id)).map(|(s, id)| (s.clone(), id.clone())).collect::<Vec<_>>();
    view.all_claims().flat_map(of).collect()
}
