//! Who may work on a cluster: what a lock says, and what the answers of the nodes mean. Pure; `locking` talks to the nodes.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use unibus_names::{SHA256_DIGITS, is_lower_hex};

use crate::topology::majority;

/// The form of a record; one with another number is somebody's, but not to be understood.
const SCHEMA: u32 = 1;
/// How much of a text that a node sent is shown.
const SHOWN: usize = 200;

/// What lies on every node while somebody works on the cluster. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    schema: u32,
    /// user@host.
    pub holder: String,
    pub process: Process,
    /// UTC, by the holder's clock.
    pub since: String,
    pub verb: String,
    /// Tells this run from every other.
    pub(crate) token: String,
}

/// One process of one machine, so exactly that a later one with its number is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub pid: u32,
    /// When it began, in the words of its system.
    pub started: String,
    /// Which boot of the machine it belongs to.
    pub boot: String,
    /// Where its number counts: the inside of a container has numbers of its own.
    pub space: String,
    /// The machine, where it has a name that nobody else has.
    pub machine: Option<String>,
}

impl Record {
    /// A record of today's form.
    pub(crate) fn new(holder: String, process: Process, since: String, verb: &str, token: String) -> Self {
        Self { schema: SCHEMA, holder, process, since, verb: verb.to_owned(), token }
    }

    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|record: &Self| record.schema == SCHEMA)
    }

    /// As people read it.
    fn shown(&self) -> String {
        let Self { holder, process, since, verb, .. } = self;
        printable(&format!("{holder} (pid {}) since {since} for '{verb}'", process.pid))
    }

    /// Whether the run that left this record is over for certain. `me` is who asks, `started` says when a process of this
    /// machine began that still runs.
    fn is_over(&self, me: &Self, started: &dyn Fn(u32) -> Option<String>) -> bool {
        let (its, mine) = (&self.process, &me.process);
        if self.holder != me.holder || its.boot.is_empty() {
            return false;
        }
        if its.boot != mine.boot {
            // The same machine was started anew since; or it is another machine of the same name.
            return its.machine.is_some() && its.machine == mine.machine;
        }
        its.space == mine.space && started(its.pid).as_ref() != Some(&its.started)
    }
}

/// What came of asking one node for its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What lies there now: the sha256 of it, and its text.
    Lies { sha256: String, text: String },
    /// No answer, and why.
    Silent(String),
}

impl Answer {
    /// Reads what [`super::locking`]'s command prints: a line with the hash, then the record.
    pub(crate) fn read(said: &str) -> Self {
        let (hash, text) = said.split_once('\n').unwrap_or((said, ""));
        let sha256 = hash.split_whitespace().next().unwrap_or_default();
        if !is_lower_hex(sha256, SHA256_DIGITS) {
            return Self::Silent(format!("it answered '{}' when asked for its lock", printable(said)));
        }
        Self::Lies { sha256: sha256.to_owned(), text: text.trim_end().to_owned() }
    }
}

/// How one node stands to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is ours.
    Ours,
    /// It belongs to a run of ours that is over; with its hash.
    Over { sha256: String, who: String },
    /// It belongs to somebody else; with its hash.
    Foreign { sha256: String, who: String },
    /// Nobody knows.
    Silent(String),
}

impl Held {
    /// What an answer means for `me`.
    pub(crate) fn of(answer: &Answer, me: &Record, started: &dyn Fn(u32) -> Option<String>) -> Self {
        let (sha256, text) = match answer {
            Answer::Silent(why) => return Self::Silent(why.clone()),
            Answer::Lies { sha256, text } => (sha256.clone(), text),
        };
        match Record::read(text) {
            Some(record) if record.token == me.token => Self::Ours,
            Some(record) if record.is_over(me, started) => Self::Over { sha256, who: record.shown() },
            Some(record) => Self::Foreign { sha256, who: record.shown() },
            None => Self::Foreign { sha256, who: format!("a lock this xtask cannot read: '{}'", printable(text)) },
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority is ours.
    Granted,
    /// Ask these nodes again, each with the hash of what may be replaced there.
    Replace(Vec<(usize, String)>),
    /// No majority: give back what was granted. Waiting may help if somebody holds it.
    Refused { held: bool, why: String },
}

/// Judges the whole cluster. `may_replace` are the hashes of foreign locks that the operator has said to break; a run that is
/// over is replaced anyhow. What was `tried` already is not tried again: whoever holds it now is somebody else.
pub(crate) fn judge(nodes: &[Held], may_replace: &[String], tried: &[(usize, String)]) -> Verdict {
    let replaceable = nodes.iter().enumerate().filter_map(|(at, held)| match held {
        Held::Over { sha256, .. } => Some((at, sha256.clone())),
        Held::Foreign { sha256, .. } if may_replace.contains(sha256) => Some((at, sha256.clone())),
        _ => None,
    });
    let replace: Vec<_> = replaceable.filter(|one| !tried.contains(one)).collect();
    if !replace.is_empty() {
        return Verdict::Replace(replace);
    }
    let ours = nodes.iter().filter(|held| **held == Held::Ours).count();
    let wanted = majority(nodes.len());
    if ours >= wanted {
        return Verdict::Granted;
    }
    let held = nodes.iter().any(|held| matches!(held, Held::Foreign { .. } | Held::Over { .. }));
    let total = nodes.len();
    let mut why = format!("the cluster's lock was granted by {ours} of {total} nodes, {wanted} are needed");
    if held {
        why.push_str(
            "; wait until it is given back: --wait-lock SECONDS; or, if that run is over for certain, break it: --break-lock",
        );
    }
    Verdict::Refused { held, why }
}

/// Text of a node, fit for a terminal: no control characters, and not endless.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.trim_end().chars().take(SHOWN) {
        if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(holder: &str, pid: u32, token: &str) -> Record {
        let process = Process {
            pid,
            started: "77".to_owned(),
            boot: "boot-1".to_owned(),
            space: "pid:[1]".to_owned(),
            machine: Some("m".to_owned()),
        };
        Record::new(holder.to_owned(), process, "2026-11-23T00:05:41Z".to_owned(), "roll", token.to_owned())
    }

    pub(crate) fn text(record: &Record) -> String {
        serde_json::to_string(record).unwrap()
    }

    fn lies(record: &Record) -> Answer {
        Answer::Lies { sha256: format!("hash of {}", record.token), text: text(record) }
    }

    /// Only process 1 runs here; it began at 77.
    fn started(pid: u32) -> Option<String> {
        (pid == 1).then(|| "77".to_owned())
    }

    fn held(answers: &[Answer], me: &Record) -> Vec<Held> {
        answers.iter().map(|answer| Held::of(answer, me, &started)).collect()
    }

    #[test]
    fn a_majority_is_enough_and_less_is_not() {
        let me = record("anna@laptop", 1, "me");
        let (ours, silent) = (lies(&me), Answer::Silent("no route to host".to_owned()));
        let judged = |answers: &[Answer]| judge(&held(answers, &me), &[], &[]);
        assert_eq!(judged(&[ours.clone(), ours.clone(), silent.clone()]), Verdict::Granted);
        let one = judged(&[ours.clone(), silent.clone(), silent.clone()]);
        assert!(matches!(&one, Verdict::Refused { held: false, why } if why.contains("1 of 3 nodes, 2")), "{one:?}");
        let two_of_five = [ours.clone(), ours, silent.clone(), silent.clone(), silent];
        assert!(matches!(judged(&two_of_five), Verdict::Refused { .. }));
    }

    #[test]
    fn of_two_operators_at_most_one_has_a_majority() {
        // Whatever lies on the nodes, each node names one holder; so count every way three nodes can lie.
        let (anna, bert) = (record("anna@laptop", 1, "a"), record("bert@desk", 1, "b"));
        for state in 0..27_u32 {
            let answers: Vec<Answer> = (0..3)
                .map(|node| match state / 3_u32.pow(node) % 3 {
                    0 => lies(&anna),
                    1 => lies(&bert),
                    _ => Answer::Silent("off".to_owned()),
                })
                .collect();
            let both = [&anna, &bert].map(|me| judge(&held(&answers, me), &[], &[]) == Verdict::Granted);
            assert_ne!(both, [true, true], "{answers:?}");
        }
    }

    #[test]
    fn a_foreign_lock_is_named_with_the_way_out() {
        let me = record("bert@desk", 1, "b");
        let there = Held::of(&lies(&record("anna@laptop", 4711, "a")), &me, &started);
        let Held::Foreign { who, .. } = &there else { panic!("{there:?}") };
        assert_eq!(who, "anna@laptop (pid 4711) since 2026-11-23T00:05:41Z for 'roll'");
        let verdict = judge(&[there.clone(), there.clone(), there], &[], &[]);
        let Verdict::Refused { held: true, why } = verdict else { panic!("{verdict:?}") };
        assert!(why.contains("--wait-lock") && why.contains("--break-lock"), "{why}");
    }

    #[test]
    fn a_run_of_ours_is_over_only_if_that_is_certain() {
        let me = record("anna@laptop", 1, "me");
        let judged = |change: &dyn Fn(&mut Record)| {
            let mut there = record("anna@laptop", 2, "old");
            change(&mut there);
            matches!(Held::of(&lies(&there), &me, &started), Held::Over { .. })
        };
        assert!(judged(&|_| ()), "its process is gone");
        assert!(!judged(&|there| there.process.pid = 1), "it runs");
        assert!(
            judged(&|there| {
                there.process.pid = 1;
                there.process.started = "5".to_owned();
            }),
            "another process has its number now"
        );
        assert!(!judged(&|there| there.holder = "bert@laptop".to_owned()), "somebody else's");
        assert!(!judged(&|there| there.process.boot = String::new()), "its system could not tell");
        assert!(!judged(&|there| there.process.space = "pid:[2]".to_owned()), "its numbers are not ours to look at");
        assert!(judged(&|there| there.process.boot = "boot-0".to_owned()), "the machine was started anew");
        assert!(
            !judged(&|there| {
                there.process.boot = "boot-0".to_owned();
                there.process.machine = Some("another".to_owned());
            }),
            "a machine of the same name"
        );
        assert!(!judged(&|there| {
            there.process.boot = "boot-0".to_owned();
            there.process.machine = None;
        }));
    }

    #[test]
    fn what_is_over_is_replaced_once_and_a_foreign_one_only_on_purpose() {
        let me = record("anna@laptop", 1, "me");
        let over = Held::of(&lies(&record("anna@laptop", 2, "old")), &me, &started);
        let foreign = Held::of(&lies(&record("bert@desk", 2, "b")), &me, &started);
        let nodes = [Held::Ours, over, foreign];
        let old = (1, "hash of old".to_owned());
        assert_eq!(judge(&nodes, &[], &[]), Verdict::Replace(vec![old.clone()]));
        assert!(
            matches!(judge(&nodes, &[], std::slice::from_ref(&old)), Verdict::Refused { held: true, .. }),
            "another took it"
        );
        let breaks = ["hash of b".to_owned()];
        let bert = (2, "hash of b".to_owned());
        assert_eq!(judge(&nodes, &breaks, &[]), Verdict::Replace(vec![old.clone(), bert.clone()]));
        // A lock that turned up since is not the one that was to be broken.
        let nodes = [Held::Ours, Held::Foreign { sha256: "new".to_owned(), who: String::new() }, Held::Ours];
        assert_eq!(judge(&nodes, &breaks, &[old, bert]), Verdict::Granted);
        assert!(matches!(judge(&nodes[..2], &breaks, &[]), Verdict::Refused { .. }));
    }

    #[test]
    fn what_cannot_be_read_is_somebody_elses() {
        let me = record("anna@laptop", 1, "me");
        let mut newer = serde_json::to_value(record("anna@laptop", 2, "x")).unwrap();
        newer["schema"] = 2.into();
        for text in ["", "\u{1b}[31mred\n", "{}", &newer.to_string()] {
            let hash = "ab".repeat(32);
            let answer = Answer::read(format!("{hash}  -\n{text}").trim_end());
            let there = Held::of(&answer, &me, &started);
            assert!(matches!(&there, Held::Foreign { sha256, who } if *sha256 == hash && !who.contains('\u{1b}')));
        }
        assert!(matches!(Answer::read("what?"), Answer::Silent(_)));
    }
}
