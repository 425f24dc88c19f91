//! Printing that does not end a verb: whoever reads along may leave (`| head`), and what is being done to the nodes goes on.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

static UNHEARD: AtomicBool = AtomicBool::new(false);

/// Says it to whoever reads standard output.
pub(crate) fn say(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        UNHEARD.store(true, Ordering::Relaxed);
    }
}

/// The same for standard error.
pub(crate) fn tell(text: Arguments<'_>) {
    // There is nobody left who could be told that it failed.
    let _ = io::stderr().lock().write_fmt(text);
}

/// Whether standard output leads nowhere any more: what only shows something may end.
pub(crate) fn unheard() -> bool {
    UNHEARD.load(Ordering::Relaxed)
}

// These take the place of the standard ones, which panic where nobody reads.
macro_rules! print {
    ($($text:tt)*) => { $crate::said::say(format_args!($($text)*)) };
}
macro_rules! println {
    () => { $crate::said::say(format_args!("\n")) };
    ($($text:tt)*) => { $crate::said::say(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprint {
    ($($text:tt)*) => { $crate::said::tell(format_args!($($text)*)) };
}
macro_rules! eprintln {
    () => { $crate::said::tell(format_args!("\n")) };
    ($($text:tt)*) => { $crate::said::tell(format_args!("{}\n", format_args!($($text)*))) };
}
