//! The foreground: a live status until the cluster is taken down.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use crate::supervisor::Control;
use unibus_ops::target::Target;
use unibus_ops::watch;

/// Shows the cluster until it is taken down, by a signal to this process or by another command.
pub(super) fn watch(target: &Target, control: &Control, interrupted: &AtomicBool) -> Result<()> {
    outln!();
    // What is seen while it ends is no news.
    watch::show(target, || Ok(interrupted.load(Ordering::Relaxed) || !control.alive()?))?;
    while control.alive()? {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}
