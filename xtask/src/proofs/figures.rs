//! Figures and what they should be; and what the processes of a node use, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use unibus_ops::ui::{Cell, Style, Table};

/// The kernel counts processor time in hundredths of a second on every machine that we support.
const TICKS_A_SECOND: u32 = 100;

/// What a process used so far, and has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time.
    pub(super) processor: Duration,
    /// Memory that it has, in bytes.
    pub(super) memory: u64,
}

/// What process `pid` uses.
pub(super) fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let processor = processor(&stat).context("the kernel's line about a process is not understood")?;
    Ok(Usage { processor, memory: memory(&status).context("a process without memory")? })
}

/// The engine of the daemon `pid`: the one child that it has.
pub(super) fn child(pid: u32) -> Result<u32> {
    child_of(pid)?.with_context(|| format!("the daemon {pid} has no engine"))
}

/// A child of process `pid`, if it has one.
pub(super) fn child_of(pid: u32) -> Result<Option<u32>> {
    let all = fs::read_dir("/proc").context("reading /proc")?;
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        fields(&stat).is_some_and(|mut fields| fields.nth(1) == Some(pid.to_string().as_str()))
    };
    Ok(numbers.into_iter().find(is_child))
}

/// What follows the name, which may have any character in it: state, parent and so on.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

fn processor(stat: &str) -> Option<Duration> {
    let ticks: u64 = fields(stat)?.skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_secs(ticks) / TICKS_A_SECOND)
}

/// The most memory that process `pid` has had at once, in bytes; none: it is gone.
pub(super) fn peak(pid: u32) -> Option<u64> {
    bytes_of(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM:")
}

fn memory(status: &str) -> Option<u64> {
    bytes_of(status, "VmRSS:")
}

fn bytes_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A figure, and what it should be.
pub(super) struct Figure {
    what: String,
    is: f64,
    unit: &'static str,
    target: Target,
}

#[derive(Clone, Copy)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// It is told, and has no target.
    None,
}

/// Shows the figures; an error where one misses its target.
pub(super) fn judge(figures: &[Figure]) -> Result<()> {
    out!("{}", table(figures));
    let missed = figures.iter().filter(|figure| !figure.reached()).count();
    ensure!(missed == 0, "{missed} of {} figures miss their target", figures.len());
    Ok(())
}

impl Figure {
    /// `what` is `is`, and should be as `target` says.
    pub(super) fn new(what: &str, is: f64, unit: &'static str, target: Target) -> Self {
        Self { what: what.to_owned(), is, unit, target }
    }

    pub(super) fn reached(&self) -> bool {
        match self.target {
            Target::AtLeast(least) => self.is >= least,
            Target::AtMost(most) => self.is <= most,
            Target::None => true,
        }
    }
}

/// The figures, each with its verdict.
fn table(figures: &[Figure]) -> String {
    let mut table = Table::new(&["figure", "is", "", "should be"]);
    for figure in figures {
        let target = match figure.target {
            Target::AtLeast(least) => format!("at least {least}"),
            Target::AtMost(most) => format!("at most {most}"),
            Target::None => "-".to_owned(),
        };
        let digits = if figure.is < 10.0 { 3 } else { 1 };
        let is = Cell::judged(figure.reached(), format!("{:.digits$}", figure.is));
        table.row(vec![figure.what.as_str().into(), is, figure.unit.into(), target.into()]);
    }
    table.render(Style::stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_understood_whatever_a_process_calls_itself() {
        let stat = "7 (a) b (c) S 42 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(processor(stat), Some(Duration::from_secs(3)));
        assert_eq!(fields(stat).unwrap().nth(1), Some("42"));
        assert_eq!(memory("Name:\tx\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
        let own = usage(std::process::id()).unwrap().memory;
        assert!(own > 0 && peak(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn a_figure_says_whether_it_is_what_it_should_be() {
        let reached = |is, target| Figure::new("x", is, "", target).reached();
        assert!(reached(100.0, Target::AtLeast(100.0)) && !reached(99.9, Target::AtLeast(100.0)));
        assert!(reached(0.0, Target::AtMost(0.0)) && !reached(1.0, Target::AtMost(0.0)) && reached(1.0, Target::None));
        let shown = table(&[Figure::new("rooms made", 123.45, "a second", Target::AtLeast(100.0))]);
        assert!(shown.contains("123.5") && shown.contains("at least 100"), "{shown}");
    }
}
