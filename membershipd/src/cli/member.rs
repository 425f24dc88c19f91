//! `membershipd member`: who is in a room, through the API.

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{Api, Part};
use super::roles::MemberRole;
use super::table::{Table, word};
use super::{DONE, FAILED, Problem};
use unibus_client::api::{Changed, Client, ClientError, Member, Request, room_path};
use unibus_client::talk::People;
use unibus_core::domain::{Handle, MemberState, RoomId, RoomRole};
use unibus_names::printable::continued;

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
    /// Invites users, each of whom is in the room once they accept
    Invite {
        /// The room
        room: RoomId,
        /// The users
        #[arg(value_name = "HANDLE", required = true)]
        handles: Vec<Handle>,
        /// Role in the room
        #[arg(long, value_enum, default_value = "member")]
        role: MemberRole,
        #[command(flatten)]
        api: Api,
    },
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
            api.print_list(&format!("{}/members", room_path(room)), "members", "no members", table)?;
        }
        What::Invite { room, handles, role, api } => return invite(room, handles, role.0, api),
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

fn invite(room: &RoomId, handles: &[Handle], role: RoomRole, api: &Api) -> Result<u8, Problem> {
    if let ([handle], true) = (handles, api.json()) {
        api.change(&Request::put(path(room, handle), Some(json!({ "role": role }))), table)?;
        return Ok(DONE);
    }
    let invited = api.run(async |client| Ok(Invitations::make(client, room, handles, role, api).await))?;
    if api.json() {
        println!("{}", json!({ "invited": invited.answers }));
    }
    Ok(invited.code())
}

/// What came of inviting several users to a room.
pub(super) struct Invitations {
    /// An answer for each, in their order: that of the node, or the handle and an error.
    pub(super) answers: Vec<Value>,
    failed: bool,
}

impl Invitations {
    /// Invites `handles` one after the other, and says of each what came of it. A user who cannot be invited stands in the way of no
    /// other one; where no node answers, the rest is not tried.
    pub(super) async fn make(client: &Client, room: &RoomId, handles: &[Handle], role: RoomRole, api: &Api) -> Self {
        let mut made = Self { answers: Vec::new(), failed: false };
        let mut first = None;
        for (at, handle) in handles.iter().enumerate() {
            let request = Request::put(path(room, handle), Some(json!({ "role": role })));
            let invited = match client.ask(&request).await {
                Ok(answer) => serde_json::from_value::<Changed<Member>>(answer.clone())
                    .map(|changed| (answer, changed))
                    .map_err(ClientError::Form),
                Err(error) => Err(error),
            };
            match invited {
                Ok((answer, Changed { record, changed, .. })) => {
                    if record.state == MemberState::Invited {
                        first = first.or(Some(handle));
                    }
                    if !api.json() {
                        println!("{}", told(&record, changed));
                    }
                    made.answers.push(answer);
                }
                Err(error) => {
                    let passes = matches!(error, ClientError::Refused(_));
                    made.note(handle, api.request_failed(client, &error).await);
                    if !passes && at + 1 < handles.len() {
                        let rest: Vec<String> = handles.iter().skip(at + 1).map(ToString::to_string).collect();
                        eprintln!("membershipd: not tried: {}", rest.join(", "));
                        break;
                    }
                }
            }
        }
        if let (Some(first), false) = (first, api.json()) {
            println!("next, as {first}: membershipd tail {room} --accept");
        }
        made
    }

    fn note(&mut self, handle: &Handle, problem: Problem) {
        self.failed = true;
        let Problem::Daemon { failure, json } = problem else { return };
        if json {
            self.answers.push(json!({ "handle": handle, "error": failure }));
        } else {
            let (message, remedy) = (continued(&failure.message), continued(&failure.remedy));
            eprintln!("membershipd: {handle} was not invited: {message}\n  remedy: {remedy}");
        }
    }

    /// 0: all are invited.
    pub(super) fn code(&self) -> u8 {
        if self.failed { FAILED } else { DONE }
    }
}

/// What an invitation came to, as people are told.
fn told(Member { room, handle, role, state, .. }: &Member, changed: bool) -> String {
    let role = word(role).unwrap_or_default();
    match (state, changed) {
        (MemberState::Joined, _) => format!("{handle} is in {room} already, as {role}"),
        (_, true) => format!("{handle} is invited to {room} as {role}"),
        (_, false) => format!("{handle} was invited to {room} before, as {role}"),
    }
}

/// Accepts the invitation to a room, and lets the servers know our HPKE key, so that whoever speaks next seals for us, too.
pub(super) fn accept(room: &RoomId, api: &Api) -> Result<Value, Problem> {
    let own = path(room, &api.identity()?.handle);
    let answer = api.run(async |client| client.ask(&Request::put(format!("{own}/acceptance"), None)).await)?;
    api.talk(async |Part { identity, pins, client }| People::new(client, pins).introduce(&identity).await.map(drop))?;
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
