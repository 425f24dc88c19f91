//! `unibus-rehearsal`, which `cargo xtask rehearse`, `chaos` and `fleet` start: machines to rehearse on, the rehearsal of the
//! runbook, and faults under load with a judge.
//!
//! Here belongs what proves a cluster by playing with it. Nothing that brings a real cluster up, changes or checks it does: that is
//! a verb of `xtask`, which this program starts as an operator would. No other crate depends on this one.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use unibus_ops::exit;
use unibus_ops::global::Global;

use crate::caller::Caller;

#[macro_use]
extern crate unibus_ops;

mod caller;
mod chaos;
mod cmd;
#[cfg(target_os = "linux")]
mod fleet;
#[cfg(target_os = "linux")]
mod rehearsal;

/// Rehearses the runbook on machines that are booted here, and breaks clusters on purpose.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(flatten)]
    caller: Caller,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Chaos(cmd::chaos::Args),
    Rehearse(cmd::rehearse::Args),
    #[cfg(target_os = "linux")]
    Fleet(cmd::fleet::Args),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    ExecChild(unibus_local::supervisor::ExecChild),
}

fn main() -> ExitCode {
    let Cli { global, caller, verb } = Cli::parse();
    let done = match verb {
        Verb::Chaos(args) => cmd::chaos::run(&global, &caller, &args),
        Verb::Rehearse(args) => cmd::rehearse::run(&global, &caller, &args),
        #[cfg(target_os = "linux")]
        Verb::Fleet(args) => cmd::fleet::run(&global, &args),
        #[cfg(target_os = "linux")]
        Verb::ExecChild(args) => unibus_local::supervisor::exec_child(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
