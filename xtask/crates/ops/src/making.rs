//! A run that makes key material: what every step of it needs, written at its end as a whole.

use anyhow::Result;
use time::OffsetDateTime;

use crate::fsx::Batch;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::random::Random;
use crate::report::Report;

/// One run. Nothing is on disk before [`Making::finish`], and a second xtask waits until then.
pub struct Making<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) now: OffsetDateTime,
    pub(crate) random: &'a dyn Random,
    /// Files to be written at the end.
    pub batch: Batch,
    /// What became of each file.
    pub report: Report,
    _one_at_a_time: Lock,
}

impl<'a> Making<'a> {
    /// Begins a run, when no other is under way.
    pub fn begin(paths: &'a Paths, now: OffsetDateTime, random: &'a dyn Random) -> Result<Self> {
        let lock = paths.lock()?;
        Ok(Self { paths, now, random, batch: Batch::default(), report: Report::default(), _one_at_a_time: lock })
    }

    /// Writes everything, or nothing.
    pub fn finish(self) -> Result<Report> {
        self.batch.commit()?;
        Ok(self.report)
    }
}
