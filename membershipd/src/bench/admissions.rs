//! Connections that the engine asks its daemon about.

use anyhow::Result;

use super::crew::Crew;
use super::drive::Next;
use super::raw;

/// Connects as one of the crew, for one round trip.
pub(super) async fn connect(crew: &Crew, worker: usize) -> Result<Next> {
    let hand = crew.hand(worker)?;
    let client = crew.connection(hand).await?;
    raw::round_trip(&client, &format!("_INBOX.{}", hand.identity.handle)).await?;
    Ok(Next::More)
}
