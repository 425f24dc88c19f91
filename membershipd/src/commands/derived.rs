//! What is derived, put right when a node starts: the index of rooms by member.
//!
//! Nothing else of a repair is done unasked. What looks like the end of an interrupted command may be the beginning of something:
//! beside a copy into the cluster a room without members is one whose members have not arrived yet, and a repair would give it
//! to its maker. The index takes nothing from anybody and gives nothing, and what it has to say is in the memberships.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::index;
use crate::gate::Gate;
use unibus_store::{PageSize, Position, Store, StoreError};

/// Pause before the lease is asked for again, and the first before another attempt.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest pause before another attempt.
const LONGEST: Duration = Duration::from_secs(30);

/// Puts the index right once, as soon as `gate` has a lease; tries until the store lets it.
pub async fn put_right(gate: Arc<Gate>, store: Arc<dyn Store>) {
    let mut pause = PAUSE;
    loop {
        if !gate.lease_valid(Instant::now()) {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        match once(&gate, &*store).await {
            Ok(0) => return,
            Ok(written) => {
                tracing::info!(written, "entries of the index of rooms by member were put right");
                return;
            }
            Err(error) => tracing::debug!("cannot look after the index of rooms by member yet: {error}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

/// Says how many entries had to be written.
///
/// A store without any record in its audit is left alone. No change is without one, so its entries are a copy that is not done:
/// the audit is what `transfer` writes last. An entry written here would be one more than the copy has, and end it.
pub(super) async fn once(gate: &Gate, store: &dyn Store) -> Result<usize, StoreError> {
    if store.audit(Position::default(), PageSize::of(1)).await?.items.is_empty() {
        return Ok(0);
    }
    let entries = index::entries(store).await?;
    let wanted = gate.view(index::wanted);
    index::agree(store, &entries, &wanted).await
}
