//! What a connection was given, kept small: a set to compare with, not to read.

use std::hash::{BuildHasher, RandomState};

use unibus_core::domain::{Action, Handle, MemberState, Permissions, Records, Resource, User, decide, decide_each};
use unibus_core::view::View;

/// The rights that a connection carries.
///
/// Each is 8 bytes of a keyed hash: the subjects of some rooms for each of 10,000 connections would take as much memory as
/// the whole view. The key is this process's own, so nobody can look for two names that are taken for each other, and by
/// chance it happens to one pair in 2^64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// In order, each once.
    rights: Box<[u64]>,
    /// What is denied in spite of them, beside queue groups: to join one is a right like another.
    denied: u64,
}

impl Grant {
    /// What `user` has by `permissions`, and by what the engine does not see: to have come with his key, and to write in clear
    /// and unsigned. Whoever may no longer do that learns it by being cut.
    pub(super) fn of(user: &User, permissions: &Permissions, view: &View, hash: &RandomState) -> Self {
        let Permissions { publish, subscribe } = permissions;
        let mut rights = vec![hash.hash_one(("key", user.sign_pub))];
        rights.extend(publish.allow.iter().map(|subject| hash.hash_one(("publish", subject))));
        rights.extend(subscribe.allow.iter().map(|subject| hash.hash_one(("subscribe", subject))));
        let (queued, denied) = permissions.queued();
        rights.extend(queued.map(|subject| hash.hash_one(("queue", subject))));
        let joined = view.memberships(&user.handle).filter(|m| m.state == MemberState::Joined);
        for room in joined.filter_map(|m| view.room(&m.room)) {
            let subject = Resource::Subject(&room.id, &room.subject);
            let decisions = decide_each(Some(user), [Action::PublishClear, Action::PublishUnsigned], subject, view);
            for (decision, name) in decisions.into_iter().zip(["clear", "unsigned"]) {
                if decision.is_allow() {
                    rights.push(hash.hash_one((name, &room.id)));
                }
            }
        }
        rights.sort_unstable();
        rights.dedup();
        Self { rights: rights.into(), denied: hash.hash_one((&publish.deny, denied.collect::<Vec<_>>())) }
    }

    /// What a user would be admitted with now; none: he would not be.
    pub(super) fn now(handle: &Handle, view: &View, hash: &RandomState) -> Option<Self> {
        let key = view.user(handle)?.sign_pub;
        let user = view.user_of_key(&key).filter(|user| user.handle == *handle)?;
        let admitted = decide(Some(user), Action::Connect, Resource::Bus, view).is_allow();
        admitted.then(|| Self::of(user, &Permissions::of(user, view), view, hash))
    }

    /// Whether it has all that `other` has.
    pub(super) fn covers(&self, other: &Grant) -> bool {
        self.denied == other.denied && other.rights.iter().all(|right| self.rights.binary_search(right).is_ok())
    }
}
