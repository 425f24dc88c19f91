//! Registers that a load test writes and reads, to see whether acknowledged writes survive what is done to the cluster. There is a
//! fixed, small number of them, because nothing is ever purged from the bucket of users, in which they lie.

use serde::{Deserialize, Serialize};
use unibus_core::domain::InvalidValue;
use unibus_core::view::PROBE_PREFIX;

/// Number of registers.
pub const REGISTERS: u8 = 16;
/// Longest value, bytes.
const VALUE_BYTES: usize = 64;

/// Number of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Register(u8);

impl Register {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..REGISTERS).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The key of its entry.
    pub fn key(self) -> String {
        format!("{PROBE_PREFIX}{}", self.0)
    }
}

impl TryFrom<u8> for Register {
    type Error = InvalidValue;

    fn try_from(number: u8) -> Result<Self, InvalidValue> {
        if number < REGISTERS {
            return Ok(Self(number));
        }
        Err(InvalidValue { what: "register", value: number.to_string(), rule: "0 to 15" })
    }
}

impl From<Register> for u8 {
    fn from(register: Register) -> Self {
        register.0
    }
}

/// What a register holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProbeValue(String);

impl ProbeValue {
    /// The value as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProbeValue {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        if (1..=VALUE_BYTES).contains(&value.len()) && value.chars().all(word) {
            return Ok(Self(value));
        }
        Err(InvalidValue { what: "probe value", value, rule: "1 to 64 characters of a-z, 0-9, '.' and '-'" })
    }
}

impl From<ProbeValue> for String {
    fn from(value: ProbeValue) -> Self {
        value.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_fixed_number_of_registers() {
        assert_eq!(Register::all().count(), usize::from(REGISTERS));
        assert!(Register::try_from(REGISTERS).is_err());
        assert_eq!(Register::try_from(15).unwrap().key(), "probe.15");
    }

    #[test]
    fn values_are_short_words() {
        for good in ["a", "0f.3.12", &"a".repeat(64)] {
            assert!(ProbeValue::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "A", "a b", "\n", &"a".repeat(65)] {
            assert!(ProbeValue::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
