//! What was measured, as figures, and as ratios to the bare engine.

use std::time::Duration;

use serde_json::{Value, json};

use super::conversation::Spoken;
use super::drive::Measured;

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    /// The node that was asked.
    pub node: String,
    /// Inserts into the bare engine.
    pub inserts: Measured,
    /// Requests without signature and nonce.
    pub unsigned: Measured,
    /// Signed reads.
    pub reads: Measured,
    /// Signed writes.
    pub writes: Measured,
    /// Connections of a key that the engine knows.
    pub known: Measured,
    /// Connections through the callout.
    pub admitted: Measured,
    /// Inserts one after the other.
    pub alone: Measured,
    /// Fenced removals one after the other.
    pub removed: Measured,
    /// Conversations.
    pub spoken: Spoken,
}

/// How the daemon compares to its engine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Of what to what.
    pub name: &'static str,
    /// The ratio.
    pub is: f64,
    /// What it should be.
    pub target: Target,
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

impl Ratio {
    /// Whether the target is reached.
    pub fn reached(&self) -> bool {
        match self.target {
            Target::AtLeast(least) => self.is >= least,
            Target::AtMost(most) => self.is <= most,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::AtLeast(least) => write!(f, "at least {least}"),
            Target::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

impl Report {
    /// Everything by its name.
    pub fn figures(&self) -> [(&'static str, &Measured); 17] {
        let Spoken { bare, together, single, kept, bare_delay, delay, acknowledged, seen, history } = &self.spoken;
        [
            ("inserts, bare engine", &self.inserts),
            ("unsigned requests", &self.unsigned),
            ("signed reads", &self.reads),
            ("signed writes", &self.writes),
            ("connections, key known to the engine", &self.known),
            ("connections through the callout", &self.admitted),
            ("inserts one by one, bare engine", &self.alone),
            ("fenced removals one by one", &self.removed),
            ("messages from one to three, bare bus", bare),
            ("messages said and read, 64 in a frame", together),
            ("messages said and read, one in a frame", single),
            ("messages said, read and kept, 64 in a frame", kept),
            ("messages one by one to three, bare bus", bare_delay),
            ("messages said and read one by one", delay),
            ("messages one by one until acknowledged", acknowledged),
            ("messages one by one until the history shows them", seen),
            ("histories of 1,000 messages opened", history),
        ]
    }

    /// The ratios.
    pub fn ratios(&self) -> [Ratio; 8] {
        let speed = |of: &Measured, to: &Measured| of.per_second() / to.per_second();
        let p99 = |of: &Measured| of.percentile(99).unwrap_or_default().as_secs_f64();
        let ratio = |name, is, target| Ratio { name, is, target };
        let Spoken { bare, together, kept, bare_delay, delay, history, .. } = &self.spoken;
        let history = history.percentile(50).unwrap_or_default().as_secs_f64() * 1e3;
        [
            ratio("signed reads a second to inserts", speed(&self.reads, &self.inserts), Target::AtLeast(0.6)),
            ratio("signed writes a second to inserts", speed(&self.writes, &self.inserts), Target::AtLeast(0.25)),
            ratio("admissions a second to known keys", speed(&self.admitted, &self.known), Target::AtLeast(0.5)),
            ratio("p99 of a removal to that of an insert", p99(&self.removed) / p99(&self.alone), Target::AtMost(5.0)),
            ratio("messages said and read a second to bare ones", speed(together, bare), Target::AtLeast(0.5)),
            ratio("messages kept a second to inserts", speed(kept, &self.inserts), Target::AtLeast(0.5)),
            ratio("p99 of say to tail to that of the bare bus", p99(delay) / p99(bare_delay), Target::AtMost(5.0)),
            ratio("milliseconds to open 1,000 messages", history, Target::AtMost(100.0)),
        ]
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let us = |time: Option<Duration>| time.map(|time| time.as_micros());
        let figures = self.figures().map(|(name, of)| {
            json!({
                "name": name, "count": of.count(), "per_second": of.per_second(),
                "p50_us": us(of.percentile(50)), "p99_us": us(of.percentile(99)),
            })
        });
        let ratios = self.ratios().map(|ratio| {
            let (word, target) = match ratio.target {
                Target::AtLeast(least) => ("at_least", least),
                Target::AtMost(most) => ("at_most", most),
            };
            json!({ "name": ratio.name, "is": ratio.is, (word): target, "reached": ratio.reached() })
        });
        json!({ "node": self.node, "figures": figures, "ratios": ratios })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(ms: u64) -> Measured {
        let mut measured = Measured::none();
        (0..10).for_each(|_| measured.note(Duration::from_millis(ms)));
        measured
    }

    #[test]
    fn ratios_are_those_of_what_was_measured_and_say_when_they_miss() {
        let report = Report {
            node: "a".to_owned(),
            inserts: each(2),
            unsigned: each(1),
            reads: each(4),
            writes: each(4),
            known: each(5),
            admitted: each(10),
            alone: each(1),
            removed: each(6),
            spoken: Spoken {
                bare: each(1),
                together: each(2),
                single: each(3),
                kept: each(5),
                bare_delay: each(1),
                delay: each(4),
                acknowledged: each(2),
                seen: each(9),
                history: each(99),
            },
        };
        let ratios = report.ratios().map(|ratio| ((ratio.is * 100.0).round(), ratio.reached()));
        let first = [(50.0, false), (50.0, true), (50.0, true), (600.0, false)];
        assert_eq!(ratios[..4], first);
        assert_eq!(ratios[4..], [(50.0, true), (40.0, false), (400.0, true), (9900.0, true)]);
        let json = report.to_json();
        assert_eq!(json.pointer("/ratios/3/at_most"), Some(&json!(5.0)));
        assert_eq!(json.pointer("/figures/0/p50_us"), Some(&json!(2000)));
    }
}
