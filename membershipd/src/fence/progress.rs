//! How far this process has come: which entries it has applied, and which connections are still being cut for them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use unibus_core::bus::Bucket;

/// A revision of each bucket that decides access; 0: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Positions {
    users: u64,
    rooms: u64,
    members: u64,
}

impl Positions {
    /// One revision of one bucket.
    pub fn of(bucket: Bucket, revision: u64) -> Self {
        let mut positions = Self::default();
        positions.reach(bucket, revision);
        positions
    }

    /// That of `bucket`; 0 for one that decides nothing.
    pub fn get(&self, bucket: Bucket) -> u64 {
        match bucket {
            Bucket::Users => self.users,
            Bucket::Rooms => self.rooms,
            Bucket::Members => self.members,
            _ => 0,
        }
    }

    /// Goes on to `revision`, and never back.
    pub fn reach(&mut self, bucket: Bucket, revision: u64) {
        let position = match bucket {
            Bucket::Users => &mut self.users,
            Bucket::Rooms => &mut self.rooms,
            Bucket::Members => &mut self.members,
            _ => return,
        };
        *position = revision.max(*position);
    }

    /// Whether it is as far as `other` in every bucket.
    pub fn cover(&self, other: &Self) -> bool {
        Bucket::DECIDING.into_iter().all(|bucket| self.get(bucket) >= other.get(bucket))
    }
}

/// What one process has applied, and still has to cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    applied: Positions,
    whole: Positions,
    cutting: BTreeSet<(Bucket, u64)>,
}

impl Progress {
    /// The entry at `revision` is in the view. Where it `cuts`, [`Self::cut`] has to follow.
    pub fn applied(&mut self, bucket: Bucket, revision: u64, cuts: bool) {
        if cuts {
            self.cutting.insert((bucket, revision));
        }
        self.applied.reach(bucket, revision);
    }

    /// Everything that the bucket had when the entry at `revision` was delivered has been delivered. An entry that was replaced
    /// before it could be delivered leaves no gap to be seen, but then what replaced it was still to come.
    pub fn whole(&mut self, bucket: Bucket, revision: u64) {
        self.whole.reach(bucket, revision);
    }

    /// The engine has confirmed that whoever lost something by the entry at `revision` is no longer connected.
    pub fn cut(&mut self, bucket: Bucket, revision: u64) {
        self.cutting.remove(&(bucket, revision));
    }

    /// Up to where everything is applied and everybody concerned is cut: this is what is acknowledged.
    pub fn settled(&self) -> Positions {
        let mut settled = Positions::default();
        for bucket in Bucket::DECIDING {
            let first = self.cutting.iter().find(|(of, _)| *of == bucket);
            let before = first.map_or(u64::MAX, |(_, revision)| revision.saturating_sub(1));
            settled.reach(bucket, self.applied.get(bucket).min(before));
        }
        settled
    }

    /// Up to where the view is.
    pub fn seen(&self) -> Positions {
        self.applied
    }

    /// Up to where nothing can have been passed over.
    pub fn seen_whole(&self) -> Positions {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_acknowledged_past_the_first_cut_that_is_not_confirmed() {
        let mut progress = Progress::default();
        progress.applied(Bucket::Users, 4, false);
        progress.applied(Bucket::Users, 7, true);
        progress.applied(Bucket::Members, 5, true);
        progress.applied(Bucket::Users, 9, true);
        progress.applied(Bucket::Users, 12, false);
        assert_eq!(progress.settled(), Positions { users: 6, rooms: 0, members: 4 });
        progress.cut(Bucket::Users, 9);
        progress.cut(Bucket::Members, 5);
        assert_eq!(progress.settled(), Positions { users: 6, rooms: 0, members: 5 });
        progress.cut(Bucket::Users, 7);
        assert_eq!(progress.settled(), Positions { users: 12, rooms: 0, members: 5 });
    }

    #[test]
    fn positions_cover_what_is_not_further_in_any_bucket() {
        let both = Positions { users: 3, rooms: 0, members: 8 };
        assert!(both.cover(&both) && both.cover(&Positions::default()));
        assert!(both.cover(&Positions::of(Bucket::Members, 8)));
        assert!(!both.cover(&Positions::of(Bucket::Members, 9)) && !both.cover(&Positions::of(Bucket::Rooms, 1)));
        assert_eq!(Positions::of(Bucket::Audit, 7), Positions::default(), "the audit decides nothing");
    }
}
