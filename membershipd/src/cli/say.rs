//! The one place through which a verb shows text: users and nodes wrote some of it, so none of it may act on a terminal. And it does not
//! panic where the reader is gone, as in `membershipd user list | head -1`.

use std::fmt::Arguments;
use std::io::{self, Write};

use unibus_names::printable::{one_line_of, printable};

/// Bytes of one event in the log, about: more would be a message of a user's.
const MOST_OF_AN_EVENT: usize = 16 << 10;

/// Says it on standard output; what was asked for is done, also when no program reads that.
pub(super) fn say(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(printable(&text.to_string()).as_bytes()).and_then(|()| out.flush());
}

/// Says it on standard error.
pub(super) fn complain(text: Arguments<'_>) {
    // A failure has no other place to be told.
    let _ = io::stderr().lock().write_all(printable(&text.to_string()).as_bytes());
}

/// Says it on standard error in place of the line that was said so before.
pub(super) fn count(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_all(format!("\r{}", one_line_of(&text.to_string(), 80)).as_bytes());
}

/// Standard error for the log. An event is one line: none that a name or a message brings along begins another one.
#[derive(Debug)]
pub(super) struct LogLines;

impl Write for LogLines {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(log_line(event).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn log_line(event: &[u8]) -> String {
    let text = String::from_utf8_lossy(event);
    format!("{}\n", one_line_of(text.strip_suffix('\n').unwrap_or(&text), MOST_OF_AN_EVENT))
}

// These take the place of the standard ones.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::say::say(format_args!($($text)*)) };
}
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::say::say(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::say::complain(format_args!($($text)*)) };
}
macro_rules! eprintln {
    () => { $crate::cli::say::complain(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::say::complain(format_args!("{}\n", format_args!($($text)*))) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_one_harmless_line_of_the_log() {
        let event = "2026-11-29T20:00:00Z  WARN room: a\n2026-11-29T20:00:00Z  INFO all is well\u{202e}\u{9b}2J\n";
        let line = log_line(event.as_bytes());
        assert_eq!(
            line,
            "2026-11-29T20:00:00Z  WARN room: a\\n2026-11-29T20:00:00Z  INFO all is well\\u202e\\u009b2J\n"
        );
        assert!(log_line("x".repeat(1 << 20).as_bytes()).len() < 2 * MOST_OF_AN_EVENT);
    }
}
