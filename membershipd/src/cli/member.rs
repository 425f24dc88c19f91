//! `membershipd member`: who is in a room, through the API.

use std::sync::Arc;

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{Api, Part};
use super::roles::MemberRole;
use super::table::{Table, word};
use super::{DONE, Problem};
use unibus_client::api::{Client, Member, Request, room_path};
use unibus_client::talk::{People, TalkError};
use unibus_core::domain::{Handle, RoomId};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

/// Somebody in a room.
#[derive(Debug, clap::Args)]
struct Whom {
    /// The room
    room: RoomId,
    /// The user
    handle: Handle,
    #[command(flatten)]
    api: Api,
}

#[derive(Debug, clap::Args)]
struct Oneself {
    /// The room
    room: RoomId,
    #[command(flatten)]
    api: Api,
}

#[derive(Debug, clap::Args)]
struct InRole {
    #[command(flatten)]
    whom: Whom,
    /// Role in the room
    #[arg(long, value_enum)]
    role: MemberRole,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists who is in a room, invited to it or banned from it
    List(Oneself),
    /// Invites a user, who is in the room once he accepts
    Invite(InRole),
    /// Accepts the invitation to a room
    Accept(Oneself),
    /// Gives a member another role
    SetRole(InRole),
    /// Removes a member, or takes an invitation back; the member's connections are closed when this returns
    Remove(Whom),
    /// Leaves a room, or declines the invitation
    Leave(Oneself),
    /// Bans a user, who can neither stay nor be invited
    Ban(Whom),
    /// Lifts a ban; the user may be invited again
    Unban(Whom),
}

/// Where a membership is.
pub(super) fn path(room: &RoomId, handle: &Handle) -> String {
    format!("{}/members/{handle}", room_path(room))
}

fn ban(room: &RoomId, handle: &Handle) -> String {
    format!("{}/bans/{handle}", room_path(room))
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    match &args.what {
        What::List(Oneself { room, api }) => {
            api.print_list(&format!("{}/members", room_path(room)), "members", "nobody", table)?;
        }
        What::Invite(InRole { whom: Whom { room, handle, api }, role }) => {
            api.change(&Request::put(path(room, handle), Some(json!({ "role": role.0 }))), table)?;
        }
        What::Accept(Oneself { room, api }) => {
            let answer = accept(room, api)?;
            api.print_change(answer, table)?;
        }
        What::SetRole(InRole { whom: Whom { room, handle, api }, role }) => {
            let path = path(room, handle);
            let answer = api.run(async |client| {
                let now: Member = client.ask_for(&Request::get(path.as_str())).await?;
                client.ask(&Request::patch(path.as_str(), json!({ "role": role.0 }), now.revision)).await
            })?;
            api.print_change(answer, table)?;
        }
        What::Remove(Whom { room, handle, api }) => api.change(&Request::delete(path(room, handle)), table)?,
        What::Leave(Oneself { room, api }) => {
            api.change(&Request::delete(path(room, &api.identity()?.handle)), table)?;
        }
        What::Ban(Whom { room, handle, api }) => api.change(&Request::put(ban(room, handle), None), table)?,
        What::Unban(Whom { room, handle, api }) => api.change(&Request::delete(ban(room, handle)), table)?,
    }
    Ok(DONE)
}

/// Accepts the invitation to a room, and lets the servers know our HPKE key, so that whoever speaks next seals for us, too.
pub(super) fn accept(room: &RoomId, api: &Api) -> Result<Value, Problem> {
    let own = path(room, &api.identity()?.handle);
    let answer = api.run(async |client| client.ask(&Request::put(format!("{own}/acceptance"), None)).await)?;
    let Part { identity, pins, nodes, ca } = api.part()?;
    api.talk(async {
        let client = Client::new(&identity, nodes, ca.as_deref()).map_err(TalkError::Identity)?;
        People::new(Arc::new(client), pins).introduce(&identity).await.map(drop)
    })?;
    Ok(answer)
}

fn table(members: &[Member]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["handle", "role", "state", "changed by"]);
    for member in members {
        table.row(vec![
            member.handle.to_string(),
            word(member.role)?,
            word(member.state)?,
            member.changed_by.to_string(),
        ]);
    }
    Ok(table)
}
