//! The command line: verbs, their output and exit codes.

// First: what it defines is for all that follow.
#[macro_use]
mod say;

mod api;
mod audit;
mod bench;
mod blob;
mod check_config;
mod connections;
mod control;
mod daemon;
mod explain;
mod export;
mod hand_over;
mod identity;
mod invite;
mod key;
mod level;
mod load;
mod many_rooms;
mod marks;
mod member;
mod migrate_to_kv;
mod moment;
mod offline;
mod other_end;
mod probe_routes;
mod register;
mod repair;
mod roles;
mod room;
mod scale;
mod settings;
mod since;
mod status;
mod table;
mod tail;
mod talk;
mod user;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use rustix::fs::Mode;
use rustix::process::umask;
use serde_json::json;

use self::daemon::Daemon;
use crate::config::{Config, ConfigErrors, LogFormat, Typed};
use crate::control::Failure;
use crate::posture::SCHEMA;
use crate::transfer::TransferError;
use crate::{engine, serve};
use unibus_core::{clock, faults};
use unibus_names::printable::continued;

/// Done.
const DONE: u8 = 0;
/// Failed.
const FAILED: u8 = 1;
/// The configuration cannot be used (sysexits' EX_USAGE, as long-running daemons use it).
const BAD_CONFIGURATION: u8 = 64;

#[derive(Debug, Parser)]
#[command(
    name = "membershipd",
    version = faults::VERSION,
    about = "Control plane of the unibus message bus; without a verb it serves",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    typed: Typed,
    #[command(flatten)]
    daemon: Daemon,
}

/// How to answer.
#[derive(Debug, Args)]
struct Output {
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve: run the engine, admit connections, answer the API
    Serve(Box<Serve>),
    /// Show whether the nodes are well: to admins through the API, to root on a node without an identity
    Status(Box<status::Args>),
    /// Check a configuration without starting; reports all mistakes at once
    CheckConfig(Box<check_config::Args>),
    /// Make or show an identity: the keys of a person or bot
    Identity(identity::Args),
    /// List, show, add, enable, disable or remove users, or give them another role: as an admin through the API, as root through the
    /// daemon of a node, or in a file that no daemon uses
    User(Box<user::Args>),
    /// List and close connections to the bus: for admins, through the API
    Connections(Box<connections::Args>),
    /// Make links with which somebody new becomes a user, list them, take them back: for admins, through the API
    Invite(invite::Args),
    /// Become a user, with the link that an admin sent: makes the keys and says what comes next
    Register(register::Args),
    /// Make, list, show, change or remove rooms through the API, as who an identity file says
    Room(room::Args),
    /// Invite, accept, list, promote, remove or ban the members of a room through the API
    Member(member::Args),
    /// Say something in a room; returns when it is kept, in a room that keeps what is said
    Say(talk::Args),
    /// Show what is said in a room: what was kept, and then what comes
    Tail(tail::Args),
    /// Show and renew the keys of rooms, and what this user has seen of the keys of others
    Key(key::Args),
    /// Add, fetch, list or remove the attachments of a room; they are sealed and opened on this machine
    Blob(blob::Args),
    /// Finish what interrupted commands left behind; nobody is disturbed, and repeating is safe
    Repair(repair::Args),
    /// Show who did what and when, how it was decided and what came of it: to admins through the API, to root on a node without an
    /// identity
    Audit(Box<audit::Args>),
    /// Copy everything that the running daemon's store holds into a new file: the backup, and the way back to a single node
    Export(export::Args),
    /// Carry a file of the sqlite store into an empty cluster: restores a backup, and promotes a single node
    MigrateToKv(migrate_to_kv::Args),
    /// Use the bus steadily, by orders from standard input, and write down what came of it; `cargo xtask chaos` runs it
    Load(load::Args),
    /// Make many rooms and compare them with what they were; `cargo xtask rehearse --upgrade` runs it
    #[command(hide = true)]
    ManyRooms(many_rooms::Args),
    /// Measure what this node does in a second, next to what its bare engine does
    Bench(Box<bench::Args>),
    /// Wait until the node, or the cluster as it sees it, is as it should be
    Wait(wait::Args),
    /// Raise every bucket to N copies in place, and wait until all are current; never lowers
    Scale(scale::Args),
    /// Show the feature level of the cluster and what each node can do, or raise it; as root on a node
    Level(level::Args),
    /// Prove every route anew: a TLS handshake with each other node's route port
    ProbeRoutes(probe_routes::Args),
    /// Relay requests, a line of JSON each, from standard input to the running daemon
    Control(control::Args),
    #[command(name = engine_child_name(), hide = true)]
    EngineChild {
        #[arg(long)]
        parent: i32,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

const fn engine_child_name() -> &'static str {
    engine::CHILD_VERB
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // What the daemon, its engine and the verbs write is for their user alone, whatever this was started with.
    let given = umask(Mode::from_raw_mode(0o077));
    umask(given | Mode::from_raw_mode(0o077));
    let cli = Cli::parse();
    let outcome = match cli.verb {
        None => run_daemon(cli.serve),
        Some(Verb::Serve(serve)) => run_daemon(*serve),
        Some(Verb::Status(args)) => status::run(&args),
        Some(Verb::CheckConfig(args)) => check_config::run(&args),
        Some(Verb::Identity(args)) => identity::run(&args),
        Some(Verb::User(args)) => user::run(&args),
        Some(Verb::Connections(args)) => connections::run(&args),
        Some(Verb::Invite(args)) => invite::run(&args),
        Some(Verb::Register(args)) => register::run(&args),
        Some(Verb::Room(args)) => room::run(&args),
        Some(Verb::Member(args)) => member::run(&args),
        Some(Verb::Say(args)) => talk::run(&args),
        Some(Verb::Tail(args)) => tail::run(&args),
        Some(Verb::Key(args)) => key::run(&args),
        Some(Verb::Blob(args)) => blob::run(&args),
        Some(Verb::Repair(args)) => repair::run(&args),
        Some(Verb::Audit(args)) => audit::run(&args),
        Some(Verb::Export(args)) => export::run(&args),
        Some(Verb::MigrateToKv(args)) => migrate_to_kv::run(&args),
        Some(Verb::Load(args)) => load::run(&args),
        Some(Verb::ManyRooms(args)) => many_rooms::run(&args),
        Some(Verb::Bench(args)) => bench::run(&args),
        Some(Verb::Wait(args)) => wait::run(&args),
        Some(Verb::Scale(args)) => scale::run(&args),
        Some(Verb::Level(args)) => level::run(&args),
        Some(Verb::ProbeRoutes(args)) => probe_routes::run(&args),
        Some(Verb::Control(args)) => control::run(&args),
        Some(Verb::EngineChild { parent, command }) => {
            engine::run_child(parent, &command).map_err(Problem::from).map(|()| DONE)
        }
    };
    let code = outcome.unwrap_or_else(|problem| problem.report());
    match say::lost() {
        Some(why) => {
            eprintln!("membershipd: cannot write to standard output: {}", continued(why));
            ExitCode::from(if code == DONE { FAILED } else { code })
        }
        None => ExitCode::from(code),
    }
}

fn run_daemon(serve: Serve) -> Result<u8, Problem> {
    let config = Config::from_typed(serve.typed, clock::unix())?;
    log_to_stderr(config.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let outcome = runtime.block_on(serve::run(config, serve.daemon.own_runtime_dir()));
    // Whatever still waits for an answer of an engine that has stopped must not hold the process up.
    runtime.shutdown_background();
    outcome?;
    Ok(DONE)
}

/// Carries out what a verb has to do beside its daemon.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    Ok(runtime.block_on(work))
}

/// A copy that failed, as it is told.
fn failed_copy(error: &TransferError, json: bool) -> Problem {
    let failure = Failure::new(error.code(), &error.to_string(), &error.remedy());
    Problem::Daemon { failure, json }
}

fn log_to_stderr(format: LogFormat) {
    // Levels of the libraries below warning would show subjects. What becomes of a connection is for `link` to say.
    let filter = tracing_subscriber::EnvFilter::try_from_env("UNIBUS_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("warn,async_nats::connector=off,membershipd=info,engine=info")
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| say::LogLines);
    match format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// Why a verb failed, and how that is told.
#[derive(Debug)]
enum Problem {
    Configuration { errors: ConfigErrors, json: bool },
    Daemon { failure: Failure, json: bool },
    Other(anyhow::Error),
}

impl Problem {
    fn report(self) -> u8 {
        match self {
            Problem::Configuration { errors, json } => {
                if json {
                    println!("{}", json!({ "schema": SCHEMA, "ok": false, "errors": errors }));
                }
                eprintln!("membershipd: {errors}");
                BAD_CONFIGURATION
            }
            Problem::Daemon { failure, json } => {
                if json {
                    println!("{}", json!({ "schema": SCHEMA, "error": failure }));
                }
                let (message, remedy) = (continued(&failure.message), continued(&failure.remedy));
                eprintln!("membershipd: {message}\n  remedy: {remedy}");
                FAILED
            }
            Problem::Other(error) => {
                eprintln!("membershipd: {}", continued(&format!("{error:#}")));
                FAILED
            }
        }
    }
}

impl From<ConfigErrors> for Problem {
    fn from(errors: ConfigErrors) -> Self {
        Problem::Configuration { errors, json: false }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Problem::Other(error)
    }
}
