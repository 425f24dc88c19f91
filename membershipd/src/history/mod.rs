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
//! - *What one room keeps decides nothing* (`damage`, `copies`): a history that is damaged is named and left out, and a verb replaces
//!   it by one with all that can still be read (`mend`).
//! - *Nothing that a member sends is believed* (`read`): headers are his, and what the engine adds comes after them. Messages that a
//!   daemon carried in from a copy are on a subject on which nobody else can publish (`restore`).

mod copies;
mod damage;
mod error;
mod export;
mod keep;
mod keeping;
mod mend;
mod mend_kept;
mod message;
mod migrate;
mod read;
mod restore;
mod streams;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};

pub use copies::{Look, look, raise};
pub use damage::Damaged;
pub use error::HistoryError;
pub use export::{captured_rooms, export, rooms};
pub use keeping::Keeping;
pub use mend::Mended;
pub use message::{PAGE_BYTES, Page, Readable};
pub use migrate::carry_over;
pub use restore::{restore, restored_bytes};
pub use wanted::{Action, Found, Wanted, plan, subjects};

use crate::copies::Copies;
use crate::gate::Gate;
use migrate::Carried;
use streams::Asked;
use unibus_core::bus;
use unibus_core::domain::RoomId;
use unibus_store::link::Link;

/// The streams of all rooms, as one node sees to them.
#[derive(Debug, Clone)]
pub struct Histories {
    gate: Arc<Gate>,
    link: watch::Receiver<Option<Arc<Link>>>,
    /// What was last seen of them all.
    seen: Arc<Copies>,
    /// One history is mended at a time.
    mending: Arc<Mutex<()>>,
    carried: Arc<Carried>,
}

impl Histories {
    /// Those that the view of `gate` asks for, in the engine that is linked, as `seen` last.
    pub fn new(gate: Arc<Gate>, link: watch::Receiver<Option<Arc<Link>>>, seen: Arc<Copies>) -> Self {
        Self { gate, link, seen, mending: Arc::default(), carried: Arc::default() }
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
        // What it keeps from then on would come among what is carried back.
        let keeps = matches!(action, Action::Set(_, Some(_)) | Action::Make(..));
        if keeps && streams::find_named(link, room, &bus::mending_stream(room.as_str())).await?.is_some() {
            return Err(Asked::Silent("its history is being mended".to_owned()));
        }
        if !self.gate.lease_valid(Instant::now()) {
            return Err(Asked::Silent("this node has no lease".to_owned()));
        }
        if !self.gate.view(|view| action.serves(Wanted::of(room, view).as_ref())) {
            return Err(Asked::Silent("the room was changed meanwhile".to_owned()));
        }
        match (action, stream) {
            (Action::Delete(_), _) => streams::delete(link, room).await,
            (Action::Make(_, subject), _) => streams::make(link, room, subject).await,
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

/// Attempts that begin within the usual budget, until the engine answers.
async fn insist<T, F: Future<Output = Result<T, Asked>>>(
    room: &RoomId,
    attempt: impl Fn() -> F,
) -> Result<T, HistoryError> {
    let deadline = Instant::now() + bus::STORE_BUDGET;
    loop {
        match attempt().await {
            Err(Asked::Silent(_)) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            outcome => return outcome.map_err(|asked| asked.about(room)),
        }
    }
}
