//! Output that does not end a verb: its reader may leave (`| head`), and the work on the nodes goes on. And the one place through which
//! all text comes that is shown, whoever wrote it, so that none of it can move the cursor or hide.
//!
//! The standard macros panic then, so these take their place in every crate of the tool.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use unibus_names::printable::printable;

static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes to standard output at once, and remembers if it is closed.
pub fn write_stdout(text: Arguments<'_>) {
    control_stdout(&printable(&text.to_string()));
}

/// Writes what moves the cursor on standard output: never text of others.
pub(crate) fn control_stdout(text: &str) {
    let mut out = io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        STDOUT_CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Writes to standard error.
pub fn write_stderr(text: Arguments<'_>) {
    // A failure has no other place to be reported.
    let _ = io::stderr().lock().write_all(printable(&text.to_string()).as_bytes());
}

/// Whether standard output is closed: a verb that only shows something may end.
pub fn is_stdout_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

/// `print!` that survives a closed standard output.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => { $crate::stdio::write_stdout(format_args!($($text)*)) };
}

/// `println!` that survives a closed standard output.
#[macro_export]
macro_rules! outln {
    () => { $crate::stdio::write_stdout(format_args!("\n")) };
    ($($text:tt)*) => { $crate::stdio::write_stdout(format_args!("{}\n", format_args!($($text)*))) };
}

/// `eprint!` that survives a closed standard error.
#[macro_export]
macro_rules! err {
    ($($text:tt)*) => { $crate::stdio::write_stderr(format_args!($($text)*)) };
}

/// `eprintln!` that survives a closed standard error.
#[macro_export]
macro_rules! errln {
    () => { $crate::stdio::write_stderr(format_args!("\n")) };
    ($($text:tt)*) => { $crate::stdio::write_stderr(format_args!("{}\n", format_args!($($text)*))) };
}
