//! The foreground: a live status until somebody wants it to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::overview::overview;
use crate::supervisor::Control;
use crate::target::Target;
use crate::ui::{Screen, Style};

const EVERY: Duration = Duration::from_secs(1);
/// How soon a Ctrl-C is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// Why the foreground ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The operator wants everything down.
    Interrupted,
    /// Somebody else took it down.
    Gone,
}

/// Shows the cluster until it is time to end.
pub(super) fn watch(target: &Target, control: &Control, interrupted: &AtomicBool) -> Result<Ended> {
    let mut screen = Screen::new();
    println!();
    loop {
        let begun = Instant::now();
        let answers = target.ask();
        let view = overview(&target.expected, &answers, Style::stdout());
        screen.draw(&view.text, &view.gist).context("writing to the terminal")?;
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return Ok(Ended::Interrupted);
            }
            if !control.alive()? {
                return Ok(Ended::Gone);
            }
            if begun.elapsed() >= EVERY {
                break;
            }
            thread::sleep(LOOK);
        }
    }
}
