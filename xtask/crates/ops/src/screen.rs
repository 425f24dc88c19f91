//! A block of text that is drawn again in its place on a terminal, and only when it changed elsewhere.

use std::fmt;
use std::io::{self, Write as _};
use std::mem;

use unibus_names::printable::printable;
use unicode_width::UnicodeWidthChar;

use crate::stdio::control_stdout;
use crate::ui::{can_be_drawn_on, size, width};

/// Where a terminal does not tell its size.
const USUAL: (usize, usize) = (80, 24);

/// A block on standard output.
pub struct Screen {
    terminal: bool,
    /// Lines of the terminal that the block has now.
    lines: usize,
    /// Columns and rows that the terminal had then.
    size: (usize, usize),
    gist: String,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// A block that is not drawn yet.
    pub fn new() -> Self {
        Self { terminal: can_be_drawn_on(&io::stdout()), lines: 0, size: (0, 0), gist: String::new() }
    }

    /// Whether the block is drawn again in its place.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows `text` in place of what was shown before; without a terminal only where `gist` differs from the one before.
    pub fn draw(&mut self, text: &str, gist: &str) -> fmt::Result {
        if self.terminal {
            let now = size(&io::stdout()).unwrap_or(USUAL);
            let lines = fit(&printable(text), now);
            // Lines that were broken by a terminal of another width are not where they were drawn.
            let back = match self.lines {
                0 => String::new(),
                _ if now != self.size => "\x1b[H\x1b[2J".to_owned(),
                up => format!("\x1b[{up}A\r\x1b[J"),
            };
            control_stdout(&format!("{back}{}\n", lines.join("\n")));
            (self.lines, self.size) = (lines.len(), now);
        } else if self.gist != gist {
            out!("{text}");
        }
        gist.clone_into(&mut self.gist);
        io::stdout().flush().map_err(|_| fmt::Error)
    }
}

/// The lines of a text as the terminal has them: none is broken by it, and none is lost above its first row.
fn fit(text: &str, (columns, rows): (usize, usize)) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().flat_map(|line| wrap(line, columns)).collect();
    // The cursor is on the row below the last line.
    let most = rows.saturating_sub(1).max(1);
    if lines.len() > most {
        let left = lines.len() - most + 1;
        lines.truncate(most - 1);
        let told = format!("… {left} lines more: this terminal has {rows} rows");
        lines.extend(wrap(&told, columns).into_iter().next());
    }
    lines
}

/// A line in parts of `columns`, broken between words where there are any. The colours of the tool take no room.
fn wrap(line: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut current, mut wide, mut space) = (Vec::new(), String::new(), 0, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            current.push(c);
            let colour = chars.as_str().split_inclusive('m').next().unwrap_or_default();
            current.push_str(colour);
            chars = chars.as_str().get(colour.len()..).unwrap_or_default().chars();
            continue;
        }
        let own = c.width().unwrap_or(0);
        if wide + own > columns && wide > 0 {
            // A space that has no room is where the line ends.
            let at = if c == ' ' { None } else { space };
            let rest = at.map_or_else(String::new, |at| current.split_off(at));
            lines.push(mem::replace(&mut current, rest).trim_end().to_owned());
            (wide, space) = (visible(&current), None);
            if c == ' ' {
                continue;
            }
        }
        current.push(c);
        wide += own;
        if c == ' ' {
            space = Some(current.len());
        }
    }
    lines.push(current.trim_end().to_owned());
    lines
}

/// The columns of a text without its colours.
fn visible(text: &str) -> usize {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().map_or(0, width);
    parts.fold(first, |sum, part| sum + part.split_once('m').map_or(0, |(_, rest)| width(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        assert_eq!(wrap("homer is down; the bus works", 14), ["homer is down;", "the bus works"]);
        assert_eq!(wrap("homer is down; the bus works", 15), ["homer is down;", "the bus works"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        for columns in 1..30 {
            let parts = wrap("node      state  routes  leader", columns);
            assert!(parts.iter().all(|part| width(part) <= columns), "{columns}: {parts:?}");
            let words = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(words(&parts.join(" ")), "nodestateroutesleader");
        }
    }

    #[test]
    fn colours_take_no_room() {
        let red = "\u{1b}[31mhomer is\u{1b}[0m down";
        assert_eq!(wrap(red, 13), [red]);
        assert_eq!(wrap(red, 8), ["\u{1b}[31mhomer is\u{1b}[0m", "down"]);
    }

    #[test]
    fn what_has_no_room_on_the_terminal_is_counted() {
        let text = "1\n2\n3\n4\n5\n";
        assert_eq!(fit(text, (80, 6)).len(), 5);
        assert_eq!(fit(text, (80, 4)), ["1", "2", "… 3 lines more: this terminal has 4 rows"]);
        assert_eq!(fit(text, (7, 2)), ["… 5"]);
    }
}
