//! Breaking a cluster on purpose while it is used, and judging by the history what that came to.

mod faults;
mod history;
mod inject;
mod judge;
mod load;
mod report;
mod run;
mod verdict;

pub(crate) use faults::{Fault, Planned, Victims, schedule};
#[cfg(target_os = "linux")]
pub(crate) use history::Kind;
#[cfg(target_os = "linux")]
pub(crate) use inject::Supervisor;
pub(crate) use inject::{Deed, Fleet, Half, Injector, Shown, Systemd};
pub(crate) use load::{Load, NodeOrder, Orders};
pub(crate) use report::{text, violations};
pub(crate) use run::{Run, bound, known_ills};
#[cfg(target_os = "linux")]
pub(crate) use verdict::Series;
pub(crate) use verdict::Verdict;
