//! The verdict on a run, as data: what the table shows, what `--json` prints, what a picture is drawn from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::history::Kind;

pub(crate) const SCHEMA: u32 = 1;

/// The rules, each broken by some operation or by the lack of some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rule {
    /// A write that was acknowledged is not there any more.
    LostWrite,
    /// A write that was reported as certainly not done is there.
    RefusedWriteSeen,
    /// Something was granted although no quorum could have proved that it may be.
    ServedWithoutQuorum,
    /// A user whose disabling was acknowledged was served.
    DisabledUserServed,
    /// Somebody whose removal from a room was acknowledged had a right in it.
    RemovedMemberServed,
    /// What several changed at once by compare-and-set cannot have happened in any order.
    NotLinearizable,
    /// A message that was acknowledged is missing in the history of its room, as somebody reads it.
    LostMessage,
    /// A message is in the history of its room more than once.
    DoubledMessage,
    /// Members read the messages of a room in different orders, or in one in which they cannot have been said.
    MessagesDisordered,
    /// Something is in the history of a room that no member said, or that clients refuse.
    ForeignMessage,
    /// There was too little of something for the window to prove anything.
    TooLittleLoad,
    /// Something failed where nothing may.
    FailedOperation,
    /// The cluster was not well again in time.
    NotHealed,
    /// The history has gaps, so nothing can be said.
    IncompleteHistory,
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    /// The operation that shows it.
    pub(crate) op: Option<u64>,
    /// When.
    pub(crate) at_us: u64,
    pub(crate) what: String,
}

/// One kind of operation within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) attempted: usize,
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
    /// Longest time between two acknowledgements, or between one and the window's edge.
    pub(crate) longest_gap_ms: u64,
}

/// A stretch of the run, and what was done to the cluster in it. Windows follow each other without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) fault: String,
    pub(crate) nodes: Vec<String>,
    /// Whether a majority was there all the time.
    pub(crate) quorum: bool,
    pub(crate) begin_us: u64,
    /// When the fault was complete.
    pub(crate) injected_us: u64,
    /// When it began to be taken back.
    pub(crate) heal_us: u64,
    pub(crate) end_us: u64,
    /// What was not well at the end of it; the violations say so.
    #[serde(skip)]
    pub(crate) ill: Option<String>,
}

/// What happened in one window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JudgedWindow {
    #[serde(flatten)]
    pub(crate) window: Window,
    pub(crate) kinds: BTreeMap<Kind, Tally>,
    /// Until writes and connects through the other nodes succeeded promptly again, for good: from the fault; where there was
    /// no quorum, from the repair. None: not within the window, or there was no fault.
    pub(crate) recovery_ms: Option<u64>,
    pub(crate) violations: Vec<Violation>,
}

/// How many operations ended in which way in each step of time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) ok: Vec<u32>,
    pub(crate) refused: Vec<u32>,
    pub(crate) unknown: Vec<u32>,
    /// Refused as well, but because another write of the same record came first, as it must.
    #[serde(default)]
    pub(crate) conflict: Vec<u32>,
}

impl Series {
    /// How many steps of time there are.
    pub(crate) fn len(&self) -> usize {
        [&self.ok, &self.refused, &self.unknown, &self.conflict].map(Vec::len).into_iter().max().unwrap_or_default()
    }

    /// Acknowledged, refused, unknown and conflicts, step by step.
    pub(crate) fn iter(&self) -> impl Iterator<Item = [u32; 4]> {
        let of = |series: &[u32], step: usize| series.get(step).copied().unwrap_or_default();
        (0..self.len())
            .map(move |step| [&self.ok, &self.refused, &self.unknown, &self.conflict].map(|series| of(series, step)))
    }
}

/// Availability over time, for a picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Timeline {
    pub(crate) origin_us: u64,
    pub(crate) step_us: u64,
    pub(crate) kinds: BTreeMap<Kind, Series>,
}

/// How much was said and read in a room that keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conversation {
    pub(crate) room: String,
    pub(crate) acknowledged: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
    /// Who has read how many messages in the end.
    pub(crate) readers: BTreeMap<String, usize>,
    /// How often anybody has read all that there was: after each fault, and in the end.
    #[serde(default)]
    pub(crate) readings: usize,
}

/// The verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) schema: u32,
    pub(crate) ok: bool,
    /// After this time without a quorum, or after a revocation, nobody may be served.
    pub(crate) bound_ms: u64,
    pub(crate) windows: Vec<JudgedWindow>,
    /// What was said, over the whole run.
    #[serde(default)]
    pub(crate) conversations: Vec<Conversation>,
    /// What is wrong with the run as a whole.
    pub(crate) violations: Vec<Violation>,
    pub(crate) timeline: Timeline,
}

impl Verdict {
    /// Every broken rule, with the name of the window it belongs to.
    pub(crate) fn all_violations(&self) -> impl Iterator<Item = (&str, &Violation)> {
        let within =
            self.windows.iter().flat_map(|window| window.violations.iter().map(|v| (window.window.fault.as_str(), v)));
        within.chain(self.violations.iter().map(|violation| ("the run", violation)))
    }
}
