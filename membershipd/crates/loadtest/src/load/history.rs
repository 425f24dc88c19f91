//! The history: a line for each operation that is over, in the order in which they end.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::kinds::{Failure, Found, Kind, Outcome};

const SCHEMA: u32 = 4;

/// How the history is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A line of JSON for everything.
    Json,
    /// Events as they come, and the sums at the end.
    Text,
}

/// A line of the history.
#[derive(Debug, Serialize)]
struct Line {
    schema: u32,
    op: u64,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Revision that a write replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<u64>,
    /// Revision that was written or read.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// Node that acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// Nodes that were tried, in order.
    tried: Vec<String>,
    begin_us: u64,
    end_us: u64,
    outcome: Outcome,
    attempts: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// A word for why it was not acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// What was found in the history of a room, in its order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    found: Vec<Found>,
}

struct Out {
    to: Box<dyn Write + Send>,
    next: u64,
    sums: BTreeMap<Kind, [u64; 3]>,
}

/// Writes the history.
pub(super) struct History {
    shown: Shown,
    begun: Instant,
    begun_unix: Duration,
    out: Mutex<Out>,
    gone: CancellationToken,
}

impl History {
    /// A history that is written to `to`.
    pub(super) fn new(to: Box<dyn Write + Send>, shown: Shown) -> Self {
        let begun_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let out = Mutex::new(Out { to, next: 0, sums: BTreeMap::new() });
        Self { shown, begun: Instant::now(), begun_unix, out, gone: CancellationToken::new() }
    }

    /// Cancelled when nobody reads the history any more.
    pub(super) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Begins an operation. It is written down when it is dropped, whatever came of it.
    pub(super) fn begin(self: &Arc<Self>, kind: Kind) -> Op {
        let mut out = self.lock();
        let op = out.next;
        out.next += 1;
        drop(out);
        let line = Line {
            schema: SCHEMA,
            op,
            kind,
            key: None,
            value: None,
            expected: None,
            revision: None,
            node: None,
            tried: Vec::new(),
            begin_us: self.now_us(),
            end_us: 0,
            outcome: Outcome::Unknown,
            attempts: 0,
            why: None,
            code: None,
            found: Vec::new(),
        };
        Op { history: self.clone(), line, failed: None }
    }

    /// Says how far the whole is.
    pub(super) fn event(&self, event: &str, detail: Option<&str>) {
        let at_us = self.now_us();
        let mut out = self.lock();
        match self.shown {
            Shown::Json => self.put(
                &mut out,
                &json!({ "schema": SCHEMA, "event": event, "at_us": at_us, "detail": detail }).to_string(),
            ),
            Shown::Text => {
                let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
                self.put(&mut out, &format!("{event}{detail}"));
            }
        }
    }

    /// The last line: how many operations there were.
    pub(super) fn end(&self) {
        let at_us = self.now_us();
        let mut out = self.lock();
        match self.shown {
            Shown::Json => {
                let end = json!({ "schema": SCHEMA, "event": "end", "at_us": at_us, "ops": out.next });
                self.put(&mut out, &end.to_string());
            }
            Shown::Text => {
                for (kind, [ok, refused, unknown]) in out.sums.clone() {
                    self.put(&mut out, &format!("{kind:?}: {ok} acknowledged, {refused} refused, {unknown} unknown"));
                }
            }
        }
    }

    // Unix time that never jumps: the clock of the wall is looked at once.
    fn now_us(&self) -> u64 {
        u64::try_from((self.begun_unix + self.begun.elapsed()).as_micros()).unwrap_or(u64::MAX)
    }

    fn record(&self, line: &Line) {
        let mut out = self.lock();
        let sums = out.sums.entry(line.kind).or_default();
        let [ok, refused, unknown] = sums;
        match line.outcome {
            Outcome::Ok => *ok += 1,
            Outcome::Refused => *refused += 1,
            Outcome::Unknown => *unknown += 1,
        }
        if self.shown == Shown::Json {
            // Plain fields of text and numbers: this cannot fail, and an empty line is a broken history for every reader.
            self.put(&mut out, &serde_json::to_string(line).unwrap_or_default());
        }
    }

    fn put(&self, out: &mut Out, line: &str) {
        if writeln!(out.to, "{line}").and_then(|()| out.to.flush()).is_err() {
            self.gone.cancel();
        }
    }

    // A line is put whole or the history is over: nothing here is left half changed.
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An operation under way.
pub(super) struct Op {
    history: Arc<History>,
    line: Line,
    failed: Option<Failure>,
}

impl Op {
    /// What it is about: a register, a user, a room, or a user in a room.
    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.line.key = Some(key.into());
        self
    }

    /// What is written, and over which revision.
    pub(super) fn writes(mut self, value: &str, expected: u64) -> Self {
        self.line.value = Some(value.to_owned());
        self.line.expected = Some(expected);
        self
    }

    /// What is said.
    pub(super) fn says(mut self, text: &str) -> Self {
        self.line.value = Some(text.to_owned());
        self
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.line.op
    }

    /// Notes that a node is tried.
    pub(super) fn tries(&mut self, node: &str) {
        self.line.tried.push(node.to_owned());
        self.line.attempts += 1;
    }

    /// Notes that the same attempt goes on at another node, because the one before was not there.
    pub(super) fn goes_on_at(&mut self, node: &str) {
        self.line.tried.push(node.to_owned());
    }

    /// Notes that an attempt failed. Once anything is unknown, all of it is.
    pub(super) fn failed(&mut self, failure: &Failure) {
        let failure = failure.clone();
        self.failed = Some(match self.failed.take() {
            None => failure,
            Some(before) => Failure {
                certain: failure.certain && before.certain,
                why: format!("{}; then {}", before.why, failure.why),
                ..failure
            },
        });
    }

    /// Whether an attempt before may have had an effect.
    pub(super) fn in_doubt(&self) -> bool {
        self.failed.as_ref().is_some_and(|before| !before.certain)
    }

    /// It was acknowledged by `node`.
    pub(super) fn ok(mut self, node: &str) {
        self.line.node = Some(node.to_owned());
        self.line.outcome = Outcome::Ok;
        self.failed = None;
    }

    /// It was acknowledged by `node`, with what was written or read.
    pub(super) fn ok_at(mut self, node: &str, value: Option<String>, revision: u64) {
        self.line.value = value.or(self.line.value.take());
        self.line.revision = Some(revision);
        self.ok(node);
    }

    /// All of a room's history was read, and this was there.
    pub(super) fn ok_with(mut self, node: &str, found: Vec<Found>) {
        self.line.found = found;
        self.ok(node);
    }

    /// It certainly did not happen, whatever was in doubt before.
    pub(super) fn did_not_happen(mut self, why: &str) {
        self.failed = Some(Failure::certain(why));
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(failure) = self.failed.take() {
            self.line.outcome = if failure.certain { Outcome::Refused } else { Outcome::Unknown };
            self.line.why = Some(failure.why);
            self.line.code = Some(failure.code);
        } else if self.line.outcome != Outcome::Ok {
            self.line.why = Some("the run ended before its outcome was known".to_owned());
        }
        self.line.end_us = self.history.now_us();
        self.history.record(&self.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(work: impl FnOnce(&Arc<History>)) -> Vec<Value> {
        let sink = Sink::default();
        let history = Arc::new(History::new(Box::new(sink.clone()), Shown::Json));
        work(&history);
        history.end();
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_operation_that_begins_is_written_down() {
        let said = lines(|history| {
            let mut write = history.begin(Kind::Write).key("3").writes("v", 7);
            drop(history.begin(Kind::Connect));
            write.tries("a");
            write.failed(&Failure::certain("no lease"));
            write.tries("b");
            write.ok_at("b", None, 9);
        });
        assert_eq!((said[0]["op"].clone(), said[0]["outcome"].clone()), (1.into(), "unknown".into()));
        assert_eq!(said[1]["op"], 0);
        assert_eq!((said[1]["outcome"].clone(), said[1]["attempts"].clone()), ("ok".into(), 2.into()));
        assert_eq!((said[1]["expected"].clone(), said[1]["revision"].clone()), (7.into(), 9.into()));
        assert_eq!((said[1]["tried"].clone(), said[1]["why"].clone()), (serde_json::json!(["a", "b"]), Value::Null));
        assert_eq!((said[2]["event"].clone(), said[2]["ops"].clone()), ("end".into(), 2.into()));
    }

    #[test]
    fn doubt_stays_until_it_is_resolved() {
        let said = lines(|history| {
            let mut op = history.begin(Kind::Write);
            op.failed(&Failure::unknown("no answer"));
            op.failed(&Failure::certain("no lease"));
            assert!(op.in_doubt());
            drop(op);
            let mut op = history.begin(Kind::Write);
            op.failed(&Failure::unknown("no answer"));
            op.did_not_happen("the register says so");
        });
        assert_eq!(said[0]["outcome"], "unknown");
        assert_eq!(said[1]["outcome"], "refused");
    }
}
