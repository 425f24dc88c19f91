//! The feature level of a cluster: what all of its nodes agree to do in the new way. It only ever rises, by a step of the operator.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::schema::Schema;

/// A feature level. What a level adds is done only once the cluster is at it, since older releases cannot do it; they cannot read
/// the entry either, and stay out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum FeatureLevel {
    /// As in release 0.1.0: streams capture what members say. No entry means this level.
    #[default]
    Captured,
    /// Daemons keep the history, and the claims of subjects are in small documents.
    Kept,
}

impl FeatureLevel {
    /// Every level there is, lowest first.
    pub const ALL: [Self; 2] = [Self::Captured, Self::Kept];

    /// The highest level that this release can do. While what a level adds is not complete it is above this one.
    pub const HIGHEST: Self = Self::Kept;

    /// The number of the level, in entries and for people.
    pub const fn number(self) -> u32 {
        match self {
            Self::Captured => 1,
            Self::Kept => 2,
        }
    }

    /// The highest level that this program can do: [`Self::HIGHEST`], or in a fault build what `UNIBUS_HIGHEST_LEVEL` says.
    pub fn highest() -> Self {
        Self::assumed().unwrap_or(Self::HIGHEST)
    }

    fn assumed() -> Option<Self> {
        #[cfg(any(test, feature = "test-support"))]
        if let Some(level) = test_support::ASSUMED.get() {
            return Some(level);
        }
        #[cfg(feature = "fault-injection")]
        if let Ok(number) = std::env::var("UNIBUS_HIGHEST_LEVEL") {
            return Self::try_from(number.parse::<u32>().ok()?).ok();
        }
        None
    }

    /// Makes [`Self::highest`] return this level on the thread of this test.
    #[cfg(any(test, feature = "test-support"))]
    pub fn assume_highest(self) {
        test_support::ASSUMED.set(Some(self));
    }

    /// Fails where this program cannot do what the level demands; the error says what to do.
    pub fn check_known(self) -> Result<(), UnknownLevel> {
        if self <= Self::highest() { Ok(()) } else { Err(UnknownLevel { found: self.number() }) }
    }
}

#[cfg(any(test, feature = "test-support"))]
mod test_support {
    use std::cell::Cell;

    use super::FeatureLevel;

    thread_local! {
        pub(super) static ASSUMED: Cell<Option<FeatureLevel>> = const { Cell::new(None) };
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// The cluster is at a level that this program cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster is at feature level {found} and this release can do {highest} at most, so this node stays out; install the \
     release of the other nodes here: a level is never lowered",
    highest = FeatureLevel::highest()
)]
pub struct UnknownLevel {
    found: u32,
}

impl From<FeatureLevel> for u32 {
    fn from(level: FeatureLevel) -> Self {
        level.number()
    }
}

impl TryFrom<u32> for FeatureLevel {
    type Error = UnknownLevel;

    fn try_from(number: u32) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|level| level.number() == number).ok_or(UnknownLevel { found: number })
    }
}

/// The entry that says at which level the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelRecord {
    schema: Schema<1>,
    /// The level.
    pub level: FeatureLevel,
}

impl LevelRecord {
    /// The entry of a cluster at `level`.
    pub fn new(level: FeatureLevel) -> Self {
        Self { schema: Schema, level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_reads_as_it_was_written() {
        let golden = r#"{"schema":1,"level":2}"#;
        assert_eq!(serde_json::to_string(&LevelRecord::new(FeatureLevel::Kept)).unwrap(), golden);
        assert_eq!(serde_json::from_str::<LevelRecord>(golden).unwrap().level, FeatureLevel::Kept);
        for bad in [r#"{"level":2}"#, r#"{"schema":2,"level":2}"#, r#"{"schema":1,"level":2,"more":1}"#, "{}", "2"] {
            assert!(serde_json::from_str::<LevelRecord>(bad).is_err(), "{bad}");
        }
        let newer = serde_json::from_str::<LevelRecord>(r#"{"schema":1,"level":3}"#).unwrap_err().to_string();
        assert!(newer.contains("feature level 3") && newer.contains("install the release"), "{newer}");
    }

    #[test]
    fn levels_rise_in_the_order_of_their_numbers() {
        assert!(FeatureLevel::ALL.is_sorted() && FeatureLevel::ALL.is_sorted_by_key(|level| level.number()));
        assert_eq!(FeatureLevel::default().number(), 1, "no entry");
        for level in FeatureLevel::ALL {
            assert_eq!(FeatureLevel::try_from(level.number()), Ok(level));
        }
    }

    #[test]
    fn a_release_cannot_do_what_is_not_complete() {
        assert_eq!(FeatureLevel::Captured.check_known(), Ok(()));
        assert_eq!(FeatureLevel::Kept.check_known().is_ok(), FeatureLevel::HIGHEST == FeatureLevel::Kept);
    }
}
