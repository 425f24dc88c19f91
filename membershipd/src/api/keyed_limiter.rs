//! Places for what takes long: so many in all, and so many of one user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::problem::{self, Problem};
use crate::domain::Handle;

/// Who has places.
#[derive(Debug)]
pub(super) struct Slots {
    taken: Arc<Mutex<HashMap<Handle, usize>>>,
    all: usize,
    each: usize,
}

impl Slots {
    /// `all` places, of which one user gets `each` at most.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { taken: Arc::default(), all, each }
    }

    /// A place for `user`, until it is dropped; refused where there is none.
    pub(super) fn take(&self, user: &Handle) -> Result<Slot, Problem> {
        let mut taken = lock(&self.taken);
        if taken.values().sum::<usize>() >= self.all {
            return Err(problem::OVERLOADED.because("too many uploads or downloads at once; try again").soon());
        }
        let own = taken.entry(user.clone()).or_default();
        if *own >= self.each {
            let detail = format!("no more than {} at once; wait for one of yours to end", self.each);
            return Err(problem::RATE_LIMITED.because(detail).soon());
        }
        *own += 1;
        Ok(Slot { taken: self.taken.clone(), user: user.clone() })
    }
}

fn lock(taken: &Mutex<HashMap<Handle, usize>>) -> MutexGuard<'_, HashMap<Handle, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place.
#[derive(Debug)]
pub(super) struct Slot {
    taken: Arc<Mutex<HashMap<Handle, usize>>>,
    user: Handle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(own) = taken.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_what_is_left_is_free() {
        let slots = Slots::new(3, 2);
        let [alice, bob] = ["alice", "bob"].map(|handle| handle.parse().unwrap());
        let held = [slots.take(&alice).unwrap(), slots.take(&alice).unwrap()];
        assert_eq!(slots.take(&alice).unwrap_err().kind, problem::RATE_LIMITED);
        let last = slots.take(&bob).unwrap();
        assert_eq!(slots.take(&bob).unwrap_err().kind, problem::OVERLOADED);
        drop(held);
        assert!(slots.take(&bob).is_ok());
        drop(last);
        assert!(lock(&slots.taken).is_empty(), "nobody is remembered");
    }
}
