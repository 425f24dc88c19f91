//! What several change at once by compare-and-set: whether all that was acknowledged can have happened in one order.
//!
//! To find such an order is hard in general, and a search for one explodes with the operations whose outcome nobody knows.
//! Here there is nothing to search: a change names the revision that it replaced and learns the one that it made, and a read
//! learns the one that it saw, so what is left is to check the one order that there is (Gibbons and Korach, "Testing Shared
//! Memories", 1997, section 4: easy where each read says which write it read). That is why no library does it: a general
//! tester, such as the one of stateright, would cost twelve crates in this tool and minutes a run, and could not say which
//! operation it is that does not fit. It serves as the oracle of the tests instead.
//!
//! - *One chain.* Each revision that anybody saw was made by one write, over the revision before it. Where that write is not
//!   acknowledged it is one of unknown outcome, with that very content and over that very revision. A revision that nobody saw
//!   can only be the last one, for whoever writes names one that he saw.
//! - *In time.* A revision begins between the beginning and the acknowledgement of its write, or at any time after the
//!   beginning where there was no acknowledgement; whoever saw it saw it while it lasted. These are bounds from below and from
//!   above on moments that follow each other: they can be kept exactly if no bound from below is above a later one from above.
//!
//! Reads are answered from a node's view, which its lease proves to be current up to a bound and no further. So a read counts as
//! begun that much earlier (bounded staleness). Writes have no such leave.

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, btree_map::Entry};

use super::{about, told};
use crate::chaos::history::{History, Kind, Op, Outcome};
use crate::chaos::verdict::{Rule, Violation};

/// What is wrong with any record that was contended for. A read may show what was there `stale_us` before it began.
pub(super) fn check(history: &History, stale_us: u64) -> Vec<Violation> {
    let mut records: BTreeMap<&str, Contested> = BTreeMap::new();
    for op in &history.ops {
        let Some(key) = op.key.as_deref() else { continue };
        match op.kind {
            Kind::ApiWrite => records.entry(key).or_default().writes.push(op),
            Kind::ApiRead if op.ok() => records.entry(key).or_default().reads.push(op),
            _ => {}
        }
    }
    records.into_iter().flat_map(|(key, record)| record.check(key, stale_us)).collect()
}

#[derive(Default)]
struct Contested<'a> {
    writes: Vec<&'a Op>,
    reads: Vec<&'a Op>,
}

/// A moment that something cannot have been before, or not after, and the operation that shows it.
type Bound<'a> = (u64, &'a Op);

/// A revision that somebody saw.
struct Seen<'a> {
    content: Option<&'a str>,
    by: &'a Op,
}

/// When a revision can have begun.
#[derive(Default)]
struct Span<'a> {
    earliest: Option<Bound<'a>>,
    latest: Option<Bound<'a>>,
}

impl<'a> Span<'a> {
    fn not_before(&mut self, at_us: u64, shown_by: &'a Op) {
        if self.earliest.is_none_or(|(known, _)| known < at_us) {
            self.earliest = Some((at_us, shown_by));
        }
    }

    fn not_after(&mut self, at_us: u64, shown_by: &'a Op) {
        if self.latest.is_none_or(|(known, _)| known > at_us) {
            self.latest = Some((at_us, shown_by));
        }
    }
}

impl<'a> Contested<'a> {
    fn check(&self, key: &str, stale_us: u64) -> Vec<Violation> {
        let mut found = Vec::new();
        let seen = self.seen(key, &mut found);
        let spans = self.chain(key, &seen, stale_us, &mut found);
        // In time only what is a chain: what does not fit has been said.
        if found.is_empty() {
            in_time(key, &spans, stale_us, &mut found);
        }
        found
    }

    /// Every revision that anybody saw, with what it held.
    fn seen(&self, key: &str, found: &mut Vec<Violation>) -> BTreeMap<u64, Seen<'a>> {
        let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
        for op in self.writes.iter().filter(|op| op.ok()).chain(&self.reads) {
            let (Some(revision), content) = (op.revision, op.value.as_deref()) else { continue };
            match seen.entry(revision) {
                Entry::Vacant(new) => {
                    new.insert(Seen { content, by: op });
                }
                Entry::Occupied(known) if known.get().content != content => {
                    let (held, other) = (known.get().content.unwrap_or("nothing"), known.get().by.op);
                    let holds = content.unwrap_or("nothing");
                    let what =
                        format!("{key}: revision {revision} holds '{holds}', and '{held}' as operation {other} has it");
                    found.push(about(op, Rule::NotLinearizable, what));
                }
                Entry::Occupied(_) => {}
            }
        }
        seen
    }

    /// The revisions in their order, each with the time in which it can have begun. Nothing is before the first.
    fn chain(
        &self,
        key: &str,
        seen: &BTreeMap<u64, Seen<'a>>,
        stale_us: u64,
        found: &mut Vec<Violation>,
    ) -> Vec<(u64, Span<'a>)> {
        let mut over: BTreeMap<u64, Vec<&Op>> = BTreeMap::new();
        for op in &self.writes {
            over.entry(op.expected.unwrap_or_default()).or_default().push(op);
        }
        let mut spans: Vec<(u64, Span)> = Vec::new();
        let mut before = 0;
        // The end is a revision too, that nobody saw: what was acknowledged without a revision may have made it.
        for revision in seen.keys().copied().map(Some).chain([None]) {
            let mut span = Span::default();
            let last = spans.last().map(|(revision, _)| *revision);
            for read in self.reads.iter().filter(|read| last.is_some() && read.revision == last) {
                span.not_before(read.begin_us.saturating_sub(stale_us), read);
            }
            let writes = over.remove(&before).unwrap_or_default();
            let made = revision.and_then(|revision| Some((revision, seen.get(&revision)?)));
            self.made_by(key, before, made, &writes, &mut span, found);
            if let Some(revision) = revision {
                for read in self.reads.iter().filter(|read| read.revision == Some(revision)) {
                    span.not_after(read.end_us, read);
                }
                before = revision;
            }
            spans.push((revision.unwrap_or(u64::MAX), span));
        }
        // What was acknowledged over a revision that was never there in the chain.
        for op in over.into_values().flatten().filter(|op| op.ok()) {
            let (expected, by) = (op.expected.unwrap_or_default(), op.node.as_deref().unwrap_or("?"));
            let what = format!("{key}: {by} acknowledged a write over revision {expected}, which nobody ever saw");
            found.push(about(op, Rule::NotLinearizable, what));
        }
        spans
    }

    /// Finds what made a revision among the `writes` over the one `before` it; none: whatever is left made one that nobody saw.
    fn made_by(
        &self,
        key: &str,
        before: u64,
        made: Option<(u64, &Seen<'a>)>,
        writes: &[&'a Op],
        span: &mut Span<'a>,
        found: &mut Vec<Violation>,
    ) {
        let fits = |op: &Op| {
            let Some((revision, seen)) = &made else { return op.revision.is_none() };
            op.revision.is_none_or(|own| own == *revision) && op.value.as_deref() == seen.content
        };
        let (mut acknowledged, strangers): (Vec<&Op>, Vec<&Op>) =
            writes.iter().copied().filter(|op| op.ok()).partition(|op| fits(op));
        // Of two that were both acknowledged over one revision at most one was done.
        let twice = acknowledged.split_off(acknowledged.len().min(1));
        for op in strangers.into_iter().chain(twice) {
            let by = op.node.as_deref().unwrap_or("?");
            let next = match &made {
                Some((revision, seen)) => format!("revision {revision} (operation {})", seen.by.op),
                None => "another acknowledged one".to_owned(),
            };
            let what = format!("{key}: {by} acknowledged a write over revision {before}, which {next} replaced");
            found.push(about(op, Rule::NotLinearizable, what));
        }
        if let Some(write) = acknowledged.first() {
            span.not_before(write.begin_us, write);
            return span.not_after(write.end_us, write);
        }
        let Some((revision, seen)) = made else { return };
        let candidates = |outcome| writes.iter().copied().filter(move |op| op.outcome == outcome && fits(op));
        // The one that began first explains most.
        if let Some(write) = candidates(Outcome::Unknown).min_by_key(|op| op.begin_us) {
            return span.not_before(write.begin_us, write);
        }
        if let Some(write) = candidates(Outcome::Refused).next() {
            let what = format!("{key}: {}; but it was read (operation {})", told(write), seen.by.op);
            return found.push(about(write, Rule::RefusedWriteSeen, what));
        }
        let content = seen.content.unwrap_or("nothing");
        let what = format!("{key}: revision {revision} holds '{content}', which nobody wrote over revision {before}");
        found.push(about(seen.by, Rule::NotLinearizable, what));
    }
}

/// Whether moments can be chosen, one after the other, each within its span.
fn in_time<'a>(key: &str, spans: &[(u64, Span<'a>)], stale_us: u64, found: &mut Vec<Violation>) {
    let mut earliest: Option<(Bound<'a>, u64)> = None;
    let mut told_of = None;
    for (revision, span) in spans {
        if let Some(bound) = span.earliest
            && earliest.is_none_or(|((known, _), _)| known < bound.0)
        {
            earliest = Some((bound, *revision));
        }
        let (Some(((from, late), bound_of)), Some((to, early))) = (earliest, span.latest) else { continue };
        if from <= to || told_of == Some(late.op) {
            continue;
        }
        // One that is too late for all that follow is too late once.
        told_of = Some(late.op);
        let what = if late.kind == Kind::ApiRead {
            let (old, by) = (late.revision.unwrap_or_default(), late.node.as_deref().unwrap_or("?"));
            let late_ms = late.begin_us.saturating_sub(early.end_us) / 1000;
            let leave_ms = stale_us / 1000;
            format!(
                "{key}: {by} showed revision {old} {late_ms} ms after revision {revision} was there (operation {}); {leave_ms} \
                 ms are the most",
                early.op
            )
        } else {
            format!(
                "{key}: revision {revision} was there (operation {}) before the write of revision {bound_of} began",
                early.op
            )
        };
        found.push(about(late, Rule::NotLinearizable, what));
    }
}
