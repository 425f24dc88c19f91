//! The admitted connections of this node's engine, by id and by user.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::ConnectionId;
use super::grant::Grant;
use unibus_core::domain::Handle;

/// An admitted connection.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Whose connection, and its rights; none where nothing is authenticated.
    pub(super) holder: Option<Holder>,
    /// When it was admitted.
    pub(super) since: Instant,
}

/// Whose a connection is, and what it may.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    /// Whose.
    pub(super) handle: Handle,
    /// What the engine was told, for as long as the connection lives.
    pub(super) given: Arc<Grant>,
    /// What the user was known to be allowed when this connection was last looked at.
    pub(super) known: Arc<Grant>,
    /// When it was first found to have less than its user; none: it has as much, or was not looked at since.
    pub(super) behind: Option<Instant>,
}

impl Holder {
    /// A connection of `handle` that was given all that it may have now.
    pub(super) fn new(handle: Handle, given: Grant) -> Self {
        let given = Arc::new(given);
        Self { handle, known: given.clone(), given, behind: None }
    }

    /// Whether the user is allowed what this connection is not.
    pub(super) fn is_behind(&self) -> bool {
        !Arc::ptr_eq(&self.given, &self.known) && !self.given.covers(&self.known)
    }
}

/// All of them. Invariant: each connection with a holder stands in the list of its handle.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    by_id: HashMap<ConnectionId, Admitted>,
    by_handle: HashMap<Handle, Vec<ConnectionId>>,
}

impl Admissions {
    /// Records a connection, in the place of one with the same id.
    pub(super) fn insert(&mut self, id: ConnectionId, admitted: Admitted) {
        self.remove(id);
        if let Some(holder) = &admitted.holder {
            self.by_handle.entry(holder.handle.clone()).or_default().push(id);
        }
        self.by_id.insert(id, admitted);
    }

    /// A recorded connection.
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Admitted> {
        self.by_id.get(&id)
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        let Some(Admitted { holder: Some(holder), .. }) = self.by_id.remove(&id) else { return };
        if let Some(ids) = self.by_handle.get_mut(&holder.handle) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_handle.remove(&holder.handle);
            }
        }
    }

    /// Forgets all that `keep` does not want.
    pub(super) fn retain(&mut self, keep: impl Fn(ConnectionId, &Admitted) -> bool) {
        let gone: Vec<_> =
            self.by_id.iter().filter(|(id, admitted)| !keep(**id, admitted)).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Ids of all.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.by_id.keys().copied()
    }

    /// Handles of all who have a connection.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.by_handle.keys()
    }

    /// Whether somebody has a connection.
    pub(super) fn has(&self, handle: &Handle) -> bool {
        self.by_handle.contains_key(handle)
    }

    /// Shows each connection with a holder to `look`.
    pub(super) fn each(&mut self, mut look: impl FnMut(ConnectionId, &mut Holder)) {
        for (id, admitted) in &mut self.by_id {
            if let Some(holder) = &mut admitted.holder {
                look(*id, holder);
            }
        }
    }

    /// How many connections `handle` has.
    pub(super) fn count(&self, handle: &Handle) -> u64 {
        self.by_handle.get(handle).map_or(0, |ids| u64::try_from(ids.len()).unwrap_or(u64::MAX))
    }

    /// Shows each connection of `handle` to `look`.
    pub(super) fn each_of(&mut self, handle: &Handle, mut look: impl FnMut(ConnectionId, &mut Holder)) {
        for id in self.by_handle.get(handle).into_iter().flatten() {
            if let Some(Admitted { holder: Some(holder), .. }) = self.by_id.get_mut(id) {
                look(*id, holder);
            }
        }
    }
}
