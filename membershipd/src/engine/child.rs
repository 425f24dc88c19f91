//! The first breath of the engine process: tie its life to the daemon's, then become nats-server.
//!
//! A hidden verb of this binary, because the death signal can only be asked for by the process itself, and doing that
//! between fork and exec would need unsafe code. The setting survives exec (prctl(2), PR_SET_PDEATHSIG).

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Becomes `command`, which dies when the process `parent` does. Returns only if that failed.
pub fn run(parent: i32, command: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie the engine's life to the daemon's")?;
    // The daemon may have died before the line above; then nobody would ever send the signal.
    let alive = getppid() == Pid::from_raw(parent);
    ensure!(alive, "the daemon (process {parent}) is gone, or this verb was called by hand");
    let (program, arguments) = command.split_first().context("no engine to become")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot become {}", program.display()))
}
