//! Reading the audit log: from a place on, or the last of it, and of either only what is asked for.
//!
//! The log has one index, the numbers of its entries. So what is asked for by time is looked for by halving, since entries are nearly in
//! the order of their times, and all else entry by entry, many with requests under way at once. One query looks at so many
//! entries at most ([`LOOK`]) and says then where the next one goes on: a rare record takes several queries, and none of them takes long.

use std::sync::Arc;

use futures::future::try_join_all;

use super::audit::{AuditEntry, AuditRecord};
use unibus_core::bus::Bucket;
use unibus_core::domain::{Author, RoomId};
use unibus_store::{Operation, PageSize, Position, Store, StoreError};

/// Entries that are asked for with one request to the store.
const CHUNK: u64 = 32;
/// Such requests that are under way at once.
const AT_ONCE: u64 = 16;
/// Entries that one query looks at, at most.
pub const LOOK: u64 = 16_384;
/// How far the clocks of nodes may be apart, and a record from its neighbours in the log.
const CLOCKS_MS: i64 = 5 * 60 * 1000;

/// A record in the log: the number of its entry, and which one it is of those there, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Number of the entry.
    pub number: u64,
    /// Of the records in it which one.
    pub part: u32,
}

/// Which records are asked for; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of what this one did.
    pub who: Option<Author>,
    /// About this room.
    pub room: Option<RoomId>,
    /// Of this action.
    pub action: Option<String>,
    /// From this moment on, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Before this moment.
    pub until_ms: Option<i64>,
}

impl AuditFilter {
    /// Whether `record` is asked for.
    pub fn takes(&self, record: &AuditRecord) -> bool {
        self.who.as_ref().is_none_or(|who| *who == record.who)
            && self.room.as_ref().is_none_or(|room| Some(room) == record.room.as_ref())
            && self.action.as_ref().is_none_or(|action| *action == record.action)
            && self.since_ms.is_none_or(|since| record.at_ms >= since)
            && self.until_ms.is_none_or(|until| record.at_ms < until)
    }

    fn takes_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether nothing at or after a record of the moment `at_ms` can be asked for.
    fn ends_before(&self, at_ms: i64) -> bool {
        self.until_ms.is_some_and(|until| at_ms.saturating_sub(CLOCKS_MS) >= until)
    }

    /// Whether nothing at or before it can.
    fn begins_after(&self, at_ms: i64) -> bool {
        self.since_ms.is_some_and(|since| at_ms.saturating_add(CLOCKS_MS) < since)
    }
}

/// What was found, oldest first, and where there may be more in the direction in which it was looked for.
#[derive(Debug, Default)]
pub struct Found {
    /// The records.
    pub records: Vec<(Place, AuditRecord)>,
    /// Where the next query goes on; none: all was looked at.
    pub more: Option<Place>,
}

/// A log, and what is looked for in it.
pub struct AuditQuery<'a> {
    store: &'a Arc<dyn Store>,
    filter: &'a AuditFilter,
}

/// Some entries of the log, oldest first.
struct Window {
    entries: Vec<(u64, Vec<AuditRecord>)>,
    /// There is none after them.
    at_end: bool,
}

impl Window {
    /// Their records, each with its place.
    fn records(self) -> impl DoubleEndedIterator<Item = (Place, AuditRecord)> {
        let parts = |(number, records): (u64, Vec<AuditRecord>)| {
            let parts: Vec<_> = (1..).map(move |part| Place { number, part }).zip(records).collect();
            parts
        };
        self.entries.into_iter().flat_map(parts)
    }
}

impl<'a> AuditQuery<'a> {
    /// What `filter` takes in the log of `store`.
    pub fn new(store: &'a Arc<dyn Store>, filter: &'a AuditFilter) -> Self {
        Self { store, filter }
    }

    /// Up to `count` records after `after`; none: from the beginning.
    pub async fn after(&self, after: Option<Place>, count: usize) -> Result<Found, StoreError> {
        let begin = match (after, self.filter.since_ms) {
            (Some(after), _) => after.number.saturating_sub(1),
            (None, Some(since)) => self.last_before(since.saturating_sub(CLOCKS_MS)).await?,
            (None, None) => 0,
        };
        let (mut found, mut from) = (Found::default(), begin);
        // Where everything is taken each entry has a record at least.
        let wanted = u64::try_from(count).unwrap_or(u64::MAX).max(1).div_ceil(CHUNK);
        let chunks = if self.filter.takes_all() { wanted.min(AT_ONCE) } else { AT_ONCE };
        loop {
            let to = from.saturating_add(chunks * CHUNK);
            let window = self.window(from, to).await?;
            let at_end = window.at_end;
            for (place, record) in window.records().filter(|(place, _)| after.is_none_or(|after| *place > after)) {
                if self.filter.ends_before(record.at_ms) {
                    return Ok(found);
                }
                if self.filter.takes(&record) {
                    if found.records.len() == count {
                        found.more = found.records.last().map(|(place, _)| *place);
                        return Ok(found);
                    }
                    found.records.push((place, record));
                }
            }
            if at_end {
                return Ok(found);
            }
            if to - begin >= LOOK {
                found.more = Some(Place { number: to, part: u32::MAX });
                return Ok(found);
            }
            from = to;
        }
    }

    /// The last `count` records before `before`; none: of all.
    pub async fn last(&self, before: Option<Place>, count: usize) -> Result<Found, StoreError> {
        let mut to = match before {
            Some(before) => before.number,
            None => self.last_where(&|_: &[AuditRecord]| true).await?,
        };
        let (mut found, begin) = (Found::default(), to);
        while to > 0 && found.more.is_none() {
            let from = to.saturating_sub(AT_ONCE * CHUNK);
            let window = self.window(from, to).await?;
            if window.entries.is_empty() {
                // What was there has made way.
                break;
            }
            let mut ended = false;
            for (place, record) in
                window.records().rev().filter(|(place, _)| before.is_none_or(|before| *place < before))
            {
                ended = self.filter.begins_after(record.at_ms);
                if ended {
                    break;
                }
                if self.filter.takes(&record) {
                    if found.records.len() == count {
                        found.more = found.records.last().map(|(place, _)| *place);
                        break;
                    }
                    found.records.push((place, record));
                }
            }
            if ended {
                break;
            }
            if found.more.is_none() && from > 0 && begin - from >= LOOK {
                found.more = Some(Place { number: from + 1, part: 0 });
            }
            to = from;
        }
        found.records.reverse();
        Ok(found)
    }

    /// The entries with the numbers above `from`, up to `to`.
    async fn window(&self, from: u64, to: u64) -> Result<Window, StoreError> {
        let operation = Operation::on("read", Bucket::Audit);
        let starts: Vec<u64> = (from..to).step_by(usize::try_from(CHUNK).unwrap_or(1)).collect();
        let size = PageSize::of(usize::try_from(CHUNK).unwrap_or(1));
        let pages = try_join_all(starts.iter().map(|start| self.store.audit(Position(*start), size))).await?;
        let (mut entries, mut at_end) = (Vec::new(), false);
        for (start, page) in starts.into_iter().zip(pages) {
            at_end |= page.next.is_none();
            let end = start.saturating_add(CHUNK).min(to);
            // Where the oldest entries have made way a page has later ones, which are another's.
            for entry in page.items.iter().filter(|entry| entry.revision.get() <= end) {
                let AuditEntry { schema: _, records } = entry.json(&operation)?.value;
                entries.push((entry.revision.get(), records));
            }
        }
        Ok(Window { entries, at_end })
    }

    /// Number of the last entry whose first record is from before `at_ms`; 0: there is none.
    async fn last_before(&self, at_ms: i64) -> Result<u64, StoreError> {
        self.last_where(&|records: &[AuditRecord]| records.first().is_none_or(|first| first.at_ms < at_ms)).await
    }

    /// Number of the last entry of which `holds` holds, as it does of all before; 0: there is none.
    async fn last_where(&self, holds: &(impl Fn(&[AuditRecord]) -> bool + Sync)) -> Result<u64, StoreError> {
        let Some(mut last) = self.next_where(0, holds).await? else { return Ok(0) };
        let mut step = 1u64;
        // Further and further, until it is too far.
        let mut too_far = loop {
            let further = last.saturating_add(step);
            match self.next_where(further, holds).await? {
                Some(number) => (last, step) = (number, step.saturating_mul(2)),
                None => break further,
            }
        };
        while too_far > last {
            let middle = last + (too_far - last) / 2;
            match self.next_where(middle, holds).await? {
                Some(number) => last = number,
                None => too_far = middle,
            }
        }
        Ok(last)
    }

    /// Number of the first entry after `position`, if `holds` holds of it.
    async fn next_where(
        &self,
        position: u64,
        holds: &(impl Fn(&[AuditRecord]) -> bool + Sync),
    ) -> Result<Option<u64>, StoreError> {
        let page = self.store.audit(Position(position), PageSize::of(1)).await?;
        let Some(entry) = page.items.first() else { return Ok(None) };
        let AuditEntry { schema: _, records } = entry.json(&Operation::on("read", Bucket::Audit))?.value;
        Ok(Some(entry.revision.get()).filter(|_| holds(&records)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::audit::{Journal, Stage};
    use super::super::pace::Real;
    use super::super::tests::Scratch;
    use super::*;
    use crate::commands::audit::CommandId;

    /// A log with a record a second, of alice and bob in turn; some entries have several.
    async fn log(scratch: &Scratch, count: u32) -> Arc<dyn Store> {
        let store: Arc<dyn Store> = scratch.store();
        let journal = Journal::new(store.clone(), Arc::new(Real::new().unwrap()));
        for number in (0..count).step_by(3) {
            let record = |number: u32| AuditRecord {
                id: CommandId::new(number.into()),
                at_ms: i64::from(number) * 1000,
                who: ["alice", "bob"][number as usize % 2].parse().unwrap(),
                action: if number.is_multiple_of(5) { "room.create" } else { "member.invite" }.to_owned(),
                user: None,
                room: number.is_multiple_of(7).then(|| "kitchen".parse().unwrap()),
                member: None,
                with: None,
                stage: Stage::Refused(String::new()),
            };
            let together = (number..count.min(number + 3)).map(|number| journal.append(record(number)));
            assert!(futures::future::join_all(together).await.iter().all(Result::is_ok));
        }
        store
    }

    fn seconds(found: &[(Place, AuditRecord)]) -> Vec<i64> {
        found.iter().map(|(_, record)| record.at_ms / 1000).collect()
    }

    #[tokio::test]
    async fn pages_in_both_directions_have_each_record_once_and_only_what_is_asked_for() {
        let scratch = Scratch::new();
        let store = log(&scratch, 1_000).await;
        let all = AuditFilter::default();
        let filters = [
            all.clone(),
            AuditFilter { who: Some("bob".parse().unwrap()), ..all.clone() },
            AuditFilter { room: Some("kitchen".parse().unwrap()), action: Some("room.create".into()), ..all.clone() },
            AuditFilter { since_ms: Some(400_000), until_ms: Some(450_500), ..all.clone() },
            AuditFilter { who: Some("nobody".parse().unwrap()), ..all.clone() },
        ];
        for filter in filters {
            let query = AuditQuery::new(&store, &filter);
            let takes = |number: &i64| {
                filter
                    .who
                    .as_ref()
                    .is_none_or(|who| who.to_string() == ["alice", "bob"][usize::try_from(number % 2).unwrap()])
                    && filter.room.as_ref().is_none_or(|_| number % 7 == 0)
                    && filter.action.as_ref().is_none_or(|_| number % 5 == 0)
                    && filter.since_ms.is_none_or(|since| number * 1000 >= since)
                    && filter.until_ms.is_none_or(|until| number * 1000 < until)
            };
            let wanted: Vec<i64> = (0..1_000).filter(takes).collect();
            for count in [1, 7, 500] {
                if count == 1 && wanted.len() > 100 {
                    continue;
                }
                let (mut forward, mut after) = (Vec::new(), None);
                loop {
                    let found = query.after(after, count).await.unwrap();
                    assert!(found.records.len() <= count);
                    forward.extend(seconds(&found.records));
                    let Some(more) = found.more else { break };
                    after = Some(more);
                }
                assert_eq!(forward, wanted, "{filter:?} {count}");
                let (mut backward, mut before) = (Vec::new(), None);
                loop {
                    let found = query.last(before, count).await.unwrap();
                    backward.splice(0..0, seconds(&found.records));
                    let Some(more) = found.more else { break };
                    before = Some(more);
                }
                assert_eq!(backward, wanted, "{filter:?} {count}");
            }
        }
    }

    #[tokio::test]
    async fn the_end_of_a_log_and_a_moment_in_it_are_found_by_halving() {
        let scratch = Scratch::new();
        for count in [0, 1, 2, 5, 64, 200] {
            let store = log(&scratch, count).await;
            let filter = AuditFilter::default();
            let query = AuditQuery::new(&store, &filter);
            let last = query.last_where(&|_: &[AuditRecord]| true).await.unwrap();
            let page = store.audit(Position(last), PageSize::of(1)).await.unwrap();
            assert!(page.items.is_empty(), "{count}: there is more after {last}");
            assert!(last == 0 || !store.audit(Position(last - 1), PageSize::of(1)).await.unwrap().items.is_empty());
        }
    }
}
