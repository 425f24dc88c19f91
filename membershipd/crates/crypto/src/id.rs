//! Ids of messages: UUIDs that sort by the time at which they were made.

use std::fmt;
use std::str::FromStr;

use unibus_core::domain::InvalidValue;

/// Id of a message: a UUID of version 7 (RFC 9562 section 5.7), which begins with the milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 16]);

/// The two fields that say which kind of UUID it is (RFC 9562 sections 4.1 and 4.2): byte, mask, value.
const MARKS: [(usize, u8, u8); 2] = [(6, 0xf0, 0x70), (8, 0xc0, 0x80)];
/// Where hyphens stand in its text, counted in bytes of the id.
const HYPHENS: [usize; 4] = [4, 6, 8, 10];
const RULE: &str = "a UUID of version 7, in lower case";

impl MessageId {
    /// Made at `unix_ms`, with ten bytes of randomness.
    pub fn new(unix_ms: u64, entropy: [u8; 10]) -> Self {
        let mut id = [0; 16];
        let (time, random) = id.split_at_mut(6);
        let [_, _, low @ ..] = unix_ms.to_be_bytes();
        time.copy_from_slice(&low);
        random.copy_from_slice(&entropy);
        for (at, mask, value) in MARKS {
            if let Some(byte) = id.get_mut(at) {
                *byte = (*byte & !mask) | value;
            }
        }
        Self(id)
    }

    /// The id with these bytes; none: they are no UUID of version 7.
    pub fn from_bytes(id: [u8; 16]) -> Option<Self> {
        let marked = |(at, mask, value): &(usize, u8, u8)| id.get(*at).is_some_and(|byte| byte & mask == *value);
        MARKS.iter().all(marked).then_some(Self(id))
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// When it was made, by the clock of its maker, in milliseconds since 1970.
    pub fn unix_ms(self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The nonce of what is sealed under this id: its last twelve bytes, 74 bits of which are random. The key is that of one
    /// sender in one epoch, so it takes 2^37 messages of one sender within a minute until two are likely to share one.
    pub(super) fn nonce(self) -> [u8; 12] {
        let [_, _, _, _, nonce @ ..] = self.0;
        nonce
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if HYPHENS.contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for MessageId {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let hex: String = value.chars().filter(|c| *c != '-').collect();
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let id = bytes.and_then(Self::from_bytes).filter(|id| id.to_string() == value);
        id.ok_or_else(|| InvalidValue { what: "message id", value: value.chars().take(40).collect(), rule: RULE })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_survive_their_text() {
        // The example of RFC 9562, appendix A.6.
        let id: MessageId = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        assert_eq!(id.unix_ms(), 1_645_557_742_000);
        let again = MessageId::new(id.unix_ms(), id.to_bytes()[6..].try_into().unwrap());
        assert_eq!((again, MessageId::from_bytes(id.to_bytes())), (id, Some(id)));
        assert!(MessageId::new(1, [0xff; 10]) < MessageId::new(2, [0; 10]));
        assert_ne!(MessageId::new(1, [1; 10]).nonce(), MessageId::new(2, [1; 10]).nonce());
    }

    #[test]
    fn other_uuids_and_other_texts_are_refused() {
        let version_4 = "919108f7-52d1-4320-9bac-f847db4148a8";
        let upper = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
        let hyphens = "017f22e279b0-7cc3-98c4-dc0c-0c07398f";
        for bad in ["", "-", version_4, upper, hyphens, "017f22e279b07cc398c4dc0c0c07398f", "ä"] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
        }
        assert_eq!(MessageId::from_bytes([0; 16]), None);
    }
}
