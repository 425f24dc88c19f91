//! The number of a room's key.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use unibus_core::domain::InvalidValue;

/// Number of a room's key: 1 for the first, and one more each time that members agree on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(NonZeroU32);

impl Epoch {
    /// The first.
    pub const FIRST: Epoch = Epoch(NonZeroU32::MIN);

    /// The epoch with this number; 0 is none.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Its number.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The one after it; none: there are no more numbers.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The one before it; none: it is the first.
    pub fn previous(self) -> Option<Self> {
        Self::new(self.get() - 1)
    }

    /// As in frames and contexts: four bytes, most significant first.
    pub(super) fn to_bytes(self) -> [u8; 4] {
        self.get().to_be_bytes()
    }
}

impl FromStr for Epoch {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        // One way to write each number: no sign, no zero in front.
        let epoch = value.parse().ok().map(Self).filter(|epoch: &Self| epoch.to_string() == value);
        epoch.ok_or_else(|| InvalidValue {
            what: "epoch",
            value: value.chars().take(16).collect(),
            rule: "a number from 1 to 4294967295",
        })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_count_from_one_and_are_written_in_one_way() {
        assert_eq!((Epoch::new(0), Epoch::FIRST.previous()), (None, None));
        assert_eq!(Epoch::FIRST.next().and_then(Epoch::previous), Some(Epoch::FIRST));
        assert_eq!("7".parse::<Epoch>().unwrap().get(), 7);
        assert!(["", "0", "07", "+7", "-1", "4294967296", "x"].iter().all(|bad| bad.parse::<Epoch>().is_err()));
        assert_eq!("4294967295".parse::<Epoch>().unwrap().next(), None);
    }
}
