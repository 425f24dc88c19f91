//! How it became certain that no node honours a right that was taken away.

use serde::{Deserialize, Serialize};

/// How it became certain that no node honours a right that was taken away. The API, the SDK, the CLI and the load tests use this
/// one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationOutcome {
    /// Every node that could have honoured the right has said that it does not.
    Acknowledged,
    /// Some nodes did not answer. So much time has passed since that none of them can honour the right.
    WaitedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_both_outcomes() {
        for (outcome, word) in
            [(RevocationOutcome::Acknowledged, "\"acknowledged\""), (RevocationOutcome::WaitedOut, "\"waited_out\"")]
        {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), word);
            assert_eq!(serde_json::from_str::<RevocationOutcome>(word).unwrap(), outcome);
        }
    }
}
