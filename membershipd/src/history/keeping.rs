//! The fence of a node whose rooms keep messages: a subject is not free before the stream of the room that had it has let go.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::HistoryError;
use super::streams::{self, Asked};
use super::wanted::{Found, Wanted};
use super::{Histories, within};
use crate::commands::{Fence, Revoked};
use unibus_core::bus;
use unibus_core::domain::{RevocationOutcome, RoomId, Subject};
use unibus_store::link::Link;

/// A fence, and the streams of rooms behind it.
#[derive(Debug, Clone)]
pub struct Keeping<F> {
    fence: F,
    histories: Histories,
}

impl<F> Keeping<F> {
    /// `fence` with `histories`.
    pub fn new(fence: F, histories: Histories) -> Arc<Self> {
        Arc::new(Self { fence, histories })
    }
}

impl<F: Fence> Fence for Keeping<F> {
    fn wait_for_revocation<'a>(&'a self, revoked: &'a [Revoked]) -> BoxFuture<'a, RevocationOutcome> {
        self.fence.wait_for_revocation(revoked)
    }

    fn release_subject<'a>(&'a self, room: &'a RoomId, subject: &'a Subject) -> BoxFuture<'a, bool> {
        async move {
            match self.histories.release_subject(room, subject).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%room, "a subject is not given back yet: {error}");
                    false
                }
            }
        }
        .boxed()
    }
}

impl Histories {
    /// Has the stream of `room`, which uses `subject` no longer, keep nothing that is said there. Ends well only when the engine
    /// has said so; tries for as long as an election may take.
    async fn release_subject(&self, room: &RoomId, subject: &Subject) -> Result<(), HistoryError> {
        let link = self.link(room)?;
        within(bus::STORE_BUDGET, || self.release_subject_once(&link, room, subject)).await
    }

    async fn release_subject_once(&self, link: &Link, room: &RoomId, subject: &Subject) -> Result<(), HistoryError> {
        self.settle_once(link, room).await?;
        // What the room has now may be within what it had; then nobody else can have either.
        let now = self.gate.view(|view| Wanted::of(room, view));
        let now = now.as_ref().and_then(Wanted::captures);
        let stream = streams::find(link, room).await.map_err(|asked| asked.about(room))?;
        match stream.map(|stream| stream.found) {
            None | Some(Found::Silent) => Ok(()),
            Some(Found::Captures(kept)) if kept != *subject && now == Some(&kept) => Ok(()),
            Some(_) => Err(Asked::Silent("its stream still has the subject".to_owned()).about(room)),
        }
    }
}
