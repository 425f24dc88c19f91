//! Printing that does not panic where nobody reads any more, as in `membershipd user list | head -1`.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Says it to whoever reads standard output; what was asked for is done, also when nobody does.
pub(super) fn say(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = out.write_fmt(text).and_then(|()| out.flush());
}

// These take the place of the standard ones.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::say::say(format_args!($($text)*)) };
}
macro_rules! println {
    ($($text:tt)*) => { $crate::cli::say::say(format_args!("{}\n", format_args!($($text)*))) };
}
