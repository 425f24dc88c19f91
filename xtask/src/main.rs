//! `cargo xtask`: every step between a laptop and a running unibus cluster, one verb each.
//!
//! Here belong the command line, a thin function for each verb, and what proves a change (`testing`, `proofs`). What several verbs
//! do is in `unibus-ops`, a cluster on this machine in `unibus-local`. It never depends on `unibus-rehearsal`, whose verbs are a
//! program of their own, and never on `membershipd`.

#[cfg(target_os = "linux")]
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::fs::Mode;
use rustix::process::umask;
#[cfg(target_os = "linux")]
use unibus_local::supervisor;
use unibus_ops::exit;
use unibus_ops::global::Global;

#[macro_use]
extern crate unibus_ops;

mod cmd;
mod external;
mod previous;
mod program;
#[cfg(target_os = "linux")]
mod proofs;
mod testing;

/// Brings the unibus cluster up: on this machine (`local`), or on the servers of deploy/nodes.toml.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage or bad input (nothing was changed), 3 would change (--diff), \
                  4 nothing proves that the bus works (status)."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Doctor(cmd::doctor::Args),
    /// Break the cluster on purpose while it is used, and judge what that came to
    Chaos(external::Args),
    /// Make the client CA in deploy/tls, if there is none
    ClientCa(cmd::client_ca::Args),
    /// Make or renew the route CA and every node's certificates
    ClusterCerts(cmd::cluster_certs::Args),
    /// Make the secrets that are missing; never overwrites one
    Secrets(cmd::secrets::Args),
    Build(cmd::build::Args),
    /// Run the whole cluster on this machine
    Local(cmd::local::Args),
    /// Carry out the whole runbook against Debian machines booted here, and leave nothing
    Rehearse(external::Args),
    Stage(cmd::stage::Args),
    Up(cmd::up::Args),
    Roll(cmd::roll::Args),
    Rollback(cmd::rollback::Args),
    Replace(cmd::replace::Args),
    Scale(cmd::scale::Args),
    Backup(cmd::backup::Args),
    Restore(cmd::restore::Args),
    Promote(cmd::restore::Promote),
    /// Prove that the cluster is what it should be
    ///
    /// The first line says whether the bus works. Then come the causes of what does not hold, what matters most first, each with the
    /// failed checks that only follow from it and the command to give next. Exit code 0 only when every check holds.
    Verify(cmd::verify::Args),
    /// Show the cluster on one screen
    ///
    /// The first line says whether the bus works. Judging all of what the nodes say is what `verify` does.
    Status(cmd::status::Args),
    Operations(cmd::operations::Args),
    /// Keep what an operator needs where the laptop is not; take it up on another; replace every key after a loss
    Operator(external::Args),
    SupportBundle(cmd::support_bundle::Args),
    /// Read the nodes' logs as one
    ///
    /// Lines come in the order of their times, each with its node and in the time of this machine's zone. A node that does not answer is
    /// named, and the others go on; the exit code is 1 then.
    Logs(cmd::logs::Args),
    /// Seed the first admin
    SeedAdmin(cmd::seed_admin::Args),
    Setup(cmd::setup::Args),
    Check(cmd::check::Args),
    Test(cmd::test::Args),
    #[cfg(target_os = "linux")]
    Ci(cmd::ci::Args),
    #[cfg(target_os = "linux")]
    Prove(cmd::prove::Args),
    Previous(cmd::previous::Args),
    /// Fetch the engine, prove its sha256 and say where it lies
    Engine(cmd::engine::Args),
    #[command(hide = true)]
    Fleet(external::Args),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Supervise(supervisor::Supervise),
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    ExecChild(supervisor::ExecChild),
}

fn main() -> ExitCode {
    // What is written here is for others to read at most, whatever this was started with. Secrets have modes of their own.
    let given = umask(Mode::from_raw_mode(0o077));
    umask(given | Mode::from_raw_mode(0o022));
    let cli = Cli::parse();
    let global = &cli.global;
    let done = match cli.verb {
        Verb::Backup(args) => cmd::backup::run(global, &args),
        Verb::Build(args) => cmd::build::run(global, &args),
        Verb::Chaos(_) | Verb::Fleet(_) => external::become_it(&external::REHEARSAL, &[]),
        // Its runbook has verbs of the other program.
        Verb::Rehearse(_) => external::become_it(&external::REHEARSAL, &[external::OPERATOR]),
        Verb::Operator(_) => external::become_it(&external::OPERATOR, &[]),
        Verb::ClientCa(args) => cmd::client_ca::run(global, &args),
        Verb::ClusterCerts(args) => cmd::cluster_certs::run(global, &args),
        Verb::Doctor(args) => cmd::doctor::run(global, &args),
        Verb::Engine(args) => cmd::engine::run(global, &args),
        Verb::Local(args) => cmd::local::run(global, &args),
        Verb::Verify(args) => cmd::verify::run(global, &args),
        Verb::Stage(args) => cmd::stage::run(global, &args),
        Verb::Up(args) => cmd::up::run(global, &args),
        Verb::Roll(args) => cmd::roll::run(global, &args),
        Verb::Rollback(args) => cmd::rollback::run(global, &args),
        Verb::Replace(args) => cmd::replace::run(global, &args),
        Verb::Restore(args) => cmd::restore::run(global, &args),
        Verb::Promote(args) => cmd::restore::promote(global, &args),
        Verb::Scale(args) => cmd::scale::run(global, &args),
        Verb::Status(args) => cmd::status::run(global, &args),
        Verb::Operations(args) => cmd::operations::run(global, &args),
        Verb::SupportBundle(args) => cmd::support_bundle::run(global, &args),
        Verb::Logs(args) => cmd::logs::run(global, &args),
        Verb::SeedAdmin(args) => cmd::seed_admin::run(global, &args),
        Verb::Setup(args) => cmd::setup::run(global, &args),
        Verb::Check(args) => cmd::check::run(global, &args),
        Verb::Test(args) => cmd::test::run(global, &args),
        #[cfg(target_os = "linux")]
        Verb::Ci(args) => cmd::ci::run(global, &args),
        #[cfg(target_os = "linux")]
        Verb::Prove(args) => cmd::prove::run(global, &args),
        Verb::Previous(args) => cmd::previous::run(global, &args),
        #[cfg(target_os = "linux")]
        Verb::Supervise(args) => supervisor::supervise(Path::new(program::RUNNING_PROGRAM), &args),
        #[cfg(target_os = "linux")]
        Verb::ExecChild(args) => supervisor::exec_child(&args),
        Verb::Secrets(args) => cmd::secrets::run(global, &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::report(&error),
    }
}
