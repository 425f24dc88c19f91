//! The one place through which a verb shows text: users and nodes wrote some of it, so none of it may act on a terminal. And where the
//! reader is gone, as in `membershipd user list | head -1`, a verb does what it has to do and says nothing more.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;
use unibus_names::printable::{one_line_of, printable};

/// Bytes of one event in the log, about: more would be a message of a user's.
const MOST_OF_AN_EVENT: usize = 16 << 10;

/// Whether nothing more can be said on standard output.
static UNHEARD: AtomicBool = AtomicBool::new(false);
/// Why not, where it is more than that the reader has read enough.
static LOST: OnceLock<String> = OnceLock::new();

/// Says it on standard output, unless it is known that no program reads that.
pub(super) fn say(text: Arguments<'_>) {
    if is_unheard() {
        return;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(printable(&text.to_string()).as_bytes()).and_then(|()| out.flush()) {
        UNHEARD.store(true, Ordering::Relaxed);
        if error.kind() != ErrorKind::BrokenPipe {
            let _ = LOST.set(error.to_string());
        }
    }
}

/// Whether what is said on standard output reaches no program any more. A verb that only shows ends then.
pub(super) fn is_unheard() -> bool {
    UNHEARD.load(Ordering::Relaxed)
}

/// Why some of what was said is nowhere; none: all of it was written, or its reader had read enough.
pub(super) fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Waits until no program reads standard output any more: while nothing is written no write would tell. Where that cannot be known it
/// waits for ever. The thread that waits ends with the process.
pub(super) async fn reader_gone() {
    let (gone, told) = oneshot::channel();
    let wait = move || {
        let out = io::stdout();
        let ended = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        loop {
            // An end is told whatever is asked about (poll(2)).
            let mut polled = [PollFd::new(out.as_fd(), PollFlags::empty())];
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) if polled.iter().any(|out| out.revents().is_some_and(|told| told.intersects(ended))) => {
                    UNHEARD.store(true, Ordering::Relaxed);
                    let _ = gone.send(());
                    return;
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    };
    let waiting = std::thread::Builder::new().name("stdout".to_owned()).spawn(wait);
    if waiting.is_err() || told.await.is_err() {
        std::future::pending::<()>().await;
    }
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
