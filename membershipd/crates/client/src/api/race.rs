//! Attempts at several nodes, of which the first good one counts: a node that is silent costs a second, not a time-out.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

/// How long a node may be silent before the next one is asked beside it.
const SILENCE: Duration = Duration::from_secs(1);

/// Attempts, begun one after the other: at once where the one before has failed, and after a second where it says nothing.
pub(crate) struct Race<'a, T> {
    under_way: FuturesUnordered<BoxFuture<'a, T>>,
    rest: VecDeque<BoxFuture<'a, T>>,
}

impl<'a, T> Race<'a, T> {
    /// Of `attempts`, in this order. None is begun yet.
    pub(crate) fn of(attempts: impl IntoIterator<Item = BoxFuture<'a, T>>) -> Self {
        Self { under_way: FuturesUnordered::new(), rest: attempts.into_iter().collect() }
    }

    /// What the next attempt comes to; none: all of them were told. Begins another attempt first: a caller that asks again was not content
    /// with the last one. Those that are under way when this is dropped are given up.
    pub(crate) async fn next(&mut self) -> Option<T> {
        self.begin();
        loop {
            let silence = tokio::time::sleep(SILENCE);
            tokio::select! {
                biased;
                outcome = self.under_way.next() => return outcome,
                () = silence, if !self.rest.is_empty() => self.begin(),
            }
        }
    }

    fn begin(&mut self) {
        self.under_way.extend(self.rest.pop_front());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::FutureExt;

    use super::*;

    async fn after(ms: u64, outcome: u8) -> u8 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_node_costs_a_second_and_a_failed_one_nothing() {
        let begun = tokio::time::Instant::now();
        let mut race = Race::of([after(60_000, 1).boxed(), after(10, 2).boxed(), after(10, 3).boxed()]);
        assert_eq!((race.next().await, begun.elapsed().as_millis()), (Some(2), 1_010));
        // It was no good: the third is begun at once, and the first is still waited for.
        assert_eq!((race.next().await, begun.elapsed().as_millis()), (Some(3), 1_020));
        assert_eq!((race.next().await, begun.elapsed().as_secs()), (Some(1), 60));
        assert_eq!(race.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_answers_in_time_is_the_only_one_that_is_asked() {
        let mut begun = false;
        let mut race = Race::of([
            after(900, 1).boxed(),
            async {
                begun = true;
                2
            }
            .boxed(),
        ]);
        assert_eq!(race.next().await, Some(1));
        drop(race);
        assert!(!begun);
        assert_eq!(Race::<Instant>::of([]).next().await, None);
    }
}
