//! The view of all that a store has now: for a repair, for tools and for tests.

use futures::StreamExt;

use unibus_core::view::View;
use unibus_store::{Event, Keyed, Operation, Position, Records, Store, StoreError};

/// The buckets that are read: those that decide.
pub(super) const BUCKETS: [Records; 3] = [Records::Users, Records::Rooms, Records::Members];

/// All that `store` has now.
pub async fn load(store: &dyn Store) -> Result<View, StoreError> {
    let mut view = View::default();
    for bucket in BUCKETS {
        let mut events = store.watch(bucket, Position::default()).await?;
        loop {
            match events.next().await.transpose()? {
                Some(Event::Changed(entry)) => apply(&mut view, bucket, &entry)?,
                Some(Event::CaughtUp) => break,
                None => {
                    let operation = Operation::on("watch", bucket.bucket());
                    return Err(StoreError::Unavailable { operation, why: "the watch ended".to_owned() });
                }
            }
        }
    }
    Ok(view)
}

/// Applies an entry. What is not understood is an error, and never skipped.
pub(super) fn apply(view: &mut View, of: Records, Keyed { key, entry }: &Keyed) -> Result<(), StoreError> {
    let applied = view.apply(of.bucket(), key.as_str(), &entry.value, entry.revision.get());
    applied
        .map(drop)
        .map_err(|error| StoreError::Unreadable { operation: Operation::at("read", of.bucket(), key), why: error.why })
}
