//! What a person sees: colour where a terminal wants it, one line of progress a node, tables, the next command.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;
use unibus_names::printable::{one_line, printable};
use unicode_width::UnicodeWidthStr;

/// How a word is meant; shown as a colour where there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    /// As the terminal has it.
    Plain,
    /// Something is as it should be.
    Good,
    /// Something is wrong.
    Bad,
    /// Something may be wrong.
    Warn,
    /// Beside the point.
    Dim,
    /// A title.
    Bold,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warn => "33",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// What one output stream can show.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
    /// The width of the terminal; none where it is no terminal.
    columns: Option<usize>,
}

impl Style {
    /// For what goes to standard output.
    pub fn stdout() -> Self {
        Self::decide(&io::stdout())
    }

    /// For what goes to standard error.
    pub fn stderr() -> Self {
        Self::decide(&io::stderr())
    }

    /// Never any colour, and as wide as it takes.
    pub const fn plain() -> Self {
        Self { colour: false, columns: None }
    }

    /// Never any colour, on a terminal of that width.
    #[cfg(test)]
    pub(crate) const fn of_width(columns: usize) -> Self {
        Self { colour: false, columns: Some(columns) }
    }

    fn decide(stream: &(impl IsTerminal + AsFd)) -> Self {
        let terminal = stream.is_terminal();
        let colour = wants_colour(terminal, env::var_os("NO_COLOR").as_deref(), env::var_os("TERM").as_deref());
        Self { colour, columns: size(stream).map(|(columns, _)| columns) }
    }

    /// `text` in the tone's colour, or as it is.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", tone.code())
    }
}

/// Columns and rows of a terminal; none where the stream is none, or does not know its size.
pub(crate) fn size(stream: &impl AsFd) -> Option<(usize, usize)> {
    let size = tcgetwinsize(stream).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// Whether lines of this stream can be drawn again: it is a terminal that knows escapes. indicatif shows nothing on another one.
pub(crate) fn can_be_drawn_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// no-color.org: any value but an empty one switches colour off.
fn wants_colour(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term != "dumb")
}

/// A table's cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a meaning.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, ..Self::from(text) }
    }

    /// Good or bad.
    pub fn judged(good: bool, text: impl Into<String>) -> Self {
        Self::toned(if good { Tone::Good } else { Tone::Bad }, text)
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        // A line break in it would be a row of its own.
        Self { text: one_line(&text.into()).into_owned(), tone: Tone::Plain }
    }
}

/// A table for people: aligned columns, no rules.
#[derive(Clone, Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these column names.
    pub fn new(header: &[&str]) -> Self {
        Self { header: header.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as lines, each ended.
    pub fn render(&self, style: Style) -> String {
        let widths = self.widths();
        self.part(style, &(0..widths.len()).collect::<Vec<_>>(), &widths)
    }

    /// The table below itself in as many parts as the width of the terminal asks for, each with the first column.
    pub(crate) fn fitted(&self, style: Style) -> String {
        let widths = self.widths();
        let first = widths.first().copied().unwrap_or(0);
        let most = style.columns.unwrap_or(usize::MAX);
        let mut parts: Vec<Vec<usize>> = Vec::new();
        let mut wide = usize::MAX;
        for (column, own) in widths.iter().enumerate().skip(1) {
            let with = wide.saturating_add(GAP).saturating_add(*own);
            match parts.last_mut().filter(|_| with <= most) {
                Some(part) => {
                    part.push(column);
                    wide = with;
                }
                None => {
                    parts.push(vec![0, column]);
                    wide = first.saturating_add(GAP).saturating_add(*own);
                }
            }
        }
        parts.iter().map(|part| self.part(style, part, &widths)).collect::<Vec<_>>().join("\n")
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).chain([self.header.len()]).max().unwrap_or(0);
        let of = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(&cell.text));
            cells.chain(self.header.get(column).map(|name| width(name))).max().unwrap_or(0)
        };
        (0..columns).map(of).collect()
    }

    /// These columns. A row that has nothing in them but its first cell is left out where there is more than one part.
    fn part(&self, style: Style, columns: &[usize], widths: &[usize]) -> String {
        let header: Vec<Cell> = self.header.iter().map(|name| Cell::toned(Tone::Dim, name.as_str())).collect();
        let mut out = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let cells: Vec<(&Cell, usize)> = columns
                .iter()
                .filter_map(|&column| Some((row.get(column)?, widths.get(column).copied().unwrap_or(0))))
                .collect();
            if cells.len() == 1 && row.len() > 1 {
                continue;
            }
            let last = cells.len().saturating_sub(1);
            for (index, (cell, wide)) in cells.into_iter().enumerate() {
                out.push_str(&style.paint(cell.tone, &cell.text));
                if index < last {
                    let gap = wide.saturating_sub(width(&cell.text)) + GAP;
                    out.extend(std::iter::repeat_n(' ', gap));
                }
            }
            while out.ends_with(' ') {
                out.pop();
            }
            out.push('\n');
        }
        out
    }
}

/// Between two columns.
const GAP: usize = 2;

/// The columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The last lines of a verb: what to type now.
pub fn next(commands: &[(&str, &str)]) -> String {
    let wide = commands.iter().map(|(command, _)| width(command)).max().unwrap_or(0);
    let mut out = String::new();
    for (index, (command, why)) in commands.iter().enumerate() {
        let lead = if index == 0 { "next:" } else { "     " };
        let gap = if why.is_empty() { 0 } else { wide.saturating_sub(width(command)) + 2 };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{lead} {command}{}{why}", " ".repeat(gap));
    }
    out
}

/// Lines of progress on standard error: live on a terminal, one line a change elsewhere.
pub struct Progress {
    live: Option<MultiProgress>,
    style: Style,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Progress as this process' standard error allows.
    pub fn new() -> Self {
        Self { live: can_be_drawn_on(&io::stderr()).then(MultiProgress::new), style: Style::stderr() }
    }

    /// Lines that nobody sees, for what is over at once.
    pub fn silent() -> Self {
        Self { live: Some(MultiProgress::with_draw_target(ProgressDrawTarget::hidden())), style: Style::stderr() }
    }

    /// Says something that stays, above the lines.
    pub fn say(&self, text: &str) {
        match &self.live {
            // A terminal that is gone is no reason to stop.
            Some(live) => drop(live.println(printable(text))),
            None => errln!("{text}"),
        }
    }

    /// A line for `name`: a node, or a step.
    pub fn line(&self, name: &str) -> Line {
        let bar = self.live.as_ref().map(|live| {
            let bar = live.add(ProgressBar::new_spinner());
            if let Ok(spinner) = ProgressStyle::with_template("{spinner} {prefix:<12} {wide_msg} {elapsed:>4}") {
                bar.set_style(spinner);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Line { name: name.to_owned(), bar, said: Mutex::new(String::new()), style: self.style }
    }
}

/// One line of progress.
pub struct Line {
    name: String,
    bar: Option<ProgressBar>,
    said: Mutex<String>,
    style: Style,
}

impl Line {
    /// What is happening now. Saying the same twice prints it once.
    pub fn set(&self, text: impl Into<String>) {
        let text = text.into();
        let text = one_line(&text).into_owned();
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => self.print(&text),
        }
    }

    /// A detail of what is happening, worth a look on a terminal but not a line in a log.
    pub fn doing(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(one_line(text).into_owned());
        }
    }

    /// Ends the line well.
    pub fn done(&self, text: &str) {
        self.end(Tone::Good, "ok", text);
    }

    /// Ends the line badly.
    pub fn failed(&self, text: &str) {
        self.end(Tone::Bad, "failed", text);
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn end(&self, tone: Tone, word: &str, text: &str) {
        let (word, text) = (self.style.paint(tone, word), one_line(text));
        let whole = if text.is_empty() { word } else { format!("{word}, {text}") };
        match &self.bar {
            Some(bar) => bar.finish_with_message(whole),
            None => self.print(&whole),
        }
    }

    fn print(&self, text: &str) {
        let Ok(mut said) = self.said.lock() else { return };
        if *said != text {
            errln!("{}: {text}", self.name);
            text.clone_into(&mut said);
        }
    }
}

/// A length of time as people read it.
pub fn took(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURED: Style = Style { colour: true, columns: None };

    #[test]
    fn colour_needs_a_terminal_and_nobody_who_objects() {
        assert!(wants_colour(true, None, None));
        assert!(wants_colour(true, Some(OsStr::new("")), Some(OsStr::new("xterm"))));
        assert!(!wants_colour(false, None, None));
        assert!(!wants_colour(true, Some(OsStr::new("1")), None));
        assert!(!wants_colour(true, None, Some(OsStr::new("dumb"))));
        assert_eq!(COLOURED.paint(Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
        assert_eq!(Style::plain().paint(Tone::Bad, "no"), "no");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(&["node", "lease"]);
        table.row(vec!["datardos".into(), Cell::judged(true, "0.3 s")]);
        table.row(vec!["é".into(), "".into()]);
        assert_eq!(table.render(Style::plain()), "node      lease\ndatardos  0.3 s\né\n");
    }

    #[test]
    fn a_table_that_is_too_wide_goes_on_below_with_its_first_column() {
        let mut table = Table::new(&["node", "state", "leader", "version"]);
        table.row(vec!["magnus".into(), "ok".into(), "homer".into(), "2.15.1".into()]);
        table.row(vec!["homer".into(), "down".into()]);
        table.row(vec!["日本".into(), "ok".into(), "homer".into(), "2.15.1".into()]);
        let whole = table.fitted(Style::plain());
        assert_eq!(whole, table.render(Style::plain()));
        assert_eq!(whole, table.fitted(Style::of_width(30)));
        let two = "node    state\nmagnus  ok\nhomer   down\n日本    ok\n\n\
                   node    leader\nmagnus  homer\n日本    homer\n\n\
                   node    version\nmagnus  2.15.1\n日本    2.15.1\n";
        assert_eq!(table.fitted(Style::of_width(16)), two);
        assert!(table.fitted(Style::of_width(29)).starts_with("node    state  leader\n"));
        for columns in [15, 16, 21, 29, 30] {
            let shown = table.fitted(Style::of_width(columns));
            assert!(shown.lines().all(|line| width(line) <= columns), "{columns}: {shown}");
            assert_eq!(shown.matches("2.15.1").count(), 2, "{shown}");
        }
        // Narrower than that it is right, and the terminal has to break it.
        assert_eq!(table.fitted(Style::of_width(3)), table.fitted(Style::of_width(15)));
    }

    #[test]
    fn colour_does_not_move_columns() {
        let mut table = Table::new(&["a", "b"]);
        table.row(vec![Cell::judged(false, "x"), "y".into()]);
        let coloured = table.render(COLOURED);
        assert!(coloured.contains("\x1b[31mx\x1b[0m  y"), "{coloured:?}");
    }

    #[test]
    fn next_lines_are_aligned() {
        let text = next(&[("cargo xtask verify", "prove it"), ("cargo xtask x", "")]);
        assert_eq!(text, "next: cargo xtask verify  prove it\n      cargo xtask x\n");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(took(Duration::from_millis(640)), "0.6 s");
        assert_eq!(took(Duration::from_secs(125)), "2 min 05 s");
    }
}
