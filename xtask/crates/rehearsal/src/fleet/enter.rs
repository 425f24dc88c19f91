//! The two small steps between a fleet's processes: into a cgroup before another program runs, and process 1.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, getppid, set_parent_process_death_signal, wait};

/// Hidden: becomes another program, in a cgroup, that dies with whoever started it.
#[derive(clap::Args)]
pub(crate) struct Enter {
    /// Who started it
    #[arg(long)]
    parent: i32,
    /// The cgroup
    #[arg(long)]
    cgroup: PathBuf,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The words that start `program` by way of [`enter`].
pub(super) fn words(cgroup: &std::path::Path) -> Vec<String> {
    let parent = std::process::id().to_string();
    ["fleet", "enter", "--parent", &parent, "--cgroup", &cgroup.display().to_string(), "--"].map(str::to_owned).into()
}

/// Returns only if it fails.
pub(crate) fn enter(args: &Enter) -> Result<()> {
    // Both can be asked only by the process itself, between fork and exec, where safe Rust does not reach.
    set_parent_process_death_signal(Some(Signal::KILL)).context("asking to die with the parent")?;
    if getppid() != Pid::from_raw(args.parent) {
        bail!("whoever started this is gone");
    }
    let procs = args.cgroup.join("cgroup.procs");
    fs::write(&procs, "0").with_context(|| format!("entering the cgroup {}", args.cgroup.display()))?;
    let [program, arguments @ ..] = args.command.as_slice() else {
        bail!("no program was given");
    };
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("starting {program}"))
}

/// Hidden: process 1 of a fleet's namespaces.
#[derive(clap::Args)]
pub(crate) struct Init {
    /// The holder
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Starts the holder and ends with it; in between it takes note of every process that nobody else waits for.
pub(crate) fn init(args: &Init) -> Result<()> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        bail!("no program was given");
    };
    let holder = Command::new(program).args(arguments).spawn().with_context(|| format!("starting {program}"))?;
    loop {
        let ended = wait(WaitOptions::empty()).context("waiting for processes")?;
        if ended.is_some_and(|(pid, _)| u32::try_from(pid.as_raw_nonzero().get()) == Ok(holder.id())) {
            bail!("the holder ended");
        }
    }
}
