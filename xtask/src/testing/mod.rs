//! Running this workspace's tests: which programs there are, which of them a filter is about, and what came of them.

mod programs;
mod run;
mod select;
mod steps;

pub(crate) use self::programs::{Kind, Program, Suite, suite};
pub(crate) use self::run::{Environment, Tally, run};
pub(crate) use self::select::{Target, matching};
pub(crate) use self::steps::Steps;
