//! What is said in rooms that persist: one stream a room, which the daemon owns, in the account of the members.
//!
//! Members never touch JetStream: they publish to the room's subject, and the stream takes what it hears. So these hold:
//!
//! - *What the room says is what is kept* (`wanted`): the streams follow the view. A room that stops persisting keeps what it has
//!   and nothing more; a room that is removed takes its messages along. Streams are of rooms, not of subjects: who gets a subject
//!   that was another room's finds nothing of it, and a claim is only released when the stream behind it has let go ([`Keeping`]).
//! - *Whoever changes a room brings its stream along* ([`Histories::settle`]), and one node (`tell`) brings all of them into line
//!   after every change and now and then (`keep`); each action is looked at again right before it is carried out, and carried out
//!   under a lease.
//! - *Nothing that a member sends is believed* (`read`): headers are his, and what the engine adds comes after them. Messages that a
//!   daemon carried in from a copy are on a subject on which nobody else can publish (`restore`).

mod copies;
mod error;
mod keep;
mod keeping;
mod message;
mod migrate;
mod read;
mod restore;
mod streams;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use copies::{raise, replicas};
pub use error::HistoryError;
pub use keeping::Keeping;
pub use message::{PAGE_BYTES, Page};
pub use read::{export, rooms};
pub use restore::{Restored, restore, restored_bytes};
pub use wanted::{Action, Found, Wanted, plan, subjects};

use crate::gate::Gate;
use streams::Asked;
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_store::link::Link;

/// The streams of all rooms, as one node sees to them.
#[derive(Debug, Clone)]
pub struct Histories {
    gate: Arc<Gate>,
    link: watch::Receiver<Option<Arc<Link>>>,
}

impl Histories {
    /// Those that the view of `gate` asks for, in the engine that is linked.
    pub fn new(gate: Arc<Gate>, link: watch::Receiver<Option<Arc<Link>>>) -> Self {
        Self { gate, link }
    }

    fn link(&self, room: &RoomId) -> Result<Arc<Link>, HistoryError> {
        let none = || Asked::Silent("there is no session with the engine".to_owned()).about(room);
        self.link.borrow().clone().ok_or_else(none)
    }

    /// Brings the stream of `room` into line with the view of this node, in attempts that begin within [`bus::ASK`]. Idempotent,
    /// and safe beside other nodes that do the same.
    pub async fn settle(&self, room: &RoomId) -> Result<(), HistoryError> {
        let link = self.link(room)?;
        within(bus::ASK, || self.settle_once(&link, room)).await
    }

    async fn settle_once(&self, link: &Link, room: &RoomId) -> Result<(), HistoryError> {
        let about = |asked: Asked| asked.about(room);
        let stream = streams::find(link, room).await.map_err(about)?;
        let Some(wanted) = self.gate.view(|view| Wanted::of(room, view)) else { return Ok(()) };
        let wanted = BTreeMap::from([(room.clone(), wanted)]);
        let found = stream.iter().map(|stream| (room.clone(), stream.found.clone())).collect();
        for action in plan(&wanted, &found) {
            self.carry_out(link, &action).await.map_err(about)?;
        }
        Ok(())
    }

    /// Carries an action out, if it is still what the view asks for and this node can prove it.
    async fn carry_out(&self, link: &Link, action: &Action) -> Result<(), Asked> {
        let room = action.room();
        // As it is now, since a change writes back what it does not change.
        let stream = match action {
            Action::Set(..) => Some(streams::find(link, room).await?.ok_or(Asked::Missing)?),
            Action::Delete(_) | Action::Make(..) => None,
        };
        if !self.gate.lease_valid(Instant::now()) {
            return Err(Asked::Silent("this node has no lease".to_owned()));
        }
        if !self.gate.view(|view| action.serves(Wanted::of(room, view).as_ref())) {
            return Err(Asked::Silent("the room was changed meanwhile".to_owned()));
        }
        match (action, stream) {
            (Action::Delete(_), _) => streams::delete(link, room).await,
            (Action::Make(_, subject), _) => streams::make(link, room, Some(subject), 0).await,
            (Action::Set(_, subject), Some(stream)) => streams::set(link, room, &stream, subject.as_ref()).await,
            (Action::Set(..), None) => Err(Asked::Missing),
        }
    }
}

/// Pause between attempts at what nobody answered.
const PAUSE: Duration = Duration::from_millis(100);

/// Attempts that begin within `budget`, until somebody answers.
async fn within<F: Future<Output = Result<(), HistoryError>>>(
    budget: Duration,
    attempt: impl Fn() -> F,
) -> Result<(), HistoryError> {
    let deadline = Instant::now() + budget;
    loop {
        match attempt().await {
            Err(HistoryError::Unavailable { .. }) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}
