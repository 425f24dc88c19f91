//! A program on a terminal, which `script` gives it, and what that shows.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// A program that was started on a terminal of its own.
pub(crate) struct OnTerminal {
    script: Child,
    written: Arc<Mutex<Vec<u8>>>,
    columns: usize,
    rows: usize,
}

impl OnTerminal {
    /// Starts it on a terminal of so many columns and rows, of that kind.
    pub(crate) fn start(command: &Command, (columns, rows): (usize, usize), kind: &str) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> =
            words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"))).collect();
        let line = format!("stty cols {columns} rows {rows}; exec {}", words.join(" "));
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--command", &line, "/dev/null"]).env("TERM", kind).env("SHELL", "/bin/sh");
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut script = script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = script.stdout.take().unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&written);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                kept.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { script, written, columns, rows }
    }

    /// All that was written to it.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// The lines that are to be seen now, without the blanks at their ends.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut terminal = Terminal::new(self.columns, self.rows);
        terminal.write(&self.written());
        terminal.lines()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // With it goes the terminal, and the program is told.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// As much of a terminal as these programs use. It wraps as terminals do, and scrolls.
struct Terminal {
    cells: Vec<Vec<char>>,
    columns: usize,
    row: usize,
    column: usize,
}

impl Terminal {
    fn new(columns: usize, rows: usize) -> Self {
        Self { cells: vec![vec![' '; columns]; rows], columns, row: 0, column: 0 }
    }

    fn write(&mut self, text: &str) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.feed(),
                '\u{1b}' => {
                    let sequence = rest.as_str();
                    // The last one may have come in part.
                    let Some(end) = sequence.find(|c: char| c.is_ascii_alphabetic()) else { return };
                    self.control(&sequence[..end], sequence.as_bytes()[end]);
                    rest = sequence[end + 1..].chars();
                }
                c => {
                    if self.column == self.columns {
                        self.column = 0;
                        self.feed();
                    }
                    self.cells[self.row][self.column] = c;
                    self.column += 1;
                }
            }
        }
    }

    fn feed(&mut self) {
        if self.row + 1 == self.cells.len() {
            self.cells.remove(0);
            self.cells.push(vec![' '; self.columns]);
        } else {
            self.row += 1;
        }
    }

    fn control(&mut self, parameter: &str, what: u8) {
        match (parameter, what) {
            ("[", b'H') => (self.row, self.column) = (0, 0),
            ("[2", b'J') => self.cells.iter_mut().for_each(|row| row.fill(' ')),
            ("[", b'J') => {
                self.cells[self.row][self.column..].fill(' ');
                self.cells[self.row + 1..].iter_mut().for_each(|row| row.fill(' '));
            }
            (up, b'A') => self.row = self.row.saturating_sub(up[1..].parse().unwrap()),
            (_, b'm') => {}
            other => panic!("an escape that no program here should use: {other:?}"),
        }
    }

    fn lines(&self) -> Vec<String> {
        self.cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
    }
}
