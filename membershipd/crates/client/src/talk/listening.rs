//! Hearing what is said in a room: what was kept, and then what comes, without a gap and nothing twice.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::bus::Bus;
use super::error::TalkError;
use super::history::{self, PAGE};
use super::part::{Part, record};
use super::people::People;
use super::pins::Pins;
use super::reading::{Arrived, Message, Reader};
use crate::api::{Client, NodeUrl, Room};
use crate::identity::Identity;
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::{Handle, RoomId};
use unibus_crypto::{Frame, FrameRefusal, MessageId, Source};

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
    /// A message that was told when it came is not in the history, and is no longer on its way there.
    NotKept(Message),
    /// All that was kept has been told, and what is told from now on is new.
    CaughtUp {
        /// Number up to which the history was read; none: the room keeps nothing.
        read: Option<u64>,
        /// What was told when it came, and is not in the history so far, by id and sender.
        awaited: Vec<(MessageId, Handle)>,
    },
    /// The connection is lost, and made again.
    Lost(String),
}

/// Listens to one room, as one user.
#[derive(Debug)]
pub struct Listener {
    api: Arc<Client>,
    identity: Arc<Identity>,
    people: People,
    reader: Reader,
    room: RoomId,
    from: From,
    /// Whether what comes is kept.
    keeps: bool,
    /// Whether what comes and is not kept is told.
    marks: bool,
    shown: Shown,
}

/// What was told when it came and is not known to be kept yet, oldest first.
#[derive(Debug, Default)]
struct Shown(VecDeque<(Instant, Message)>);

impl Shown {
    /// Messages that are remembered.
    const MOST: usize = 1_024;
    /// A message that was not kept for so long after it came will not be: its sender has given up.
    const GIVEN_UP: Duration = bus::STORE_BUDGET.saturating_add(Duration::from_secs(10));

    fn note(&mut self, at: Instant, message: &Message) {
        if self.0.len() >= Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back((at, message.clone()));
    }

    fn kept(&mut self, id: MessageId, sender: &Handle) {
        self.0.retain(|(_, message)| (message.id, &message.sender) != (id, sender));
    }

    fn awaited(&self) -> Vec<(MessageId, Handle)> {
        self.0.iter().map(|(_, message)| (message.id, message.sender.clone())).collect()
    }

    /// What came too long before `now`, at which the whole history had been read.
    fn given_up(&mut self, now: Instant) -> Vec<Message> {
        let old = self.0.iter().take_while(|(at, _)| now.duration_since(*at) > Self::GIVEN_UP).count();
        self.0.drain(..old).map(|(_, message)| message).collect()
    }
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
        let api = Client::new(&identity, nodes, ca.as_deref()).map_err(TalkError::Identity)?;
        Self::over(Arc::new(api), identity, pins, room, from).await
    }

    /// The same, which asks through `api`, the client of the same user.
    pub async fn over(
        api: Arc<Client>,
        identity: impl Into<Arc<Identity>>,
        pins: Pins,
        room: RoomId,
        from: From,
    ) -> Result<Self, TalkError> {
        let identity = identity.into();
        let Part { people, keyring, room: record } = Part::take(&api, &identity, pins, &room).await?;
        let reader = Reader::new(room.clone(), record.policy.into(), keyring);
        Ok(Self { api, identity, people, reader, room, from, keeps: false, marks: false, shown: Shown::default() })
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
        if self.catch_up(&mut hear).await?.is_continue() {
            let _ = hear(self.caught_up(true));
        }
        Ok(())
    }

    /// How far the history was read, of a room that `keeps` messages.
    fn caught_up(&self, keeps: bool) -> Heard {
        let read = match self.from {
            From::After(seq) if keeps => Some(seq),
            _ => None,
        };
        Heard::CaughtUp { read, awaited: self.shown.awaited() }
    }

    /// Listens until the connection is lost.
    async fn session(&mut self, hear: &mut impl FnMut(Heard) -> Next, pause: &mut Duration) -> Result<Next, TalkError> {
        let Room { subject, policy, .. } = record(&self.api, self.people.pins(), &self.room, &self.identity).await?;
        self.reader.hold_to(policy.into());
        let bus = Bus::connect(&self.api, &self.identity).await?;
        let own = bus.subscribe(&subject.to_string()).await?;
        let below = bus.subscribe(&format!("{subject}.>")).await?;
        bus.settle().await.map_err(|error| TalkError::Bus(format!("{error:#}")))?;
        let mut live = futures::stream::select(own, below);
        // From here on nothing that is said is missed; what was said before is in the history.
        if policy.persist && self.catch_up(hear).await?.is_break() || hear(self.caught_up(policy.persist)).is_break() {
            return Ok(Next::Break(()));
        }
        *pause = PAUSE;
        self.keeps = policy.persist;
        self.marks = policy.persist && bus.daemons_keep();
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
                    let caught_up = !policy.persist || self.catch_up(hear).await?.is_continue();
                    if !caught_up || hear(self.caught_up(policy.persist)).is_break() {
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
        let asked = Instant::now();
        loop {
            let (after, limit) = match self.from {
                From::Last(limit) => (None, limit.clamp(1, PAGE)),
                From::After(seq) => (Some(seq), PAGE),
            };
            let wanted = self.from != From::Last(0);
            let page = history::page(&self.api, &self.room, after, limit).await?;
            // Whoever asks for the last ones goes on after the newest, even if there was none.
            let last = page.messages.last().map_or(after.unwrap_or(page.last), |kept| kept.seq);
            // A page ends early where its messages are long, also one of the last messages.
            let is_end = page.messages.is_empty() || last >= page.last;
            for kept in page.messages.iter().filter(|_| wanted) {
                let (subject, frame) = (kept.subject.as_str(), &kept.frame[..]);
                let source = Source::History { seq: kept.seq };
                if self.hear(Arrived { subject, frame, at_ms: kept.at_ms, source }, hear).await?.is_break() {
                    return Ok(Next::Break(()));
                }
            }
            self.from = From::After(last);
            if is_end {
                let lost = self.shown.given_up(asked).into_iter().filter(|_| self.marks).map(Heard::NotKept);
                return Ok(lost.map(hear).find(Next::is_break).unwrap_or(Next::Continue(())));
            }
        }
    }

    async fn hear(&mut self, arrived: Arrived<'_>, hear: &mut impl FnMut(Heard) -> Next) -> Result<Next, TalkError> {
        let seq = match arrived.source {
            Source::Live => None,
            Source::History { seq } => Some(seq),
        };
        if let (Some(_), Ok(Frame { header, .. })) = (seq, &Frame::parse(arrived.frame)) {
            self.shown.kept(header.id, &header.sender);
        }
        Ok(match self.reader.read(arrived, &mut self.people).await? {
            Ok(Some(message)) => {
                if self.keeps && seq.is_none() {
                    self.shown.note(Instant::now(), &message);
                }
                hear(Heard::Message(message))
            }
            Ok(None) => Next::Continue(()),
            Err(why) => hear(Heard::Refused { why, at_ms: arrived.at_ms, seq }),
        })
    }

    /// Who listens.
    pub fn handle(&self) -> &Handle {
        &self.identity.handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_crypto::{Content, FrameVersion};

    #[test]
    fn what_was_shown_and_is_not_kept_is_told_once_its_sender_has_given_up() {
        let message = |number: u8| Message {
            version: FrameVersion::V1,
            id: MessageId::new(1, [number; 10]),
            sender: "alice".parse().unwrap(),
            signed: true,
            epoch: None,
            subject: "room.hall.alice".to_owned(),
            at_ms: 1,
            seq: None,
            contents: vec![Content::text("x")],
        };
        let (mut shown, begun) = (Shown::default(), Instant::now());
        let after = |seconds| begun + Shown::GIVEN_UP + Duration::from_secs(seconds);
        (0..3).for_each(|number| shown.note(begun + Duration::from_secs(number.into()), &message(number)));
        shown.kept(message(1).id, &"bob".parse().unwrap());
        shown.kept(message(0).id, &"alice".parse().unwrap());
        assert_eq!(shown.given_up(begun + Shown::GIVEN_UP), []);
        assert_eq!(shown.given_up(after(2)), [message(1)]);
        assert_eq!(shown.given_up(after(3)), [message(2)]);
        (0..=Shown::MOST).for_each(|_| shown.note(begun, &message(9)));
        assert_eq!(shown.given_up(after(1)).len(), Shown::MOST);
    }
}
