//! `membershipd user`: users, through the running daemon or in a file that none uses.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::roles::UserRole;
use super::table::{Table, word};
use super::{DONE, Daemon, Output, Problem, hand_over, offline};
use crate::control::{self, Request};
use unibus_api_types::control::LIST_PAGE;
use unibus_core::bus;
use unibus_core::domain::{Handle, RevocationOutcome, SignPub, State, User};

/// Arguments of `user`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Work on this file of the sqlite store, which no daemon uses, instead of asking one; 'add' makes it where it is missing
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Revocation {
    /// Who
    handle: Handle,
    /// Do it even if no admin is left; then only root on a node can add one
    #[arg(long)]
    last_admin: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List all users, removed ones included
    List(Common),
    /// Show one user
    Show {
        /// Who
        handle: Handle,
        #[command(flatten)]
        common: Common,
    },
    /// Add a user
    Add {
        /// Name: a-z, 0-9, '_' and '-', at most 32
        #[arg(long)]
        handle: Handle,
        /// Public signing key, 64 hex digits, from 'membershipd identity show'
        #[arg(long, value_name = "HEX")]
        sign_pub: SignPub,
        /// What the user may do beside using the bus
        #[arg(long, value_enum, default_value = "user")]
        role: UserRole,
        #[command(flatten)]
        common: Common,
    },
    /// Admit a disabled user again
    Enable {
        /// Who
        handle: Handle,
        #[command(flatten)]
        common: Common,
    },
    /// Shut a user out: cuts its connections everywhere, and returns when no node can admit it any more
    Disable(Revocation),
    /// Remove a user for good, like disable; handle and key are never given again
    Remove(Revocation),
    /// Hand over what a user owns, or is alone in, and disable the user: as an admin, through the API. Without --yes the plan is shown
    HandOver(hand_over::Args),
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let set = |handle: &Handle, state, last_admin| Request::UserSet { handle: handle.clone(), state, last_admin };
    let (request, common) = match &args.what {
        What::HandOver(args) => return hand_over::run(args),
        What::List(common) => (Request::UserList { after: None, limit: Some(LIST_PAGE) }, common),
        What::Show { handle, common } => (Request::UserShow { handle: handle.clone() }, common),
        What::Add { handle, sign_pub, role, common } => {
            (Request::UserAdd { handle: handle.clone(), sign_pub: *sign_pub, role: role.0 }, common)
        }
        What::Enable { handle, common } => (set(handle, State::Active, false), common),
        What::Disable(of) => (set(&of.handle, State::Disabled, of.last_admin), &of.common),
        What::Remove(of) => (set(&of.handle, State::Removed, of.last_admin), &of.common),
    };
    let json = common.output.json;
    if let (Request::UserSet { handle, state: State::Disabled | State::Removed, .. }, false, None) =
        (&request, json, &common.db)
    {
        let bound = bus::revocation_bound().as_secs_f64();
        eprintln!("shutting {handle} out: done when every node has acknowledged it, or after {bound:.1} s");
    }
    let lists = matches!(request, Request::UserList { .. });
    let answer = match &common.db {
        // All of a file that no daemon uses is in this process anyway.
        Some(file) if lists => offline::ask(file, Request::UserList { after: None, limit: None }, json)?,
        Some(file) => offline::ask(file, request, json)?,
        None => asked(common, request)?,
    };
    if json {
        println!("{answer}");
    } else {
        print(lists, answer)?;
    }
    Ok(DONE)
}

/// The answer of the daemon, with all pages of a list together.
fn asked(common: &Common, mut request: Request) -> Result<Value, Problem> {
    let json = common.output.json;
    let mut earlier = Vec::new();
    loop {
        let mut answer =
            control::ask(&common.daemon.runtime_dir, &request).map_err(|failure| Problem::Daemon { failure, json })?;
        let next = answer.as_object_mut().and_then(|answer| answer.remove("next"));
        let next: Option<Handle> = next.map(serde_json::from_value).transpose().map_err(anyhow::Error::from)?.flatten();
        let Some(Value::Array(users)) = answer.get_mut("users") else { return Ok(answer) };
        earlier.append(users);
        match next {
            Some(after) => request = Request::UserList { after: Some(after), limit: Some(LIST_PAGE) },
            None => {
                *users = earlier;
                return Ok(answer);
            }
        }
    }
}

fn print(lists: bool, answer: Value) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        users: Vec<User>,
        user: Option<User>,
        changed: Option<bool>,
        fence: Option<RevocationOutcome>,
        #[serde(default)]
        waited_ms: u64,
    }
    let answer: Answer = serde_json::from_value(answer)?;
    let mut table = Table::new(&["handle", "role", "state", "sign-pub"]);
    for user in answer.users.iter().chain(&answer.user) {
        table.row(vec![user.handle.to_string(), word(user.role)?, word(user.state)?, user.sign_pub.to_string()]);
    }
    if lists && table.is_empty() {
        println!("no users yet; next: cargo xtask seed-admin");
        return Ok(());
    }
    print!("{table}");
    if answer.changed == Some(false) {
        println!("nothing to do: it was so already");
    }
    let waited = answer.waited_ms;
    match answer.fence {
        Some(RevocationOutcome::Acknowledged) => println!("acknowledged by every node after {waited} ms"),
        Some(RevocationOutcome::WaitedOut) => {
            println!("not acknowledged by every node; after {waited} ms none can honour what was taken away any more");
        }
        None => {}
    }
    Ok(())
}
