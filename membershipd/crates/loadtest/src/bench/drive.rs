//! A closed loop: so many workers, each with one operation under way, for so long; and how long the operations took.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

/// What was measured.
#[derive(Debug)]
pub struct Measured {
    /// Operations.
    count: usize,
    /// How long each operation took, or each of several together, in no order.
    took: Vec<Duration>,
    /// How long all of it took.
    elapsed: Duration,
}

impl Measured {
    /// Nothing yet.
    pub(super) const fn none() -> Self {
        Self { count: 0, took: Vec::new(), elapsed: Duration::ZERO }
    }

    /// One operation more, which nothing else was under way beside.
    pub(super) fn note(&mut self, took: Duration) {
        self.count += 1;
        self.took.push(took);
        self.elapsed += took;
    }

    /// How long several operations took that were begun together, and are counted elsewhere.
    pub(super) fn took(&mut self, took: Duration) {
        self.took.push(took);
    }

    /// The same, of so many operations in this time.
    pub(super) fn of(self, count: usize, elapsed: Duration) -> Self {
        Self { count, elapsed, ..self }
    }

    /// Operations.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Operations a second.
    #[expect(clippy::cast_precision_loss, reason = "nobody measures 2^52 operations")]
    pub fn per_second(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.count as f64 / self.elapsed.as_secs_f64() }
    }

    /// The time that so many of a hundred operations did not exceed; none: there were no operations.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut took = self.took.clone();
        took.sort_unstable();
        took.get((took.len() * percent / 100).min(took.len().checked_sub(1)?)).copied()
    }
}

impl AddAssign for Measured {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.took.extend(other.took);
        self.elapsed += other.elapsed;
    }
}

/// Whether a worker has more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It has.
    More,
    /// What there was to do is done, and nothing was this time: all end.
    Enough,
}

/// Lets `workers` repeat `operation`, which is told the number of its worker, for `time`. The first failure ends it: a figure
/// with failures in it compares nothing.
pub(super) async fn by_the_second<F: Future<Output = Result<Next>>>(
    workers: usize,
    time: Duration,
    operation: impl Fn(usize) -> F,
) -> Result<Measured> {
    let begun = Instant::now();
    let (operation, over) = (&operation, &AtomicBool::new(false));
    let work = |worker| async move {
        let mut took = Vec::new();
        while begun.elapsed() < time && !over.load(Ordering::Relaxed) {
            let since = Instant::now();
            let next =
                operation(worker).await.with_context(|| format!("operation {} of worker {worker}", took.len()))?;
            match next {
                Next::More => took.push(since.elapsed()),
                Next::Enough => over.store(true, Ordering::Relaxed),
            }
        }
        anyhow::Ok(took)
    };
    let took: Vec<Duration> = try_join_all((0..workers).map(work)).await?.into_iter().flatten().collect();
    ensure!(!took.is_empty(), "not one operation in {} ms: give it more --seconds", time.as_millis());
    Ok(Measured { count: took.len(), took, elapsed: begun.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_adds_up() {
        let mut all = Measured::none();
        assert_eq!((all.percentile(50), all.per_second()), (None, 0.0));
        for ms in 1..=100 {
            all.note(Duration::from_millis(ms));
        }
        let at = |percent| all.percentile(percent).unwrap().as_millis();
        assert_eq!((at(0), at(50), at(99), at(100)), (1, 51, 100, 100));
        let rate = all.per_second();
        all += Measured { count: 1, took: vec![Duration::ZERO], elapsed: Duration::from_secs(5) };
        assert_eq!(all.count(), 101);
        assert!(all.per_second() < rate);
    }

    #[tokio::test]
    async fn the_first_failure_is_told_and_nothing_in_no_time_is_one() {
        let failing = by_the_second(2, Duration::from_secs(5), async |worker| {
            anyhow::ensure!(worker == 0, "broken");
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(Next::More)
        });
        assert!(format!("{:#}", failing.await.unwrap_err()).contains("worker 1: broken"));
        assert!(by_the_second(1, Duration::ZERO, async |_| Ok(Next::More)).await.is_err());
        let fine = by_the_second(3, Duration::from_millis(20), async |_| {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(Next::More)
        });
        assert!(fine.await.unwrap().count() >= 3);
        let left = AtomicBool::new(true);
        let little = by_the_second(1, Duration::from_secs(60), async |_| {
            Ok(if left.swap(false, Ordering::Relaxed) { Next::More } else { Next::Enough })
        });
        assert_eq!(little.await.unwrap().count(), 1);
    }
}
