//! Hearing what is said in a room: what was kept, and then what comes, without a gap and nothing twice.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::bus::Bus;
use super::error::TalkError;
use super::history::{self, PAGE};
use super::keyring::Keyring;
use super::people::People;
use super::pins::Pins;
use super::reading::{Arrived, Message, Reader};
use super::sending::record;
use crate::api::{Client, NodeUrl, Room};
use crate::identity::Identity;
use unibus_core::clock;
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::{FrameRefusal, Source};

/// Pauses before another attempt at a connection.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MOST: Duration = Duration::from_secs(5);
/// When the history is looked at once more after a connection was made: what was said while that happened may not have come from
/// the bus, and a server that was asked may have been a moment behind.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// And from then on: a bus delivers what it can and acknowledges nothing.
const LOOK: Duration = Duration::from_secs(60);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With so many of the last messages that were kept.
    Last(u32),
    /// After this number in the history.
    After(u64),
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Somebody said something.
    Message(Message),
    /// Something came that is not shown, and why.
    Refused {
        /// Why.
        why: FrameRefusal,
        /// When it came or was kept, in milliseconds since 1970.
        at_ms: u64,
        /// Its number in the history; none: it came from the bus.
        seq: Option<u64>,
    },
    /// All that was kept has been told, and what is told from now on is new.
    CaughtUp,
    /// The connection is lost, and made again.
    Lost(String),
}

/// Listens to one room, as one user.
#[derive(Debug)]
pub struct Listener {
    api: Arc<Client>,
    identity: Arc<Identity>,
    nodes: Vec<NodeUrl>,
    ca: Option<PathBuf>,
    people: People,
    reader: Reader,
    room: RoomId,
    from: From,
}

/// Whether there is more to hear.
type Next = ControlFlow<()>;

impl Listener {
    /// To `room`, from `from` on.
    pub async fn new(
        identity: impl Into<Arc<Identity>>,
        pins: Pins,
        nodes: Vec<NodeUrl>,
        ca: Option<PathBuf>,
        room: RoomId,
        from: From,
    ) -> Result<Self, TalkError> {
        let identity = identity.into();
        let api = Arc::new(Client::new(&identity, nodes.clone(), ca.as_deref()).map_err(TalkError::Identity)?);
        let mut people = People::new(api.clone(), pins);
        let own = people.introduce(&identity).await?;
        let keyring = Keyring::new(api.clone(), room.clone(), identity.clone(), own)?;
        let record = record(&api, people.pins(), &room, &identity).await?;
        let reader = Reader::new(room.clone(), record.policy, keyring);
        Ok(Self { api, identity, nodes, ca, people, reader, room, from })
    }

    /// Listens until `hear` has enough, or until there is nothing more to be heard: the user was removed, or a server lies.
    pub async fn run(mut self, mut hear: impl FnMut(Heard) -> Next) -> Result<(), TalkError> {
        let mut pause = PAUSE;
        loop {
            let why = match self.session(&mut hear, &mut pause).await {
                Ok(Next::Break(())) => return Ok(()),
                Ok(Next::Continue(())) => "the connection ended".to_owned(),
                Err(error) if error.passes() => error.to_string(),
                Err(error) => return Err(error),
            };
            if hear(Heard::Lost(why)).is_break() {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    /// Tells what was kept, and nothing that comes. Needs no bus.
    pub async fn read_kept(mut self, mut hear: impl FnMut(Heard) -> Next) -> Result<(), TalkError> {
        self.catch_up(&mut hear).await.map(|_| ())
    }

    /// Listens until the connection is lost.
    async fn session(&mut self, hear: &mut impl FnMut(Heard) -> Next, pause: &mut Duration) -> Result<Next, TalkError> {
        let Room { subject, policy, .. } = record(&self.api, self.people.pins(), &self.room, &self.identity).await?;
        self.reader.hold_to(policy);
        let bus = Bus::connect(&self.api, &self.identity, &self.nodes, self.ca.as_deref()).await?;
        let own = bus.subscribe(&subject.to_string()).await?;
        let below = bus.subscribe(&format!("{subject}.>")).await?;
        bus.settle().await.map_err(|error| TalkError::Bus(format!("{error:#}")))?;
        let mut live = futures::stream::select(own, below);
        // From here on nothing that is said is missed; what was said before is in the history.
        if policy.persist && self.catch_up(hear).await?.is_break() || hear(Heard::CaughtUp).is_break() {
            return Ok(Next::Break(()));
        }
        *pause = PAUSE;
        let mut look = Box::pin(tokio::time::sleep(FIRST_LOOK));
        loop {
            tokio::select! {
                message = live.next() => {
                    let Some(message) = message else { return Ok(Next::Continue(())) };
                    let at_ms = u64::try_from(clock::unix_ms()).unwrap_or_default();
                    let (subject, frame) = (message.subject.as_str(), &message.payload[..]);
                    if self.hear(Arrived { subject, frame, at_ms, source: Source::Live }, hear).await?.is_break() {
                        return Ok(Next::Break(()));
                    }
                }
                () = &mut look => {
                    if policy.persist && self.catch_up(hear).await?.is_break() || hear(Heard::CaughtUp).is_break() {
                        return Ok(Next::Break(()));
                    }
                    look = Box::pin(tokio::time::sleep(LOOK));
                }
                () = bus.lost() => return Ok(Next::Continue(())),
            }
        }
    }

    /// Tells what was kept since the last look.
    async fn catch_up(&mut self, hear: &mut impl FnMut(Heard) -> Next) -> Result<Next, TalkError> {
        loop {
            let (after, limit) = match self.from {
                From::Last(limit) => (None, limit.clamp(1, PAGE)),
                From::After(seq) => (Some(seq), PAGE),
            };
            let wanted = self.from != From::Last(0);
            let page = history::page(&self.api, &self.room, after, limit).await?;
            // Whoever asks for the last ones goes on after the newest, even if there was none.
            let last = page.messages.last().map_or(after.unwrap_or(page.last), |kept| kept.seq);
            let full = !page.messages.is_empty();
            for kept in page.messages.iter().filter(|_| wanted) {
                let (subject, frame) = (kept.subject.as_str(), &kept.frame[..]);
                let source = Source::History { seq: kept.seq };
                if self.hear(Arrived { subject, frame, at_ms: kept.at_ms, source }, hear).await?.is_break() {
                    return Ok(Next::Break(()));
                }
            }
            self.from = From::After(last);
            if !full || after.is_none() {
                return Ok(Next::Continue(()));
            }
        }
    }

    async fn hear(&mut self, arrived: Arrived<'_>, hear: &mut impl FnMut(Heard) -> Next) -> Result<Next, TalkError> {
        let seq = match arrived.source {
            Source::Live => None,
            Source::History { seq } => Some(seq),
        };
        Ok(match self.reader.read(arrived, &mut self.people).await? {
            Ok(Some(message)) => hear(Heard::Message(message)),
            Ok(None) => Next::Continue(()),
            Err(why) => hear(Heard::Refused { why, at_ms: arrived.at_ms, seq }),
        })
    }

    /// Who listens.
    pub fn handle(&self) -> &Handle {
        &self.identity.handle
    }
}
