//! Safeguards that a test build can switch off, to prove that a test would notice their absence.
//!
//! Without the cargo feature `fault-injection` every question is answered with a constant `false` and the environment is
//! not read.

/// A safeguard that is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The lease counts as valid whatever the heartbeats say.
    NoLease,
    /// Signatures of connecting clients are not verified.
    NoSignatureCheck,
    /// Permission blocks are left empty, which the engine reads as 'everything'.
    NoExplicitDeny,
    /// Postures that the start guards refuse are started.
    NoStartGuards,
    /// The wall clock is reported ten seconds ahead.
    ClockAhead,
    /// No connection is ever cut, and every cut is reported as done.
    NoKick,
    /// A write is acknowledged first and sent afterwards, once, whatever becomes of it; so is what is said in a room.
    AckBeforeWrite,
}

impl Fault {
    const ALL: [(Fault, &'static str); 7] = [
        (Fault::NoLease, "no-lease"),
        (Fault::NoSignatureCheck, "no-signature-check"),
        (Fault::NoExplicitDeny, "no-explicit-deny"),
        (Fault::NoStartGuards, "no-start-guards"),
        (Fault::ClockAhead, "clock-ahead"),
        (Fault::NoKick, "no-kick"),
        (Fault::AckBeforeWrite, "ack-before-write"),
    ];

    /// Whether this safeguard is off in this process.
    #[cfg(feature = "fault-injection")]
    pub fn active(self) -> bool {
        std::env::var("UNIBUS_FAULT").is_ok_and(|v| v.split(',').any(|name| Self::ALL.contains(&(self, name.trim()))))
    }

    /// Whether this safeguard is off in this process.
    #[cfg(not(feature = "fault-injection"))]
    pub const fn active(self) -> bool {
        false
    }

    /// Names of all that is switched off, for the posture.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|(fault, _)| fault.active()).map(|(_, name)| name).collect()
    }
}

/// Version as shown by `--version` and the posture; a test build says so.
pub const VERSION: &str = if cfg!(feature = "fault-injection") {
    concat!(env!("CARGO_PKG_VERSION"), "+faults")
} else {
    env!("CARGO_PKG_VERSION")
};
