//! The foreground: a live status until the cluster is taken down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::supervisor::Control;
use unibus_ops::overview::overview;
use unibus_ops::target::Target;
use unibus_ops::ui::{Screen, Style};

const EVERY: Duration = Duration::from_secs(1);
/// How soon the end is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// Shows the cluster until it is taken down, by a signal to this process or by another command.
pub(super) fn watch(target: &Target, control: &Control, interrupted: &AtomicBool) -> Result<()> {
    let mut screen = Screen::new();
    outln!();
    loop {
        let begun = Instant::now();
        let answers = target.ask();
        // What is seen while it ends is no news.
        if !interrupted.load(Ordering::Relaxed) && control.alive()? {
            let view = overview(&target.expected, &answers, Style::stdout());
            screen.draw(&view.text, &view.gist).context("writing to the terminal")?;
        }
        loop {
            if !control.alive()? {
                return Ok(());
            }
            if begun.elapsed() >= EVERY {
                break;
            }
            thread::sleep(LOOK);
        }
    }
}
