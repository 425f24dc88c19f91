//! `membershipd user`: users, through the API as an admin, through the daemon of this machine as root, or in a file that no daemon uses.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Api, Signing, or_as_admin};
use super::roles::UserRole;
use super::table::{Table, word};
use super::{DONE, Daemon, Problem, hand_over, offline};
use crate::control::{self, Request};
use unibus_api_types::control::LIST_PAGE;
use unibus_client::api::{self, Client, ClientError};
use unibus_core::bus;
use unibus_core::domain::{Handle, RevocationOutcome, SignPub, State, User};

/// Arguments of `user`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --identity, or UNIBUS_IDENTITY, it is an admin who asks, through the API of any node. Without, or where --runtime-dir \
                  names a daemon, it is root on that machine, who may also leave the bus without an admin."
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    api: Api,
    /// Work on this file of the sqlite store, which no daemon uses, instead of asking one; 'add' makes it where it is missing
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, clap::Args)]
struct Revocation {
    /// Who
    handle: Handle,
    /// Do it even if no admin is left; then only root on a node can add one. For root on a node
    #[arg(long)]
    last_admin: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(flatten)]
    One(Step),
    /// Hand over what a user owns, or is alone in, and disable the user: as an admin, through the API. Without --yes the plan is shown
    HandOver(hand_over::Args),
}

#[derive(Debug, Subcommand)]
enum Step {
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
    /// Give a user another role; one that takes rights away returns when no node honours them any more
    Role {
        #[command(flatten)]
        of: Revocation,
        /// Which
        #[arg(value_enum)]
        role: UserRole,
    },
    /// Remove a user for good, like disable; handle and key are never given again
    Remove(Revocation),
}

impl Step {
    fn common(&self) -> &Common {
        match self {
            Self::List(common) | Self::Show { common, .. } | Self::Add { common, .. } | Self::Enable { common, .. } => {
                common
            }
            Self::Disable(of) | Self::Remove(of) | Self::Role { of, .. } => &of.common,
        }
    }

    /// Who is shut out.
    fn shut_out(&self) -> Option<&Handle> {
        match self {
            Self::Disable(of) | Self::Remove(of) => Some(&of.handle),
            _ => None,
        }
    }

    /// The same as a request to the daemon of this machine.
    fn for_root(&self) -> Request {
        let set = |handle: &Handle, state, last_admin| Request::UserSet { handle: handle.clone(), state, last_admin };
        match self {
            Self::List(_) => Request::UserList { after: None, limit: Some(LIST_PAGE) },
            Self::Show { handle, .. } => Request::UserShow { handle: handle.clone() },
            Self::Add { handle, sign_pub, role, .. } => {
                Request::UserAdd { handle: handle.clone(), sign_pub: *sign_pub, role: role.0 }
            }
            Self::Enable { handle, .. } => set(handle, State::Active, false),
            Self::Disable(of) => set(&of.handle, State::Disabled, of.last_admin),
            Self::Role { of, role } => {
                Request::UserRole { handle: of.handle.clone(), role: role.0, last_admin: of.last_admin }
            }
            Self::Remove(of) => set(&of.handle, State::Removed, of.last_admin),
        }
    }

    /// Asks `client` for the same, as an admin.
    async fn ask(&self, client: &Client) -> Result<Value, ClientError> {
        let path = |handle: &Handle| format!("/v1/users/{handle}");
        let patch = async |handle: &Handle, body: Value| {
            let now: api::User = client.ask_for(&api::Request::get(path(handle))).await?;
            client.ask(&api::Request::patch(path(handle), body, now.revision)).await
        };
        match self {
            Self::List(_) => Ok(json!({ "users": client.list("/v1/users", "users").await? })),
            Self::Show { handle, .. } => Ok(json!({ "user": client.ask(&api::Request::get(path(handle))).await? })),
            Self::Add { handle, sign_pub, role, .. } => {
                let body = json!({ "sign_pub": sign_pub, "role": role.0 });
                client.ask(&api::Request::put(path(handle), Some(body))).await
            }
            Self::Enable { handle, .. } => patch(handle, json!({ "state": State::Active })).await,
            Self::Disable(of) => patch(&of.handle, json!({ "state": State::Disabled })).await,
            Self::Role { of, role } => patch(&of.handle, json!({ "role": role.0 })).await,
            Self::Remove(of) => client.ask(&api::Request::delete(path(&of.handle))).await,
        }
    }
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let step = match &args.what {
        What::One(step) => step,
        What::HandOver(args) => return hand_over::run(args),
    };
    let common = step.common();
    let json = common.api.json();
    let by = if common.db.is_some() { Signing::Root } else { common.api.signing(&common.daemon) };
    if let (Some(handle), false, None) = (step.shut_out(), json, &common.db) {
        let bound = bus::revocation_bound().as_secs_f64();
        eprintln!("shutting {handle} out: done when every node has acknowledged it, or after {bound:.1} s");
    }
    let lists = matches!(step, Step::List(_));
    let answer = match (&common.db, by) {
        // All of a file that no daemon uses is in this process anyway.
        (Some(file), _) if lists => offline::ask(file, Request::UserList { after: None, limit: None }, json)?,
        (Some(file), _) => offline::ask(file, step.for_root(), json)?,
        (None, Signing::Root) => asked(common, step.for_root())?,
        (None, Signing::User) => {
            if let Step::Disable(of) | Step::Remove(of) | Step::Role { of, .. } = step
                && of.last_admin
            {
                let why = "--last-admin is for root on a node; remedy: run it there, without --identity";
                return Err(anyhow::anyhow!(why).into());
            }
            common.api.run(async |client| step.ask(client).await)?
        }
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
    let json = common.api.json();
    let runtime_dir = common.daemon.runtime_dir();
    let mut earlier = Vec::new();
    loop {
        let mut answer = control::ask(&runtime_dir, &request)
            .map_err(|failure| or_as_admin(Problem::Daemon { failure, json }, &common.daemon))?;
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
