//! How much of what a room says is kept: what the server allows, and below that what the room's owners choose.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bus;

/// Fewest bytes that a room can be told to keep: room for the largest messages, or one that was just acknowledged would make way.
pub const LEAST_BYTES: u64 = 4 << 20;
/// Most bytes that a server can be told to keep of a room: a third of what all rooms have.
pub const MOST_BYTES: u64 = 1 << 30;
/// Most days that can be said, a century: longer is without end.
pub const MOST_DAYS: u32 = 36_525;

/// What the owners of a room choose; what they leave open is as the server has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Bytes of its messages, with what the store adds to each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Days for which a message is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

impl Keep {
    /// Whether the owners leave both open.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// What is kept of a room: a setting of the server, the same on every node, or what comes of it and of the owners' choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keeping {
    /// Bytes of its messages. Above 110 % of them the oldest make way, until it is 100 %.
    pub bytes: u64,
    /// Days for which a message is kept; none: without end.
    pub days: Option<u32>,
}

impl Keeping {
    /// What a server keeps whose operator says nothing.
    pub const DEFAULT: Self = Self { bytes: bus::HISTORY_ROOM_BYTES, days: None };

    /// What is kept of a room whose owners choose `keep`: never more than the server allows, whatever it allowed when they chose.
    #[must_use]
    pub fn with(self, keep: Keep) -> Self {
        let days = [self.days, keep.days].into_iter().flatten().min();
        Self { bytes: keep.bytes.map_or(self.bytes, |bytes| bytes.min(self.bytes)), days }
    }

    /// Whether owners may choose `keep` on this server.
    pub(super) fn allows(self, keep: Keep) -> bool {
        let bytes = keep.bytes.is_none_or(|bytes| (LEAST_BYTES..=self.bytes).contains(&bytes));
        bytes && keep.days.is_none_or(|days| (1..=self.days.unwrap_or(MOST_DAYS)).contains(&days))
    }
}

impl fmt::Display for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.days.unwrap_or(MOST_DAYS);
        write!(f, "{LEAST_BYTES} to {} bytes, and each message for 1 to {days} days", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Keeping = Keeping { bytes: 10 << 20, days: Some(30) };

    #[test]
    fn owners_choose_within_what_the_server_allows() {
        let of = |bytes, days| SERVER.with(Keep { bytes, days });
        assert_eq!(of(None, None), SERVER);
        assert_eq!(of(Some(5 << 20), Some(7)), Keeping { bytes: 5 << 20, days: Some(7) });
        assert_eq!(of(Some(99 << 20), Some(99)), SERVER, "the operator made it less since");
        let endless = Keeping { days: None, ..SERVER };
        assert_eq!(endless.with(Keep { bytes: None, days: Some(7) }).days, Some(7));

        let allows = |bytes, days| SERVER.allows(Keep { bytes, days });
        assert!(allows(None, None) && allows(Some(LEAST_BYTES), Some(1)) && allows(Some(10 << 20), Some(30)));
        for (bytes, days) in
            [(Some(LEAST_BYTES - 1), None), (Some((10 << 20) + 1), None), (None, Some(0)), (None, Some(31))]
        {
            assert!(!allows(bytes, days), "{bytes:?} {days:?}");
        }
        assert!(endless.allows(Keep { bytes: None, days: Some(MOST_DAYS) }));
    }

    #[test]
    fn what_is_left_open_is_not_written() {
        let keep = Keep { bytes: None, days: Some(7) };
        assert_eq!(serde_json::to_string(&keep).unwrap(), r#"{"days":7}"#);
        assert_eq!(serde_json::from_str::<Keep>(r#"{"days":7}"#).unwrap(), keep);
        for bad in [r#"{"weeks":1}"#, r#"{"days":-1}"#, r#"{"bytes":1.5}"#] {
            assert!(serde_json::from_str::<Keep>(bad).is_err(), "{bad}");
        }
    }
}
