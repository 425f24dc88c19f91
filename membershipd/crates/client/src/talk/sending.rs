//! Saying something in a room, and knowing that it was kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use super::bus::Bus;
use super::error::TalkError;
use super::history::{self, PAGE, Page};
use super::keyring::Keyring;
use super::part::{Part, record};
use super::people::People;
use super::pins::Pins;
use crate::api::{Client, NodeUrl, Room};
use crate::identity::Identity;
use unibus_api_types::notice::{Notice, Outcome};
use unibus_core::domain::RoomId;
use unibus_core::faults::Fault;
use unibus_core::{bus, clock, random};
use unibus_crypto::{Content, Epoch, FrameId, FrameVersion, MessageId, Sealer};

/// How long the newest epoch is believed to be the newest while nobody is heard to come or go.
const BELIEVED: Duration = Duration::from_secs(30);
/// Pause between looks at whether a message was kept, at first; later ones are longer.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_MOST: Duration = Duration::from_millis(500);
/// After so long a message is sent again, if it is not seen to be kept.
const AGAIN: Duration = Duration::from_secs(2);
/// How long it is tried.
const BUDGET: Duration = bus::STORE_BUDGET;
/// Bytes that a frame has beside what is said, and to spare.
const AROUND: usize = 512;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// The epoch of the key with which it was sealed.
    pub epoch: Option<Epoch>,
    /// Its number in the history; none: the room keeps nothing.
    pub seq: Option<u64>,
}

/// Says things in one room, as one user.
#[derive(Debug)]
pub struct Sender {
    api: Arc<Client>,
    identity: Arc<Identity>,
    people: People,
    keyring: Keyring,
    room: Room,
    version: Option<FrameVersion>,
    open: Option<Open>,
}

/// What lasts as long as a connection.
#[derive(Debug)]
struct Open {
    bus: Bus,
    /// Tells who comes and goes.
    events: Subscriber,
    /// Tells what came of what we said, where daemons keep it.
    notices: Option<Subscriber>,
    sealer: Sealer,
    asked: Instant,
}

/// What was sent, and may have arrived.
#[derive(Debug, Clone)]
struct Attempted {
    subject: String,
    frame: Bytes,
    epoch: Option<Epoch>,
}

impl Sender {
    /// For `room`. Connects when there is something to say.
    pub async fn new(
        identity: impl Into<Arc<Identity>>,
        pins: Pins,
        nodes: Vec<NodeUrl>,
        ca: Option<PathBuf>,
        room: RoomId,
    ) -> Result<Self, TalkError> {
        let identity = identity.into();
        let api = Client::new(&identity, nodes, ca.as_deref()).map_err(TalkError::Identity)?;
        Self::over(Arc::new(api), identity, pins, room).await
    }

    /// The same, which asks through `api`, the client of the same user.
    pub async fn over(
        api: Arc<Client>,
        identity: impl Into<Arc<Identity>>,
        pins: Pins,
        room: RoomId,
    ) -> Result<Self, TalkError> {
        let identity = identity.into();
        let Part { people, keyring, room } = Part::take(&api, &identity, pins, &room).await?;
        Ok(Self { api, identity, people, keyring, room, version: None, open: None })
    }

    /// The same, which writes `version`. Without this it is what the level of the cluster asks for: release 0.1.0 reads the first
    /// one alone.
    pub fn writing(self, version: FrameVersion) -> Self {
        Self { version: Some(version), open: None, ..self }
    }

    /// The version of frames that it writes now.
    pub async fn frames(&mut self) -> Result<FrameVersion, TalkError> {
        self.connect().await?;
        let written = self.open.as_ref().map(|open| open.bus.frames());
        Ok(self.version.or(written).unwrap_or_default())
    }

    /// Says these together, as [`say_contents`](Self::say_contents) does.
    pub async fn say<T: AsRef<[u8]>>(&mut self, texts: &[T]) -> Result<Sent, TalkError> {
        self.say_contents(&texts.iter().map(Content::text).collect::<Vec<_>>()).await
    }

    /// Says these together. With a room that keeps messages it returns when they are kept; otherwise, when the engine has
    /// taken them. Any error but [`TalkError::Unknown`] says that they certainly were not, and will not be.
    pub async fn say_contents(&mut self, contents: &[Content]) -> Result<Sent, TalkError> {
        let bytes = contents.iter().map(Content::bytes).sum::<usize>() + AROUND;
        if bytes > bus::VALUE_BYTES {
            return Err(TalkError::TooLarge { bytes: bytes - AROUND, most: bus::VALUE_BYTES });
        }
        let entropy = random::bytes().map_err(|_| TalkError::Seal(unibus_crypto::Untrue::Randomness))?;
        let id = MessageId::new(u64::try_from(clock::unix_ms()).unwrap_or_default(), entropy);
        if Fault::AckBeforeWrite.active() {
            // Acknowledged whatever becomes of it. What is sent at all the daemons hold and keep, even when some of them die: so of
            // some nothing is sent.
            if entropy.first().is_some_and(|byte| byte % 4 != 0) {
                let _ = tokio::time::timeout(AGAIN, self.attempt(id, contents, &mut None, None)).await;
            }
            return Ok(Sent { id, epoch: None, seq: None });
        }
        let looked_for = self.room.policy.persist && self.room.keeper.is_none();
        let before = if looked_for { Some(self.newest_kept().await?) } else { None };
        let begun = Instant::now();
        let mut sent = None;
        loop {
            let in_doubt = sent.is_some();
            match self.attempt(id, contents, &mut sent, before).await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    if let Some(error) = end(error, id, in_doubt, sent.is_some(), begun.elapsed() > BUDGET) {
                        return Err(error);
                    }
                    self.open = None;
                    tokio::time::sleep(LOOK_MOST).await;
                }
            }
        }
    }

    /// Sends the frame, once more if it was sent before, and looks for it in the history.
    async fn attempt(
        &mut self,
        id: MessageId,
        contents: &[Content],
        sent: &mut Option<Attempted>,
        before: Option<u64>,
    ) -> Result<Sent, TalkError> {
        let first = sent.is_none();
        self.connect().await?;
        let to =
            self.room.keeper.as_ref().map_or_else(|| self.room.subject.to_string(), |keeper| keeper.publish.clone());
        if let Some(before_it_moved) = sent.take_if(|sent| sent.subject != to) {
            // Said as the cluster kept things before, at the moment at which that changed.
            if let Some(seq) = self.look(&before_it_moved.frame, before).await? {
                return Ok(Sent { id, epoch: before_it_moved.epoch, seq: Some(seq) });
            }
        }
        let Some(open) = &mut self.open else { return Err(TalkError::Bus("the connection was lost".to_owned())) };
        let Attempted { subject, frame, epoch } = match sent {
            // The very same bytes, on the same subject: they may have arrived.
            Some(sent) => sent.clone(),
            None => {
                let frame = open.sealer.seal_contents(&to, id, contents).map_err(TalkError::Seal)?;
                Attempted { subject: to, frame: frame.into(), epoch: open.sealer.epoch() }
            }
        };
        *sent = Some(Attempted { subject: subject.clone(), frame: frame.clone(), epoch });
        open.bus.publish(&subject, id, frame.clone()).await?;
        let refused = open.bus.settle().await.map_err(|error| TalkError::Bus(format!("{error:#}")))?;
        if refused.is_some() {
            return Err(TalkError::NotPermitted(subject));
        }
        if !self.room.policy.persist {
            return Ok(Sent { id, epoch, seq: None });
        }
        if let Some(notices) = &mut open.notices {
            let seq = match told(notices, FrameId::of(&self.room.id, &subject, &frame)).await {
                Some(Outcome::Kept { seq }) => Some(seq),
                Some(Outcome::Refused { refused, retry }) => {
                    if first {
                        // Nothing of it is anywhere.
                        *sent = None;
                    }
                    return Err(TalkError::NotKept { refused, retry });
                }
                // A notice can be lost where a message is not.
                None => self.look(&frame, None).await?,
            };
            return seq.map(|seq| Sent { id, epoch, seq: Some(seq) }).ok_or(TalkError::Unknown(id));
        }
        let (since, mut pause, mut after) = (Instant::now(), LOOK, before);
        while since.elapsed() < AGAIN {
            let page = history::page(&self.api, &self.room.id, after, PAGE).await?;
            if let Some(seq) = kept_as(&page, &frame) {
                return Ok(Sent { id, epoch, seq: Some(seq) });
            }
            after = page.messages.last().map(|last| last.seq).or(after);
            if page.messages.is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_MOST);
            }
        }
        Err(TalkError::Unknown(id))
    }

    /// Where this very frame is in the history after `after`, or among the last messages.
    async fn look(&self, frame: &[u8], mut after: Option<u64>) -> Result<Option<u64>, TalkError> {
        loop {
            let page = history::page(&self.api, &self.room.id, after, PAGE).await?;
            let found = kept_as(&page, frame);
            match page.messages.last() {
                Some(last) if found.is_none() && after.is_some() => after = Some(last.seq),
                _ => return Ok(found),
            }
        }
    }

    async fn newest_kept(&self) -> Result<u64, TalkError> {
        Ok(history::page(&self.api, &self.room.id, None, 1).await?.last)
    }

    /// Has a connection, and a key that is for those who are there now.
    async fn connect(&mut self) -> Result<(), TalkError> {
        if let Some(open) = &mut self.open {
            let mut quiet = !open.bus.is_lost() && open.asked.elapsed() < BELIEVED;
            while open.events.next().now_or_never().is_some_and(|event| event.is_some()) {
                quiet = false;
            }
            if quiet {
                return Ok(());
            }
        }
        let lost = self.open.as_ref().is_none_or(|open| open.bus.is_lost());
        let kept = self.open.take().filter(|_| !lost);
        self.room = record(&self.api, self.people.pins(), &self.room.id, &self.identity).await?;
        let keeper = self.room.keeper.as_ref();
        let (bus, events) = match kept {
            Some(open) => (open.bus, open.events),
            None => {
                let bus = Bus::connect(&self.api, &self.identity).await?;
                let events = bus.subscribe(&bus::room_events(self.room.id.as_str())).await?;
                (bus, events)
            }
        };
        let notices = match keeper {
            Some(keeper) => Some(bus.subscribe(&keeper.notices).await?),
            None => None,
        };
        let asked = Instant::now();
        let policy = self.room.policy;
        let key = if policy.encrypt { Some(self.keyring.fresh(&mut self.people).await?) } else { None };
        let pair = policy.sign.then(|| self.identity.key_pair()).transpose().map_err(TalkError::Identity)?;
        let sealer = Sealer::new(self.room.id.clone(), self.identity.handle.clone(), pair, key);
        let sealer = sealer.map_err(TalkError::Seal)?.writing(self.version.unwrap_or_else(|| bus.frames()));
        self.open = Some(Open { bus, events, notices, sealer, asked });
        Ok(())
    }
}

/// What the daemons say of the frame; none: nothing, for [`AGAIN`].
async fn told(notices: &mut Subscriber, frame: FrameId) -> Option<Outcome> {
    let matching = async {
        while let Some(message) = notices.next().await {
            match serde_json::from_slice::<Notice>(&message.payload) {
                Ok(notice) if notice.id == frame => return Some(notice.outcome),
                _ => {}
            }
        }
        None
    };
    tokio::time::timeout(AGAIN, matching).await.ok().flatten()
}

/// Under which number a page has this very frame. The id in it is no proof: another member can use the same one.
fn kept_as(page: &Page, frame: &[u8]) -> Option<u64> {
    page.messages.iter().find(|kept| kept.frame == frame).map(|kept| kept.seq)
}

/// What is known after an attempt that failed with `error`; none: another may help. `in_doubt`: an earlier attempt may have sent the
/// message; `sent`: this one may have, or an earlier one; `over`: there is no time for another.
fn end(error: TalkError, id: MessageId, in_doubt: bool, sent: bool, over: bool) -> Option<TalkError> {
    let passes = error.passes() || matches!(error, TalkError::Unknown(_));
    match error {
        _ if passes && !over => None,
        // The engine took nothing of it, now or before.
        TalkError::NotPermitted(_) if !in_doubt => Some(error),
        // What stands in the way of looking for it does not take it back.
        _ if sent => Some(TalkError::Unknown(id)),
        _ => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_of_another_member_under_the_same_id_is_not_ours() {
        use super::super::history::Kept;
        let (room, id): (RoomId, _) = ("kitchen".parse().unwrap(), MessageId::new(1, [0; 10]));
        let said = |who: &str| {
            let sealer = Sealer::new(room.clone(), who.parse().unwrap(), None, None).unwrap();
            sealer.seal("room.kitchen", id, &["x"]).unwrap()
        };
        let kept = |seq, who| Kept { seq, at_ms: 1, subject: "room.kitchen".to_owned(), frame: said(who) };
        let page = |messages: Vec<Kept>| Page { last: 9, more: None, messages };
        assert_eq!(kept_as(&page(vec![kept(7, "mallory")]), &said("alice")), None);
        assert_eq!(kept_as(&page(vec![kept(7, "mallory"), kept(8, "alice")]), &said("alice")), Some(8));
    }

    #[test]
    fn what_may_have_been_sent_is_never_called_not_said() {
        use unibus_api_types::notice::Reason;
        let id = MessageId::new(1, [0; 10]);
        let [bus, removed, forbidden]: [fn() -> TalkError; 3] = [
            || TalkError::Bus("gone".to_owned()),
            || TalkError::NotMember("kitchen".parse().unwrap(), "bob".parse().unwrap()),
            || TalkError::NotPermitted("room.kitchen".to_owned()),
        ];
        let refused = |retry| TalkError::NotKept { refused: Reason::TooMuch, retry };
        let code = |error: TalkError, (in_doubt, sent, over)| {
            end(error, id, in_doubt, sent, over).map(|error| error.code().to_owned())
        };
        let (nothing, now, before) = ((false, false), (false, true), (true, true));
        let cases = [
            (bus(), nothing, false, None),
            (bus(), before, false, None),
            (bus(), nothing, true, Some("no-bus")),
            (bus(), now, true, Some("unknown-outcome")),
            (TalkError::Unknown(id), now, false, None),
            (TalkError::Unknown(id), now, true, Some("unknown-outcome")),
            (removed(), nothing, false, Some("not-member")),
            (removed(), now, false, Some("unknown-outcome")),
            (forbidden(), now, false, Some("not-permitted")),
            (forbidden(), before, false, Some("unknown-outcome")),
            (refused(true), nothing, false, None),
            (refused(true), nothing, true, Some("not-kept")),
            (refused(false), nothing, false, Some("not-kept")),
            (refused(false), before, false, Some("unknown-outcome")),
        ];
        for (error, (in_doubt, sent), over, expected) in cases {
            let what = format!("{error}, {in_doubt} {sent} {over}");
            assert_eq!(code(error, (in_doubt, sent, over)).as_deref(), expected, "{what}");
        }
    }
}
