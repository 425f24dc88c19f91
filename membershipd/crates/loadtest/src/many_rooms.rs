//! Many rooms that keep what is said, a few messages in each: made once, and read again later by content, page by page and from places
//! that were given out before. `cargo xtask rehearse --upgrade` takes them from one release to the next.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;

use unibus_client::api::{Client, ClientError, NodeUrl, Request, room_path};
use unibus_client::identity::Identity;
use unibus_client::talk::{Kept, Page, Pins, Sender, Sent, TalkError};
use unibus_core::domain::{Policy, RoomId};
use unibus_core::private_file;

/// Rooms that are worked on side by side. A user may ask 100 times a second.
const AT_ONCE: usize = 6;
/// Messages of a page, so that every room with more has several.
const PAGE: usize = 2;
/// Messages in a room: one to this many.
const MESSAGES: usize = 3;
/// One of so many rooms is spoken in again.
const SPOKEN_IN: usize = 16;
/// A node may be restarted meanwhile, and a user may have asked too often.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_secs(1);
const RATE_LIMITED: &str = "rate-limited";
/// Rooms that differ and are named.
const NAMED: usize = 5;

/// Who has the rooms, whom they ask, and where it is written down what was said.
#[derive(Debug)]
pub struct Owner {
    /// The owner of all rooms.
    pub identity: Arc<Identity>,
    /// The nodes.
    pub nodes: Vec<NodeUrl>,
    /// Whose certificates are trusted.
    pub ca: Option<PathBuf>,
    /// The record.
    pub record: PathBuf,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Rooms.
    pub rooms: usize,
    /// Messages that they have.
    pub messages: usize,
    /// Messages among them that were said now.
    pub said: usize,
}

/// A message as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    seq: u64,
    at_ms: u64,
    subject: String,
    frame: String,
}

impl Said {
    /// What must stay as it is; numbers may become others.
    fn content(&self) -> (u64, &str, &str) {
        (self.at_ms, &self.subject, &self.frame)
    }
}

impl From<Kept> for Said {
    fn from(Kept { seq, at_ms, subject, frame }: Kept) -> Self {
        Self { seq, at_ms, subject, frame: BASE64.encode(&frame) }
    }
}

/// All that was said, by room.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Recorded(BTreeMap<RoomId, Vec<Said>>);

impl Recorded {
    fn counted(&self, said: usize) -> Counted {
        Counted { rooms: self.0.len(), messages: self.0.values().map(Vec::len).sum(), said }
    }
}

/// Makes `count` rooms and says something in each; what it said is in the record then.
///
/// # Errors
/// A room was not made, or something was not said, or the record cannot be written.
pub async fn make(owner: Owner, count: usize) -> Result<Counted> {
    let work = Work::begin(owner)?;
    let made = stream::iter(0..count).map(|number| work.make(number)).buffer_unordered(AT_ONCE);
    let recorded = Recorded(made.try_collect().await?);
    work.note(&recorded)?;
    Ok(recorded.counted(recorded.counted(0).messages))
}

/// Compares the rooms with the record. With `say` something more is said in some of them afterwards, and recorded.
///
/// # Errors
/// A room is not as it was recorded, or cannot be read, or something was not said.
pub async fn compare(owner: Owner, say: bool) -> Result<Counted> {
    let work = Work::begin(owner)?;
    let mut recorded = work.recorded()?;
    let compared = stream::iter(recorded.0.iter().enumerate())
        .map(|(number, (room, said))| work.compare(room, said, number))
        .buffer_unordered(AT_ONCE);
    let compared: Vec<Option<String>> = compared.try_collect().await?;
    let differing: Vec<String> = compared.into_iter().flatten().collect();
    if !differing.is_empty() {
        let named = differing.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        bail!("{} of {} rooms are not as they were: {named}", differing.len(), recorded.0.len());
    }
    if !say {
        return Ok(recorded.counted(0));
    }
    let rooms: Vec<RoomId> = recorded.0.keys().step_by(SPOKEN_IN).cloned().collect();
    let spoken = stream::iter(rooms).map(|room| work.say_more(room)).buffer_unordered(AT_ONCE);
    let spoken: Vec<(RoomId, u64)> = spoken.try_collect().await?;
    for (room, seq) in &spoken {
        let said = recorded.0.entry(room.clone()).or_default();
        let last = said.last().map_or(0, |last| last.seq);
        let new = work.from(room, last).await?;
        let [one] = new.as_slice() else {
            bail!("{room}: after number {last} there are {} messages, and one was said", new.len())
        };
        ensure!(one.seq == *seq, "{room}: what was kept as number {seq} is shown as number {}", one.seq);
        said.push(one.clone());
    }
    work.note(&recorded)?;
    Ok(recorded.counted(spoken.len()))
}

/// How a room is not as it was; none: it is.
fn differs(recorded: &[Said], read: &[Said]) -> Option<String> {
    if recorded.len() != read.len() {
        return Some(format!("it has {} messages, and had {}", read.len(), recorded.len()));
    }
    let other = recorded.iter().zip(read).position(|(one, other)| one.content() != other.content());
    if let Some(place) = other {
        return Some(format!("its message {} is another", place + 1));
    }
    (!read.is_sorted_by(|one, next| one.seq < next.seq)).then(|| "its numbers do not rise".to_owned())
}

/// What the work on all rooms needs.
struct Work {
    owner: Owner,
    api: Client,
    /// Where it is kept what was seen of each room; it goes with the work.
    pins: PathBuf,
}

impl Work {
    fn begin(owner: Owner) -> Result<Self> {
        let api = Client::new(&owner.identity, owner.nodes.clone(), owner.ca.as_deref())?;
        let pins = private_file::sibling(&owner.record, "pins");
        std::fs::create_dir_all(&pins).with_context(|| format!("cannot make {}", pins.display()))?;
        Ok(Self { owner, api, pins })
    }

    fn recorded(&self) -> Result<Recorded> {
        let record = &self.owner.record;
        let text = std::fs::read(record).with_context(|| format!("cannot read {}", record.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no record of rooms", record.display()))
    }

    fn note(&self, recorded: &Recorded) -> Result<()> {
        Ok(private_file::write(&self.owner.record, &serde_json::to_vec(recorded)?)?)
    }

    /// Makes a room, and says what is to be said in it.
    async fn make(&self, number: usize) -> Result<(RoomId, Vec<Said>)> {
        let id = format!("{}-{number}", self.owner.identity.handle);
        let room: RoomId = id.parse().with_context(|| format!("{id} is no room's id"))?;
        let body = json!({ "subject": format!("room.{id}"), "policy": Policy::CONVERSATION });
        let request = Request::put(room_path(&room), Some(body));
        again(&format!("making {room}"), async || self.api.ask(&request).await.map(drop)).await?;
        let mut sender = self.sender(&room).await?;
        for message in 0..=number % MESSAGES {
            say(&mut sender, &format!("message {message} of {room}")).await?;
        }
        let said = self.from(&room, 0).await?;
        ensure!(
            said.len() == number % MESSAGES + 1,
            "{room} shows {} of {} messages",
            said.len(),
            number % MESSAGES + 1
        );
        Ok((room, said))
    }

    /// How a room is not as it was recorded; none: it is.
    async fn compare(&self, room: &RoomId, recorded: &[Said], number: usize) -> Result<Option<String>> {
        let told = |what: &str, differs: Option<String>| differs.map(|differs| format!("{room}{what}: {differs}"));
        let whole = told("", differs(recorded, &self.from(room, 0).await?));
        // A place that was given out before: what comes after it is what came after it then.
        let at = number % recorded.len().max(1);
        let after = recorded.get(at).map_or(0, |said| said.seq);
        let rest = recorded.get(at + 1..).unwrap_or_default();
        let rest = told(&format!(", after number {after}"), differs(rest, &self.from(room, after).await?));
        let newest = recorded.get(recorded.len().saturating_sub(PAGE)..).unwrap_or_default();
        let newest = told(", its newest page", differs(newest, &self.page(room, None).await?));
        Ok(whole.or(rest).or(newest))
    }

    async fn say_more(&self, room: RoomId) -> Result<(RoomId, u64)> {
        let mut sender = self.sender(&room).await?;
        let Sent { seq, .. } = say(&mut sender, "and one more").await?;
        let seq = seq.with_context(|| format!("{room} keeps nothing"))?;
        Ok((room, seq))
    }

    async fn sender(&self, room: &RoomId) -> Result<Sender> {
        let pins = self.pins.join(room.as_str());
        let Owner { identity, nodes, ca, .. } = &self.owner;
        again(&format!("entering {room}"), async || {
            Sender::new(identity.clone(), Pins::beside(&pins), nodes.clone(), ca.clone(), room.clone()).await
        })
        .await
    }

    /// All that the room shows after a number, page by page.
    async fn from(&self, room: &RoomId, after: u64) -> Result<Vec<Said>> {
        let (mut after, mut read) = (after, Vec::new());
        loop {
            let page = self.page(room, Some(after)).await?;
            let Some(last) = page.last() else { return Ok(read) };
            ensure!(last.seq > after, "{room}: the page after number {after} ends with number {}", last.seq);
            after = last.seq;
            read.extend(page);
        }
    }

    async fn page(&self, room: &RoomId, after: Option<u64>) -> Result<Vec<Said>> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let request = Request::get(format!("{}/history?limit={PAGE}{after}", room_path(room)));
        let page: Page = again(&format!("reading {room}"), async || self.api.ask_for(&request).await).await?;
        Ok(page.messages.into_iter().map(Said::from).collect())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // They are public keys: what stays does no harm.
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

/// Says it once: what may have been said is not said again by another call.
async fn say(sender: &mut Sender, text: &str) -> Result<Sent> {
    let mut attempt = 1;
    loop {
        match sender.say(&[text]).await {
            Ok(sent) => return Ok(sent),
            Err(error) if attempt < ATTEMPTS && !matches!(error, TalkError::Unknown(_)) => attempt += 1,
            Err(error) => return Err(error).context(format!("saying {text:?}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether an error passes by itself.
trait Passes: std::error::Error + Send + Sync + 'static {
    fn passes(&self) -> bool;
}

impl Passes for ClientError {
    fn passes(&self) -> bool {
        match self {
            // Whatever another node might answer was asked of all of them.
            ClientError::Refused(_) => self.code() == RATE_LIMITED,
            _ => true,
        }
    }
}

impl Passes for TalkError {
    fn passes(&self) -> bool {
        true
    }
}

/// Does what may be done several times until it succeeds, within a number of attempts.
async fn again<T, E: Passes>(what: &str, mut once: impl AsyncFnMut() -> Result<T, E>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match once().await {
            Ok(done) => return Ok(done),
            Err(error) if attempt < ATTEMPTS && error.passes() => attempt += 1,
            Err(error) => return Err(error).context(what.to_owned()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seq: u64, frame: &str) -> Said {
        Said { seq, at_ms: 1, subject: "room.x".to_owned(), frame: frame.to_owned() }
    }

    #[test]
    fn what_is_lost_doubled_changed_or_out_of_order_is_told_and_other_numbers_are_not() {
        let recorded = [said(1, "a"), said(2, "b")];
        assert_eq!(differs(&recorded, &[said(70, "a"), said(90, "b")]), None);
        assert!(differs(&recorded, &[said(1, "a")]).unwrap().contains("has 1 messages, and had 2"));
        assert!(differs(&recorded, &[said(1, "a"), said(2, "b"), said(3, "b")]).unwrap().contains("has 3"));
        assert!(differs(&recorded, &[said(1, "b"), said(2, "a")]).unwrap().contains("message 1 is another"));
        assert!(differs(&recorded, &[said(2, "a"), said(1, "b")]).unwrap().contains("do not rise"));
        assert!(differs(&recorded, &[said(1, "a"), Said { at_ms: 2, ..said(2, "b") }]).is_some(), "another time");
    }
}
