//! Out of a running store into a new file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::blobs;
use super::content::{Content, is_heartbeat};
use super::end::End;
use super::error::TransferError;
use super::missing::Missing;
use super::stream::{CopyTarget, StreamWriter};
use unibus_api_types::control::Part;
use unibus_core::domain::RoomId;
use unibus_store::{NewFile, Position, Records};

/// Pause between two rounds; heartbeats come once a second.
const PAUSE: Duration = Duration::from_millis(200);

/// What was copied.
#[derive(Debug)]
pub struct Copied {
    /// All of it.
    pub content: Content,
    /// What is damaged, and not in it.
    pub missing: Missing,
}

/// Copies all that `from` has at one moment into a new file at `path`. Gives up after `patience` where there is no such moment,
/// and then leaves nothing behind. What is damaged in one room is left out, and named: it is no reason to have no copy of all else.
pub async fn copy_out(from: &dyn End, path: &Path, patience: Duration) -> Result<Copied, TransferError> {
    let mut file = NewFile::create(path)?;
    let copied = copy_to(from, &mut file, patience).await?;
    file.finish()?;
    Ok(copied)
}

/// The same into a stream, which the caller ends.
pub async fn copy_to_stream<W: Write + Send>(
    from: &dyn End,
    to: &mut StreamWriter<W>,
    patience: Duration,
) -> Result<Copied, TransferError> {
    copy_to(from, to, patience).await
}

async fn copy_to(from: &dyn End, to: &mut dyn CopyTarget, patience: Duration) -> Result<Copied, TransferError> {
    let mut begun = Instant::now();
    let mut reading = Reading::default();
    let mut first = true;
    loop {
        let entries = reading.round(from, to, first).await?;
        let changed = blobs::round(from, to, &mut reading.content.blobs, &mut reading.missing).await? || entries;
        let unproven = Records::DECIDING.into_iter().find(|bucket| !reading.beaten.contains(bucket));
        match (first || changed, unproven) {
            (false, None) => break,
            (_, unproven) if begun.elapsed() > patience => {
                let seconds = patience.as_secs();
                return Err(match unproven {
                    Some(bucket) => TransferError::NoHeartbeat { bucket: bucket.bucket().name(), seconds },
                    None => TransferError::Busy { seconds },
                });
            }
            // Somebody is at work: the next round comes at once, to find a moment in between.
            (true, None) => {}
            _ => tokio::time::sleep(PAUSE).await,
        }
        if first {
            // However long it takes to read all, what is damaged included: a quiet moment is looked for from here on.
            begun = Instant::now();
        }
        first = false;
    }
    Ok(Copied { content: reading.content, missing: reading.missing })
}

#[derive(Default)]
struct Reading {
    positions: BTreeMap<Part, Position>,
    /// Up to where the messages of each room were read.
    heard: BTreeMap<RoomId, u64>,
    /// How each room was marked before it was read to its end.
    marks: BTreeMap<RoomId, String>,
    content: Content,
    missing: Missing,
    /// Buckets in which a heartbeat was seen that was not there in the first round.
    beaten: Vec<Records>,
}

impl Reading {
    /// Reads what was changed since the last round. Says whether anything was, heartbeats apart.
    async fn round(&mut self, from: &dyn End, file: &mut dyn CopyTarget, first: bool) -> Result<bool, TransferError> {
        let mut changed = false;
        for part in Part::ALL {
            loop {
                let after = self.positions.get(&part).copied().unwrap_or_default();
                let page = from.read(part, after).await?;
                for item in &page.items {
                    self.positions.insert(part, item.revision.into());
                    match (part, &item.key) {
                        (Part::Records(records), Some(key)) if is_heartbeat(part, key) => {
                            if !first && !self.beaten.contains(&records) {
                                self.beaten.push(records);
                            }
                            continue;
                        }
                        (Part::Records(records), Some(key)) => file.entry(records, key, item.revision, &item.value)?,
                        (Part::Records(_), None) => return Err(TransferError::nameless(part)),
                        (Part::Audit, _) => file.record(item.revision, &item.value)?,
                    }
                    self.content.add(part, item)?;
                    changed = true;
                }
                if page.next.is_none() {
                    break;
                }
            }
        }
        self.hear(from, file).await?;
        Ok(changed)
    }

    /// Reads what was said since the last round in the rooms that are in use. That is no change: a message stands for itself.
    async fn hear(&mut self, from: &dyn End, file: &mut dyn CopyTarget) -> Result<(), TransferError> {
        for (room, mark) in from.messages().marked().await? {
            if !self.content.is_in_use(&room) || self.missing.is_given_up(&room) {
                continue;
            }
            // There may be ten thousand of them, of which few speak while a copy is made.
            if mark.is_some() && self.marks.get(&room) == mark.as_ref() {
                continue;
            }
            let heard = self.heard.entry(room.clone()).or_default();
            loop {
                let read = match from.messages().readable(&room, *heard).await {
                    Ok(read) => read,
                    Err(error @ TransferError::NoMessages(_)) => {
                        self.missing.give_up(&room, *heard, error.to_string());
                        break;
                    }
                    // The daemon says the same in its own words; that it cannot prove anything is another matter.
                    Err(error @ TransferError::Daemon { .. }) if error.code() == "unavailable" => {
                        self.missing.give_up(&room, *heard, error.to_string());
                        break;
                    }
                    Err(error) => return Err(error),
                };
                for message in &read.messages {
                    file.message(&room, message)?;
                    self.content.hear(&room, message);
                }
                self.missing.unreadable(&room, &read.unreadable);
                *heard = read.reached.max(*heard);
                if let Some(why) = read.damaged {
                    self.missing.give_up(&room, *heard, why);
                    break;
                }
                if read.messages.is_empty() && read.unreadable.is_empty() {
                    // It was as it is marked, or had less, when it was marked.
                    mark.into_iter().for_each(|mark| drop(self.marks.insert(room.clone(), mark)));
                    break;
                }
            }
        }
        for room in self.content.forget_unused() {
            file.without_messages(&room)?;
            self.heard.remove(&room);
            self.marks.remove(&room);
        }
        self.missing.retain(|room| self.content.is_in_use(room));
        Ok(())
    }
}
