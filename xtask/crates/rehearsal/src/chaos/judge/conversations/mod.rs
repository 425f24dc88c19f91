//! What was said in rooms that keep it: whoever reads a room's history finds every acknowledged message in it, once, in the order
//! in which they were said, and nothing else.
//!
//! Everybody reads after each fault, and when all is over; but a message of unknown outcome may still arrive while they do. So one
//! reader may have found more at the end than another: nothing that was acknowledged before they began, for none of that may be
//! missing.
//!
//! When the feature level is raised, what a stream has captured is carried over into the history that daemons keep, where numbers begin
//! above all of a stream's. So what was acknowledged by a number of a stream may be read under another one, but in the same order.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::{about, told};
use crate::chaos::history::{Content, Found, History, Kind, Op, Outcome};
use crate::chaos::verdict::{Conversation, Rule, Violation};

/// What was said by whom: no two messages of a room are the same.
type Message<'a> = (&'a str, &'a str);

#[derive(Default)]
struct Room<'a> {
    said: BTreeMap<Message<'a>, &'a Op>,
    readings: Vec<Reading<'a>>,
}

/// What one member found.
struct Reading<'a> {
    who: &'a str,
    op: &'a Op,
    /// Where each message is.
    at: BTreeMap<Message<'a>, Vec<u64>>,
}

/// What is wrong with any conversation. Where there `must_be` one it has to have been read, by more than one.
pub(super) fn check(history: &History, must_be: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    let rooms = rooms(history);
    for (name, room) in &rooms {
        for reading in &room.readings {
            room.check_reading(name, reading, &mut found);
        }
        room.check_acknowledged(name, &mut found);
        room.check_order(name, &mut found);
        room.check_carried(name, &mut found);
        room.compare(name, &mut found);
    }
    let unread = history.ops.iter().filter(|op| op.kind == Kind::ReadHistory && !op.ok());
    found.extend(unread.map(|op| about(op, Rule::FailedOperation, format!("{} {}", op.kind, told(op)))));
    if must_be && !rooms.values().any(|room| room.readings.len() >= LEAST_READERS) {
        let at_us = history.event("reading-back").map_or(0, |event| event.at_us);
        let what = format!("fewer than {LEAST_READERS} members read what was said in a room: nothing is proved");
        found.push(super::violation(Rule::TooLittleLoad, at_us, what));
    }
    found
}

/// The first number of a message that daemons keep; those of streams are below it.
const FIRST_KEPT: u64 = 1_000_000_000_001;

/// Whether what was acknowledged as number `seq` may be read as number `place`.
fn is_place_of(seq: u64, place: u64) -> bool {
    seq == place || is_carried(seq, place)
}

fn is_carried(seq: u64, place: u64) -> bool {
    seq < FIRST_KEPT && place >= FIRST_KEPT
}

/// Fewer cannot have read different things.
const LEAST_READERS: usize = 2;

/// How much was said and read in each room.
pub(super) fn counts(history: &History) -> Vec<Conversation> {
    let counted = rooms(history).into_iter().map(|(room, of)| {
        let ended = |outcome| of.said.values().filter(|op| op.outcome == outcome).count();
        let readings = of.readings.len();
        // Of each the last, and that is the whole.
        let readers = of.readings.iter().map(|reading| (reading.who.to_owned(), reading.op.found.len())).collect();
        Conversation {
            room: room.to_owned(),
            acknowledged: ended(Outcome::Ok),
            refused: ended(Outcome::Refused),
            unknown: ended(Outcome::Unknown),
            readers,
            readings,
        }
    });
    counted.collect()
}

fn rooms(history: &History) -> BTreeMap<&str, Room<'_>> {
    let mut rooms: BTreeMap<&str, Room> = BTreeMap::new();
    for op in &history.ops {
        let Some((room, who)) = op.key.as_deref().and_then(|key| key.split_once('/')) else { continue };
        match op.kind {
            Kind::Say => {
                let message = (who, op.value.as_deref().unwrap_or_default());
                rooms.entry(room).or_default().said.insert(message, op);
            }
            Kind::ReadHistory if op.ok() => rooms.entry(room).or_default().readings.push(Reading::new(who, op)),
            _ => {}
        }
    }
    rooms
}

impl<'a> Reading<'a> {
    fn new(who: &'a str, op: &'a Op) -> Self {
        let mut at: BTreeMap<Message, Vec<u64>> = BTreeMap::new();
        for found in &op.found {
            if let Content::Said { by, text } = &found.what {
                at.entry((by, text)).or_default().push(found.seq);
            }
        }
        Self { who, op, at }
    }

    fn last(&self) -> u64 {
        self.op.found.last().map_or(0, |found| found.seq)
    }
}

impl<'a> Room<'a> {
    /// What one reader found that may not be there.
    fn check_reading(&self, room: &str, reading: &Reading<'a>, found: &mut Vec<Violation>) {
        let Reading { who, op, .. } = reading;
        let mut before = 0;
        for place in &op.found {
            let seq = place.seq;
            if seq <= before {
                let what = format!("{room}: {who} was shown number {seq} after number {before}");
                found.push(about(op, Rule::MessagesDisordered, what));
            }
            before = seq;
            match &place.what {
                Content::Doubled(why) => {
                    found.push(about(op, Rule::DoubledMessage, format!("{room}: number {seq}, read by {who}: {why}")));
                }
                Content::Refused(why) => {
                    found.push(about(
                        op,
                        Rule::ForeignMessage,
                        format!("{room}: number {seq}, refused by {who}: {why}"),
                    ));
                }
                Content::Said { by, text } => match self.said.get(&(by.as_str(), text.as_str())) {
                    None => {
                        let what = format!("{room}: {who} read '{text}' of {by} as number {seq}, who never said it");
                        found.push(about(op, Rule::ForeignMessage, what));
                    }
                    Some(said) if said.outcome == Outcome::Refused => {
                        let what =
                            format!("{room}: '{text}' of {by} {}; but {who} read it as number {seq}", told(said));
                        found.push(about(said, Rule::RefusedWriteSeen, what));
                    }
                    Some(_) => {}
                },
            }
        }
        for ((by, text), places) in reading.at.iter().filter(|(_, places)| places.len() > 1) {
            let what = format!("{room}: {who} read '{text}' of {by} more than once, as numbers {places:?}");
            found.push(about(self.said.get(&(*by, *text)).unwrap_or(op), Rule::DoubledMessage, what));
        }
    }

    /// Every acknowledged message is with everybody who began to read later, and where the acknowledgement said.
    fn check_acknowledged(&self, room: &str, found: &mut Vec<Violation>) {
        for ((by, text), op) in self.said.iter().filter(|(_, op)| op.ok()) {
            let later = || self.readings.iter().filter(|reading| reading.op.begin_us >= op.end_us);
            let number = op.revision.map(|seq| format!(" as number {seq}")).unwrap_or_default();
            let without = || later().filter(|reading| !reading.at.contains_key(&(*by, *text)));
            if let Some(first) = without().next() {
                let whose: BTreeSet<&str> = without().map(|reading| reading.who).collect();
                let what = format!(
                    "{room}: '{text}' of {by} was acknowledged{number}, and is missing in what {} read (first in operation {})",
                    Vec::from_iter(whose).join(", "),
                    first.op.op
                );
                found.push(about(op, Rule::LostMessage, what));
            }
            let moved = later().find_map(|reading| {
                let places = reading.at.get(&(*by, *text))?;
                let is_there = |seq: &u64| places.iter().any(|place| is_place_of(*seq, *place));
                op.revision.filter(|seq| !is_there(seq)).map(|_| (reading.who, places))
            });
            if let Some((who, places)) = moved {
                let what =
                    format!("{room}: '{text}' of {by} was acknowledged{number}, and {who} read it as {places:?}");
                found.push(about(op, Rule::MessagesDisordered, what));
            }
        }
    }

    /// What was carried over stands in the order in which it was acknowledged.
    fn check_carried(&self, room: &str, found: &mut Vec<Violation>) {
        for reading in &self.readings {
            let carried = self.said.iter().filter_map(|(message, op)| {
                let seq = op.revision.filter(|_| op.ok())?;
                let place = *reading.at.get(message)?.first()?;
                is_carried(seq, place).then_some((seq, place, *op))
            });
            let mut carried: Vec<(u64, u64, &Op)> = carried.collect();
            carried.sort_by_key(|(seq, ..)| *seq);
            for pair in carried.windows(2) {
                let [(_, before, _), (seq, place, op)] = pair else { continue };
                if place <= before {
                    let what = format!(
                        "{room}: number {seq} was carried over as number {place}, read by {}, and the one before it as {before}",
                        reading.who
                    );
                    found.push(about(op, Rule::MessagesDisordered, what));
                }
            }
        }
    }

    /// What was acknowledged before something else began to be said stands before it.
    fn check_order(&self, room: &str, found: &mut Vec<Violation>) {
        for reading in &self.readings {
            let placed =
                || reading.at.iter().filter_map(|(message, places)| Some((*self.said.get(message)?, *places.first()?)));
            let (mut begun, mut ended): (Vec<_>, Vec<_>) = (placed().collect(), placed().collect());
            ended.retain(|(op, _)| op.ok());
            begun.sort_by_key(|(op, _)| op.begin_us);
            ended.sort_by_key(|(op, _)| op.end_us);
            let mut ended = ended.into_iter().peekable();
            let mut furthest: Option<(&Op, u64)> = None;
            for (op, seq) in begun {
                while let Some((done, at)) = ended.next_if(|(done, _)| done.end_us < op.begin_us) {
                    if furthest.is_none_or(|(_, known)| known < at) {
                        furthest = Some((done, at));
                    }
                }
                if let Some((done, at)) = furthest.filter(|(_, at)| *at > seq) {
                    let what = format!(
                        "{room}: {} read as number {seq} what began to be said after number {at} was acknowledged \
                         (operation {})",
                        reading.who, done.op
                    );
                    found.push(about(op, Rule::MessagesDisordered, what));
                }
            }
        }
    }

    /// As far as two have read, they have read the same.
    fn compare(&self, room: &str, found: &mut Vec<Violation>) {
        // With whoever has read most, so that nothing is left out.
        let Some(most) = self.readings.iter().max_by_key(|reading| reading.last()) else { return };
        for other in &self.readings {
            let (end, count) = (other.last(), other.op.found.len());
            // One of them may have read before the room was carried over: then it is so many messages, whatever their numbers.
            let carried = is_carried(end, most.last());
            let until = |reading: &Reading<'a>| {
                let within = move |(at, place): &(usize, &Found)| if carried { *at < count } else { place.seq <= end };
                reading.op.found.iter().enumerate().take_while(within).map(|(_, place)| place)
            };
            let differs = until(most).map(Some).chain([None]).zip(until(other).map(Some).chain([None]));
            let is_same = |one: &Found, another: &Found| {
                one.what == another.what && is_place_of(one.seq.min(another.seq), one.seq.max(another.seq))
            };
            let differing = differs.into_iter().find(|(one, another)| match (one, another) {
                (Some(one), Some(another)) => !is_same(one, another),
                (one, another) => one.is_some() || another.is_some(),
            });
            if let Some((one, another)) = differing {
                let seq = one.or(another).map_or(0, |place| place.seq);
                let what = format!("{room}: {} and {} read different things from number {seq} on", most.who, other.who);
                found.push(about(other.op, Rule::MessagesDisordered, what));
            }
        }
    }
}
