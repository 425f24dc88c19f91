//! Places for what takes long, so many in all and so many of one key: connections by address, transfers by user.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::problem::{Problem, Refuse as _};
use unibus_api_types::problem::Kind;

type Taken<K> = Arc<Mutex<HashMap<K, usize>>>;

/// Limits what is under way at once. Clones count together. A key without a place takes no memory.
#[derive(Debug, Clone)]
pub(super) struct KeyedLimiter<K> {
    taken: Taken<K>,
    all: usize,
    each: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All places are taken.
    All,
    /// The key has this many, which is the most.
    Key(usize),
}

impl<K: Clone + Eq + Hash> KeyedLimiter<K> {
    /// `all` places, of which one key gets `each` at most.
    pub(super) fn new(all: usize, each: usize) -> Self {
        Self { taken: Arc::default(), all, each }
    }

    /// A place for `key`, until it is dropped; refused where there is none.
    pub(super) fn take(&self, key: &K) -> Result<Place<K>, Full> {
        let mut taken = lock(&self.taken);
        if taken.values().sum::<usize>() >= self.all {
            return Err(Full::All);
        }
        let own = taken.entry(key.clone()).or_default();
        if *own >= self.each {
            return Err(Full::Key(self.each));
        }
        *own += 1;
        Ok(Place { taken: self.taken.clone(), key: key.clone() })
    }
}

fn lock<K>(taken: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    taken: Taken<K>,
    key: K,
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(own) = taken.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Kind::OVERLOADED.because("too many uploads or downloads at once; try again").soon(),
            Full::Key(each) => {
                let detail = format!("no more than {each} at once; wait for one of yours to end");
                Kind::RATE_LIMITED.because(detail).soon()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_takes_all_places_and_what_is_given_back_is_free() {
        let limiter = KeyedLimiter::new(3, 2);
        let held = [limiter.take(&"alice").unwrap(), limiter.take(&"alice").unwrap()];
        assert_eq!(limiter.take(&"alice").unwrap_err(), Full::Key(2));
        let last = limiter.clone().take(&"bob").unwrap();
        assert_eq!(limiter.take(&"bob").unwrap_err(), Full::All);
        drop(held);
        assert!(limiter.take(&"bob").is_ok());
        drop(last);
        assert!(lock(&limiter.taken).is_empty(), "no key is remembered");
        assert_eq!(Problem::from(Full::All).kind, Kind::OVERLOADED);
        assert_eq!(Problem::from(Full::Key(2)).kind, Kind::RATE_LIMITED);
    }
}
