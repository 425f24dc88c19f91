//! Exit codes, and how an error is shown.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anyhow::Error;

/// Something the operator gave us is wrong: a flag, a file, a key. Nothing was changed. Exit code 2.
#[derive(Debug)]
pub struct BadInput(String);

impl BadInput {
    /// An [`anyhow::Error`] that ends the process with exit code 2.
    #[expect(clippy::new_ret_no_self, reason = "it is only ever used as an error")]
    pub fn new(message: impl Into<String>) -> Error {
        Error::new(BadInput(message.into()))
    }
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// Some node is not as it should be, and nothing was done about it. Exit code 3; what there is to say has been said.
#[derive(Debug)]
pub struct WouldChange;

impl fmt::Display for WouldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("some node is not as it should be")
    }
}

impl std::error::Error for WouldChange {}

/// The bus is not what it should be, which is what was asked. What there is to say has been said.
#[derive(Debug)]
pub enum NotHealthy {
    /// It works. Exit code 1.
    Degraded,
    /// Nothing proves that any node serves. Exit code 4.
    Denied,
}

impl fmt::Display for NotHealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Degraded => "the bus works, and the cluster is not what it should be",
            Self::Denied => "nothing proves that any node serves",
        })
    }
}

impl std::error::Error for NotHealthy {}

const DENIED: u8 = 4;
const WOULD_CHANGE: u8 = 3;
/// Exit code for usage and bad input; clap uses it too.
const USAGE: u8 = 2;
const FAILED: u8 = 1;

/// The exit code that an error deserves.
pub fn code(error: &Error) -> u8 {
    if error.is::<WouldChange>() {
        return WOULD_CHANGE;
    }
    match error.downcast_ref() {
        Some(NotHealthy::Degraded) => return FAILED,
        Some(NotHealthy::Denied) => return DENIED,
        None => {}
    }
    // A disk that takes no more counts as bad input: files are written all or none, so nothing changed.
    let refused = error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause.downcast_ref::<io::Error>().is_some_and(|io| {
                matches!(
                    io.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                        | io::ErrorKind::ReadOnlyFilesystem
                )
            })
    });
    if refused { USAGE } else { FAILED }
}

/// Whether an error is about what was asked for: nothing was changed.
#[cfg(target_os = "linux")]
pub fn is_refusal(error: &Error) -> bool {
    code(error) == USAGE
}

/// Prints an error with its causes and says how to end.
pub fn report(error: &Error) -> ExitCode {
    if error.is::<WouldChange>() || error.is::<NotHealthy>() {
        return ExitCode::from(code(error));
    }
    errln!("error: {error}");
    for cause in error.chain().skip(1) {
        errln!("  caused by: {cause}");
    }
    ExitCode::from(code(error))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn bad_input_is_recognised_below_context() {
        let error = Err::<(), _>(BadInput::new("no such node")).context("reading the topology").unwrap_err();
        assert_eq!(code(&error), USAGE);
        assert_eq!(code(&anyhow::anyhow!("a node did not answer")), FAILED);
    }

    #[test]
    fn a_bus_that_works_and_one_that_denies_are_told_apart() {
        assert_eq!(code(&Error::new(NotHealthy::Degraded)), FAILED);
        assert_eq!(code(&Error::new(NotHealthy::Denied)), DENIED);
    }

    #[test]
    fn a_full_disk_is_not_an_internal_failure() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(code(&Error::new(full).context("writing ca.key")), USAGE);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(code(&Error::new(denied)), FAILED);
    }
}
