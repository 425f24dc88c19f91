//! From a file into an empty cluster.

use super::blobs;
use super::content::{Content, Said, is_heartbeat};
use super::end::{End, Item, Put, together};
use super::error::{Difference, TransferError};
use super::messages::{Whole, carriable};
use unibus_api_types::control::Part;
use unibus_core::bus;
use unibus_core::domain::{InvalidValue, RoomId};
use unibus_core::view::LEVEL_KEY;
use unibus_store::{Key, Position, Records};

/// What was carried over.
#[derive(Debug)]
pub struct Carried {
    /// All that the target holds now.
    pub content: Content,
    /// Entries and records that this run wrote.
    pub written: usize,
}

/// Writes all that `from` has into `to`, which has nothing else; then reads everything back. What a run before has written is
/// left alone. `progress` is told how many of how many are there.
pub async fn copy_in(
    from: &dyn End,
    to: &dyn End,
    mut progress: impl FnMut(usize, usize),
) -> Result<Carried, TransferError> {
    let source = Content::of(from, true).await?;
    if source.is_empty() {
        return Err(TransferError::Nothing);
    }
    let there = Content::of(to, false).await?;
    let foreign = there.beyond(&source);
    if !foreign.is_empty() {
        return Err(TransferError::NotEmpty(foreign));
    }
    begins_alike(from, &source, &there).await?;
    blobs::refuse_foreign(&source.blobs, &there.blobs)?;
    let mut written = begin_with_level(from, to, &source, &there).await?;
    for part in Part::ALL {
        let mut skip = if part == Part::Audit { there.audit() } else { 0 };
        let mut after = Position::default();
        loop {
            let page = from.read(part, after).await?;
            let mut missing = Vec::with_capacity(page.items.len());
            for item in page.items {
                match (part, &item.key) {
                    (Part::Audit, _) if skip > 0 => skip -= 1,
                    (Part::Records(records), Some(key)) if is_heartbeat(part, key) || there.has(records, key) => {}
                    _ => missing.push(item),
                }
            }
            written += write(to, part, missing).await?;
            progress(there.len() + written, source.len());
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        // Its rooms are there, and nobody is in them yet.
        if part == Part::Records(Records::Rooms) {
            for (room, said) in source.said() {
                let has = there.said().get(room).map_or(0, |said| said.count);
                let whole = Whole { bytes: said.bytes, above: source.highest() };
                written += carry(from, to, room, (said.count, whole), has).await?;
                progress(there.len() + written, source.len());
            }
        }
    }
    written += blobs::carry(from, to).await?;
    let content = Content::of(to, false).await?;
    let mut differences = content.beyond(&source);
    differences.extend(source.beyond(&content));
    if differences.is_empty() { Ok(Carried { content, written }) } else { Err(TransferError::Changed(differences)) }
}

/// Writes the feature level before all else, where the copy has one: so nodes do everything in its way from the first entry on, and
/// those that cannot stay out. Says how much was written.
async fn begin_with_level(
    from: &dyn End,
    to: &dyn End,
    source: &Content,
    there: &Content,
) -> Result<usize, TransferError> {
    let (part, level) = (Part::Records(Records::Rooms), LEVEL_KEY.parse());
    let level: Key = level.map_err(|error: InvalidValue| TransferError::NotUnderstood(error.to_string()))?;
    if !source.has(Records::Rooms, &level) || there.has(Records::Rooms, &level) {
        return Ok(0);
    }
    let mut after = Position::default();
    loop {
        let page = from.read(part, after).await?;
        let items = page.items.into_iter().filter(|item| item.key.as_ref() == Some(&level)).collect::<Vec<_>>();
        match page.next {
            Some(next) if items.is_empty() => after = next,
            _ => return write(to, part, items).await,
        }
    }
}

/// Fails where what was said in a room of the target is not the beginning of what the source has.
async fn begins_alike(from: &dyn End, source: &Content, there: &Content) -> Result<(), TransferError> {
    for (room, has) in there.said() {
        let (mut said, mut after) = (Said::default(), 0);
        while said.count < has.count && source.said().contains_key(room) {
            let page = from.messages().said(room, after).await?;
            let Some(last) = page.last() else { break };
            after = last.sequence;
            let page = carriable(room, page);
            let missing = usize::try_from(has.count - said.count).unwrap_or(usize::MAX);
            page.iter().take(missing).for_each(|message| said.add(room, message));
        }
        if said != *has {
            let difference = Difference { part: bus::HISTORY, name: format!("room {room}") };
            return Err(TransferError::NotEmpty(vec![difference]));
        }
    }
    Ok(())
}

/// Carries what was said in a room behind the first `has` messages, which are there. Says how many it carried.
async fn carry(
    from: &dyn End,
    to: &dyn End,
    room: &RoomId,
    (count, whole): (u64, Whole),
    has: u64,
) -> Result<usize, TransferError> {
    let (mut read, mut after, mut written) = (0u64, 0, 0);
    while read < count {
        let page = from.messages().said(room, after).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        let mut page = carriable(room, page);
        let known = usize::try_from(has.saturating_sub(read)).unwrap_or(usize::MAX).min(page.len());
        read += u64::try_from(page.len()).unwrap_or(u64::MAX);
        let new = page.split_off(known);
        if !new.is_empty() {
            let count = new.len();
            let before = read - u64::try_from(count).unwrap_or(u64::MAX);
            to.messages().keep(room, before, whole, new).await?;
            written += count;
        }
    }
    Ok(written)
}

async fn write(to: &dyn End, part: Part, mut items: Vec<Item>) -> Result<usize, TransferError> {
    let mut written = 0;
    while !items.is_empty() {
        let rest = items.split_off(together(&items));
        let puts = to.write(part, items).await?;
        written += puts.into_iter().filter(|put| *put == Put::Written).count();
        items = rest;
    }
    Ok(written)
}
