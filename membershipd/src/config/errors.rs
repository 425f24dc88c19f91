//! Configuration mistakes, collected so that the operator sees all of them at once.

use std::fmt;

use serde::Serialize;

/// One setting that cannot be used.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct ConfigError {
    /// The flag, as typed on the command line.
    pub flag: &'static str,
    /// What is wrong with it and on what file or value.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// All mistakes of a configuration; exit code 64.
#[derive(Debug, Default, Serialize)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// Notes a mistake.
    pub fn add(&mut self, flag: &'static str, problem: impl fmt::Display, remedy: impl Into<String>) {
        self.0.push(ConfigError { flag, problem: problem.to_string(), remedy: remedy.into() });
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} mistake{} in the configuration:", if count == 1 { "" } else { "s" })?;
        for error in &self.0 {
            let variable = error.flag.trim_start_matches("--").replace('-', "_").to_uppercase();
            write!(f, "\n  {} (UNIBUS_{variable}): {}\n      remedy: {}", error.flag, error.problem, error.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
