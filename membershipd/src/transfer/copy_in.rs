//! From a file into an empty cluster.

use super::content::{Content, is_heartbeat};
use super::end::{End, Item, Part, Put, together};
use super::error::TransferError;
use crate::store::Position;

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
    let mut written = 0;
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
    }
    let content = Content::of(to, false).await?;
    let mut differences = content.beyond(&source);
    differences.extend(source.beyond(&content));
    if differences.is_empty() { Ok(Carried { content, written }) } else { Err(TransferError::Changed(differences)) }
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
