//! A state fed by watching a store: for tools, and for tests.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::load::{BUCKETS, apply};
use super::pace::Pace;
use super::state::{NotProven, State};
use unibus_core::view::View;
use unibus_store::{Event, Events, Position, Records, Revision, Store, StoreError};

/// Pause before a watch that broke is begun anew.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How far the watch of one bucket has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Watch {
    /// It is under way, and may not know everything yet.
    Behind,
    /// It knows all that was there when it last began.
    Sound,
    /// It met something that it does not understand; there is no way on from there.
    Ended(String),
}

#[derive(Debug, Clone)]
struct Progress {
    watches: [Watch; BUCKETS.len()],
    positions: [Position; BUCKETS.len()],
}

#[derive(Debug)]
struct Shared {
    view: RwLock<View>,
    progress: watch::Sender<Progress>,
}

/// What a store has, as its watches tell. While one of them is broken nothing is decided on it.
#[derive(Debug)]
pub struct Watched {
    shared: Arc<Shared>,
    // Dropped, they end.
    _following: JoinSet<()>,
}

impl Watched {
    /// Begins to follow `store`, within a tokio runtime.
    pub fn follow(store: &Arc<dyn Store>, pace: &Arc<dyn Pace>) -> Self {
        let progress =
            Progress { watches: BUCKETS.map(|_| Watch::Behind), positions: BUCKETS.map(|_| Position::default()) };
        let shared = Arc::new(Shared { view: RwLock::default(), progress: watch::Sender::new(progress) });
        let mut following = JoinSet::new();
        for (at, bucket) in BUCKETS.into_iter().enumerate() {
            let (shared, store, pace) = (shared.clone(), store.clone(), pace.clone());
            following.spawn(async move { shared.follow(at, bucket, &*store, &*pace).await });
        }
        Self { shared, _following: following }
    }

    /// Ends when all watches know what was there, or one never will.
    pub async fn ready(&self) -> Result<(), NotProven> {
        let mut progress = self.shared.progress.subscribe();
        let known = |progress: &Progress| {
            let watches = &progress.watches;
            watches.iter().all(|watch| *watch == Watch::Sound) || watches.iter().any(|w| matches!(w, Watch::Ended(_)))
        };
        // The sender lives as long as we do.
        let _ = progress.wait_for(known).await;
        self.shared.proven()
    }
}

impl Shared {
    async fn follow(&self, at: usize, bucket: Records, store: &dyn Store, pace: &dyn Pace) {
        loop {
            let from = self.progress.borrow().positions.get(at).copied().unwrap_or_default();
            let broke = match store.watch(bucket, from).await {
                Ok(events) => self.told(at, bucket, events).await,
                Err(error) => error,
            };
            let final_word = matches!(broke, StoreError::Unreadable { .. } | StoreError::Gap { .. });
            self.set(at, if final_word { Watch::Ended(broke.to_string()) } else { Watch::Behind });
            if final_word {
                return;
            }
            pace.pause(BACK_OFF).await;
        }
    }

    /// Applies what a watch tells until it breaks.
    async fn told(&self, at: usize, bucket: Records, mut events: Events) -> StoreError {
        let operation = unibus_store::Operation::on("watch", bucket.bucket());
        loop {
            let applied = match events.next().await {
                Some(Ok(Event::CaughtUp)) => {
                    self.set(at, Watch::Sound);
                    continue;
                }
                Some(Ok(Event::Changed(entry))) => {
                    let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
                    apply(&mut view, bucket, &entry).map(|()| Position::from(entry.entry.revision))
                }
                Some(Err(error)) => Err(error),
                None => Err(StoreError::Unavailable { operation: operation.clone(), why: "it ended".to_owned() }),
            };
            match applied {
                Ok(position) => self.progress.send_modify(|progress| {
                    if let Some(known) = progress.positions.get_mut(at) {
                        *known = position.max(*known);
                    }
                }),
                Err(error) => return error,
            }
        }
    }

    fn set(&self, at: usize, word: Watch) {
        self.progress.send_modify(|progress| {
            if let Some(watch) = progress.watches.get_mut(at) {
                *watch = word;
            }
        });
    }

    fn proven(&self) -> Result<(), NotProven> {
        let progress = self.progress.borrow();
        let unsound = progress.watches.iter().find(|watch| **watch != Watch::Sound);
        unsound.map_or(Ok(()), |watch| {
            let why = match watch {
                Watch::Ended(why) => why.clone(),
                _ => "a watch of the store has not caught up".to_owned(),
            };
            Err(NotProven { why })
        })
    }
}

impl State for Watched {
    fn show(&self, look: &mut dyn FnMut(&View)) -> Result<(), NotProven> {
        self.shared.proven()?;
        look(&self.shared.view.read().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn seen(&self, bucket: Records, revision: Revision) -> BoxFuture<'_, ()> {
        async move {
            let at = BUCKETS.iter().position(|of| *of == bucket);
            let seen = |progress: &Progress| {
                let position = at.and_then(|at| progress.positions.get(at));
                position.is_none_or(|position| *position >= revision.into())
            };
            // The sender lives as long as we do.
            let _ = self.shared.progress.subscribe().wait_for(seen).await;
        }
        .boxed()
    }
}
