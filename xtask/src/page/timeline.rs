//! What clients noticed over time, as a picture: a lane for each kind of operation, a column a second, a band for each fault.

use std::fmt::Write as _;

use super::escape;

/// A picture of what clients noticed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) title: String,
    /// Length, seconds.
    pub(crate) seconds: f64,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) bands: Vec<Band>,
}

/// The operations of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) marks: Vec<Mark>,
}

/// An operation, where it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// Seconds after the beginning.
    pub(crate) at: f64,
    pub(crate) outcome: Outcome,
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Refused,
    Unknown,
}

/// A stretch of time with a fault in it.
#[derive(Clone, Debug)]
pub(crate) struct Band {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) label: String,
}

const WIDTH: f64 = 1100.0;
/// Room for the names of the lanes.
const LEFT: f64 = 90.0;
const LANE: f64 = 44.0;
const GAP: f64 = 12.0;
/// A row of labels; there are two, so that neighbours do not run into each other.
const LABEL: f64 = 14.0;
const LABELS: f64 = 2.0 * LABEL + 6.0;

impl Outcome {
    const ALL: [Self; 3] = [Self::Ok, Self::Unknown, Self::Refused];

    const fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl Timeline {
    /// Heading, key and picture.
    pub(super) fn html(&self) -> String {
        let scale = (WIDTH - LEFT) / self.seconds.max(1.0);
        let x = |at: f64| LEFT + at.clamp(0.0, self.seconds) * scale;
        let mut top = LABELS;
        let mut lanes = String::new();
        for lane in &self.lanes {
            lanes.push_str(&lane.svg(top, scale, &x));
            top += LANE + GAP;
        }
        let mut bands = String::new();
        for (index, band) in self.bands.iter().enumerate() {
            let (from, to) = (x(band.from), x(band.to));
            let row = if index.is_multiple_of(2) { LABEL } else { 2.0 * LABEL };
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(
                bands,
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{LABELS}\" width=\"{:.1}\" height=\"{:.1}\"/>\
                 <text x=\"{from:.1}\" y=\"{:.1}\">{}</text>",
                (to - from).max(1.0),
                top - LABELS - GAP,
                row,
                escape(&band.label)
            );
        }
        let key = Outcome::ALL.map(|outcome| {
            let class = outcome.class();
            format!("<span style=\"background:var(--{class})\"></span>{class}")
        });
        format!(
            "<h2>{}</h2>\n<p class=\"key dim\">operations by the second they ended in:{}; grey: a fault</p>\n\
             <svg viewBox=\"0 0 {WIDTH} {:.0}\" role=\"img\">\n{bands}{lanes}{}</svg>\n",
            escape(&self.title),
            key.concat(),
            top + LABEL,
            self.axis(top, &x)
        )
    }

    fn axis(&self, top: f64, x: &dyn Fn(f64) -> f64) -> String {
        let every = [5.0, 10.0, 30.0, 60.0, 120.0].into_iter().find(|e| self.seconds / e <= 15.0).unwrap_or(300.0);
        let mut out = String::new();
        let mut at = 0.0;
        while at <= self.seconds {
            let _ = writeln!(
                out,
                "<line class=\"axis\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{LABELS}\" y2=\"{1:.1}\"/>\
                 <text class=\"dim\" x=\"{0:.1}\" y=\"{2:.1}\">{at:.0} s</text>",
                x(at),
                top - GAP,
                top + 2.0
            );
            at += every;
        }
        out
    }
}

impl Lane {
    fn svg(&self, top: f64, scale: f64, x: &dyn Fn(f64) -> f64) -> String {
        let mut out = format!("<text x=\"0\" y=\"{:.1}\">{}</text>\n", top + LANE / 2.0, escape(&self.name));
        let mut seconds: std::collections::BTreeMap<u64, [u32; 3]> = std::collections::BTreeMap::new();
        for mark in &self.marks {
            // Whole seconds since the beginning: the sign and the fraction are dropped on purpose.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let counts = seconds.entry(mark.at.max(0.0) as u64).or_default();
            for (count, outcome) in counts.iter_mut().zip(Outcome::ALL) {
                *count += u32::from(outcome == mark.outcome);
            }
        }
        let most = seconds.values().map(|counts| counts.iter().sum::<u32>()).max().unwrap_or(1);
        let each = LANE / f64::from(most.max(1));
        for (second, counts) in seconds {
            #[expect(clippy::cast_precision_loss)]
            let left = x(second as f64);
            let mut bottom = top + LANE;
            for (count, outcome) in counts.into_iter().zip(Outcome::ALL).filter(|(count, _)| *count > 0) {
                let height = each * f64::from(count);
                bottom -= height;
                let _ = writeln!(
                    out,
                    "<rect class=\"{}\" x=\"{left:.1}\" y=\"{bottom:.1}\" width=\"{:.1}\" height=\"{height:.1}\">\
                     <title>{second} s: {count} {0}</title></rect>",
                    outcome.class(),
                    (scale - 0.5).max(0.5)
                );
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline() -> Timeline {
        let mark = |at, outcome| Mark { at, outcome };
        let marks = vec![mark(0.2, Outcome::Ok), mark(0.8, Outcome::Refused), mark(9.0, Outcome::Unknown)];
        Timeline {
            title: "faults".to_owned(),
            seconds: 10.0,
            lanes: vec![Lane { name: "writes".to_owned(), marks }],
            bands: vec![Band { from: 2.0, to: 5.0, label: "kill <magnus>".to_owned() }],
        }
    }

    #[test]
    fn a_second_shows_each_outcome_by_its_share() {
        let html = timeline().html();
        for part in ["0 s: 1 ok", "0 s: 1 refused", "9 s: 1 unknown", "height=\"22.0\""] {
            assert!(html.contains(part), "{part}\n{html}");
        }
    }

    #[test]
    fn a_fault_is_a_labelled_band_where_it_was() {
        let html = timeline().html();
        assert!(html.contains("kill &lt;magnus&gt;"), "{html}");
        // A tenth of the width is 101: two seconds of ten begin at 90 + 202.
        assert!(html.contains("class=\"band\" x=\"292.0\""), "{html}");
    }

    #[test]
    fn nothing_at_all_is_still_a_picture() {
        assert!(Timeline::default().html().contains("<svg"));
    }
}
