//! Connections that the engine asks its daemon about.

use anyhow::Result;

use super::crew::Crew;
use super::drive::Next;
use super::raw;
use unibus_core::bus;

/// Connects as the user with this number, for one round trip.
pub(super) async fn connect(crew: &Crew, number: usize) -> Result<Next> {
    let hand = crew.hand(number)?;
    raw::served(|| crew.connection(hand), &bus::inbox(hand.identity.handle.as_str())).await
}
