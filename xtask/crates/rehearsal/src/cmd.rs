//! One module a verb, each with its `Args` and a `run`.

pub(crate) mod chaos;
#[cfg(target_os = "linux")]
pub(crate) mod fleet;
pub(crate) mod rehearse;
