//! The number that says how a record is to be read.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Version `N` of a kind of record, written as the field `schema`.
///
/// Reading any other number fails, and so does an unknown field: a daemon that meets a record of a newer one refuses it
/// instead of guessing, and a node whose view holds something unreadable has no lease. A change of meaning therefore takes
/// two releases, one that reads both numbers and then, with that on all nodes, one that writes the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Schema<const N: u32>;

impl<const N: u32> Serialize for Schema<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(N)
    }
}

impl<'de, const N: u32> Deserialize<'de> for Schema<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = u64::deserialize(deserializer)?;
        if found == u64::from(N) {
            return Ok(Self);
        }
        Err(D::Error::custom(format!("schema {found} is not known here, only {N}: a newer membershipd wrote it")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_number_is_read() {
        assert_eq!(serde_json::to_string(&Schema::<3>).unwrap(), "3");
        assert!(serde_json::from_str::<Schema<3>>("3").is_ok());
        for bad in ["2", "4", "0", "-3", "3.0", "\"3\"", "null", "99999999999999999999999999", "1e400"] {
            assert!(serde_json::from_str::<Schema<3>>(bad).is_err(), "{bad}");
        }
        let error = serde_json::from_str::<Schema<3>>("4").unwrap_err().to_string();
        assert!(error.contains("schema 4") && error.contains("newer"), "{error}");
    }
}
