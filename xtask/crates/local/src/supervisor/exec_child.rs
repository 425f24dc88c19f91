//! Becomes a daemon that dies with the supervisor.
//!
//! The kernel kills a process with PDEATHSIG when the thread that started it ends. It has to be asked for by the
//! process itself, between fork and exec, where safe Rust does not reach; so this process asks and then execs.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Hidden: the supervisor starts daemons through this.
#[derive(clap::Args)]
pub struct ExecChild {
    /// The supervisor
    #[arg(long)]
    parent: i32,
    /// The daemon and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Returns only if it fails.
pub fn run(args: &ExecChild) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to die with the supervisor")?;
    // If it ended before we asked, nobody will tell us.
    if getppid() != Pid::from_raw(args.parent) {
        bail!("the supervisor is gone");
    }
    let [program, arguments @ ..] = args.command.as_slice() else {
        bail!("no program was given");
    };
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("starting {program}"))
}
