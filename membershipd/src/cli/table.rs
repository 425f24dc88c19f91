//! Tables for people: columns as wide as their content.

use std::fmt;

use serde::Serialize;
use unibus_names::printable::one_line;

/// A table of text.
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings; none: without a heading.
    pub(super) fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|h| h.to_uppercase()).collect(), rows: Vec::new() }
    }

    /// Adds a row. A line break in a cell would be a row of its own, so none is left in it.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| one_line(cell).into_owned()).collect());
    }

    /// Whether there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// The word by which programs know a value.
pub(super) fn word(value: impl Serialize) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).filter(|head| !head.is_empty()).chain(&self.rows);
        let columns = lines().map(Vec::len).max().unwrap_or(0);
        let cell = |line: &Vec<String>, column: usize| line.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> =
            (0..columns).map(|c| lines().map(|l| cell(l, c).chars().count()).max().unwrap_or(0)).collect();
        for line in lines() {
            let cells: Vec<String> =
                widths.iter().enumerate().map(|(c, width)| format!("{:width$}", cell(line, c))).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}
