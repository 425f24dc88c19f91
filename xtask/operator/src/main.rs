//! `unibus-operator`, which `cargo xtask operator` starts: what an operator needs to operate a cluster, sealed for another machine, and
//! replaced after a laptop was lost.
//!
//! Here belongs what needs the library that seals; no other verb waits for it to be built. It reaches no node: what it makes is brought
//! there by the verbs of `xtask`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use unibus_ops::exit;
use unibus_ops::global::Global;

#[macro_use]
extern crate unibus_ops;

mod belongings;
mod export;
mod import;
mod replace;
mod seal;

/// What an operator needs to operate a cluster: on another machine, and after a loss.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Operator(Args),
}

/// Keep what an operator needs where the laptop is not; take it up on another; replace every key after a loss
#[derive(clap::Args)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Export(export::Args),
    Import(import::Args),
    ReplaceKeys(replace::Args),
}

fn main() -> ExitCode {
    let Cli { global, verb: Verb::Operator(Args { what }) } = Cli::parse();
    let done = match what {
        What::Export(args) => export::run(&global, &args),
        What::Import(args) => import::run(&global, &args),
        What::ReplaceKeys(args) => replace::run(&global, &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
