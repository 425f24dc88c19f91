//! Group commit: while one write is under way, what is to be written next gathers, and goes into one write.
//!
//! So the store is asked once for many callers, and no caller waits longer than for the write under way and its own. The caller whose
//! turn it is writes for all that wait, so there is no task that could end and leave callers behind.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Gathers items of type `T`; a write of several has one result `R`.
///
/// ```
/// # use unibus_store::group_commit::GroupCommit;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let group = GroupCommit::<u32, usize>::new(250);
/// assert_eq!(group.commit(7, |items: Vec<u32>| async move { items.len() }).await, 1);
/// # });
/// ```
#[derive(Debug)]
pub struct GroupCommit<T, R> {
    most: usize,
    waiting: Mutex<Vec<(T, oneshot::Sender<R>)>>,
    turn: tokio::sync::Mutex<()>,
}

impl<T: Clone, R: Clone> GroupCommit<T, R> {
    /// At most `most` items go into one write.
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Has `item` written, alone or with others, by `write`, and returns what came of that write.
    ///
    /// A caller that is dropped in the middle of a write leaves the others unsure of it: they have their items written again. So
    /// an item may be written twice, and must be one that this does no harm to.
    pub async fn commit<F: Future<Output = R>>(&self, item: T, write: impl Fn(Vec<T>) -> F) -> R {
        let mut answer = self.wait(item.clone());
        loop {
            // A caller that was told does not wait for a turn of its own.
            let _turn = tokio::select! {
                biased;
                told = &mut answer => match told {
                    Ok(result) => return result,
                    Err(_) => {
                        answer = self.wait(item.clone());
                        continue;
                    }
                },
                turn = self.turn.lock() => turn,
            };
            let (items, told): (Vec<_>, Vec<_>) = {
                let mut waiting = self.waiting();
                let batch = waiting.len().min(self.most);
                waiting.drain(..batch).unzip()
            };
            // It was told in this very moment.
            if items.is_empty() {
                continue;
            }
            let result = write(items).await;
            for waiting in told {
                // A caller that no longer waits needs no answer.
                let _ = waiting.send(result.clone());
            }
        }
    }

    fn wait(&self, item: T) -> oneshot::Receiver<R> {
        let (told, answer) = oneshot::channel();
        self.waiting().push((item, told));
        answer
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(T, oneshot::Sender<R>)>> {
        // Each change of it is whole, whatever panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    /// What was written, in writes.
    type Log = Mutex<Vec<Vec<u32>>>;

    async fn write(log: &Log, items: Vec<u32>) -> usize {
        // Others come meanwhile.
        tokio::task::yield_now().await;
        let mut log = log.lock().unwrap();
        log.push(items);
        log.len()
    }

    #[tokio::test]
    async fn what_comes_during_a_write_shares_the_next_and_nothing_is_lost() {
        let (group, log) = (GroupCommit::new(250), Log::default());
        let results = join_all((0..600).map(|n| group.commit(n, |items| write(&log, items)))).await;
        let log = log.into_inner().unwrap();
        assert_eq!(log.concat(), (0..600).collect::<Vec<_>>());
        // The first one finds nothing to share with.
        assert_eq!(log.iter().map(Vec::len).collect::<Vec<_>>(), [1, 250, 250, 99]);
        assert_eq!((results.first(), results.last()), (Some(&1), Some(&4)));
    }

    #[tokio::test]
    async fn a_caller_that_is_dropped_while_it_writes_takes_no_other_along() {
        let (group, log) = (GroupCommit::new(250), Log::default());
        let [mut before, mut first, mut second] =
            [0, 1, 2].map(|n| Box::pin(group.commit(n, |items| write(&log, items))));
        for caller in [&mut before, &mut first, &mut second] {
            assert!(futures::poll!(caller).is_pending());
        }
        assert!(futures::poll!(&mut before).is_ready());
        assert!(futures::poll!(&mut first).is_pending(), "it writes, for the second one, too");
        drop(first);
        assert_eq!(second.await, 2);
        assert_eq!(*log.lock().unwrap(), [[0], [2]]);
    }
}
