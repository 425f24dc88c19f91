//! `membershipd user hand-over`: a colleague leaves. What a user owns, or is alone in, goes to another one, and then the user is disabled.
//!
//! No right is made for it: an admin may disable a user, and may make a member of a room its owner once no owner of it can act. So who
//! takes over has to be in a room already; where that is not so the plan says who has to invite, and nothing is done.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::api::Api;
use super::table::{Table, word};
use super::{DONE, Problem, member};
use unibus_client::api::{Blob, Changed, Client, ClientError, Invite, Member, Request, Room, User, room_path};
use unibus_core::domain::{Handle, MemberState, RoomId, RoomRole, RoomState, State};

/// Arguments of `user hand-over`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Who leaves
    #[arg(long, value_name = "HANDLE")]
    from: Handle,
    /// Who takes over: a member of each room that the other one alone owns
    #[arg(long, value_name = "HANDLE")]
    to: Handle,
    /// Do it; without this the plan is only printed
    #[arg(long)]
    yes: bool,
    /// Do it although rooms that are named in the plan will have no owner
    #[arg(long, requires = "yes")]
    leave_rooms: bool,
    #[command(flatten)]
    api: Api,
}

/// What becomes of a room in which the user who leaves is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    /// It goes on without the user.
    GoesOn,
    /// The one who takes over becomes its owner.
    HandedOver,
    /// The one who takes over is not in it, so it will have no owner.
    NotAMember,
    /// The user is the only one in it.
    Alone,
}

impl Fate {
    /// For people, with what has to be done where something has.
    fn in_words(self, room: &RoomId, from: &Handle, to: &Handle) -> String {
        match self {
            Fate::GoesOn => "goes on: others own it".to_owned(),
            Fate::HandedOver => format!("{to} becomes its owner"),
            Fate::NotAMember => format!(
                "will have no owner: first, as {from}, 'membershipd member invite {room} {to} --role owner', and as {to} \
                 'membershipd member accept {room}'"
            ),
            Fate::Alone => format!(
                "{from} is alone in it: if it is needed, the same invitation; if not, 'membershipd room remove {room}'"
            ),
        }
    }

    /// Whether it can never be governed again when the user is gone.
    fn is_lost(self) -> bool {
        matches!(self, Fate::NotAMember | Fate::Alone)
    }
}

/// A room of the user who leaves.
#[derive(Debug, Serialize)]
struct RoomOf {
    room: RoomId,
    role: RoomRole,
    fate: Fate,
    /// Attachments of the user there, as far as who asks may list them; they stay.
    attachments: Option<usize>,
}

/// All that is looked at before anything is changed.
#[derive(Debug, Serialize)]
struct Plan {
    from: Handle,
    to: Handle,
    state: State,
    rooms: Vec<RoomOf>,
    /// Open invitations of new users, by the beginning of their ids: they end with the rights of who made them.
    invites: Vec<String>,
}

impl Plan {
    fn lost(&self) -> impl Iterator<Item = &RoomOf> {
        self.rooms.iter().filter(|room| room.fate.is_lost())
    }

    fn handed_over(&self) -> impl Iterator<Item = &RoomId> {
        self.rooms.iter().filter(|room| room.fate == Fate::HandedOver).map(|room| &room.room)
    }
}

/// Looks, prints the plan, and carries it out with `--yes`.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let Args { from, to, api, .. } = args;
    let own = api.identity()?.handle;
    if from == to {
        return Err(anyhow::anyhow!("--from and --to name the same user, {from}").into());
    }
    if own == *from {
        let why = format!("{from} cannot be handed over by {from}: an admin who stays does it");
        return Err(anyhow::anyhow!(why).into());
    }
    let plan = api.run(async |client| look(client, from, to).await)?;
    let plan = plan.map_err(|why| anyhow::anyhow!(why))?;
    if !args.yes {
        if api.json() {
            println!("{}", as_json(&plan, false));
        } else {
            print(&plan)?;
            println!("nothing was changed; to do it: membershipd user hand-over --from {from} --to {to} --yes");
        }
        return Ok(DONE);
    }
    let lost: Vec<String> = plan.lost().map(|room| room.room.to_string()).collect();
    if !(lost.is_empty() || args.leave_rooms) {
        print_rooms(&plan);
        let why = format!(
            "{} would have no owner any more, so nothing was changed; do what the plan says, or leave them so with --leave-rooms",
            lost.join(", ")
        );
        return Err(anyhow::anyhow!(why).into());
    }
    // The right to give a room to a member is there once no owner of it can act.
    let disabled = api.run(async |client| disable(client, from).await)?;
    if !api.json() {
        api.print_change(disabled, users)?;
    }
    for room in plan.handed_over() {
        let answer = api.run(async |client| make_owner(client, room, to).await)?;
        if !api.json() {
            println!(
                "{room}: {}",
                if answer { format!("{to} is its owner now") } else { format!("{to} was its owner") }
            );
        }
    }
    if api.json() {
        println!("{}", as_json(&plan, true));
    } else {
        println!(
            "{from} is disabled, and owns nothing alone any more; 'membershipd user remove {from}' on a node is for good"
        );
    }
    Ok(DONE)
}

fn as_json(plan: &Plan, done: bool) -> Value {
    let mut value = json!(plan);
    if let Some(all) = value.as_object_mut() {
        all.insert("schema".to_owned(), 1.into());
        all.insert("done".to_owned(), done.into());
    }
    value
}

/// What there is of `from`; or why it cannot go to `to`.
async fn look(client: &Client, from: &Handle, to: &Handle) -> Result<Result<Plan, String>, ClientError> {
    let users: Vec<User> = entries(client, "/v1/users", "users").await?;
    let of = |handle: &Handle| users.iter().find(|user| user.handle == *handle);
    let Some(leaving) = of(from).filter(|user| user.state != State::Removed) else {
        return Ok(Err(format!("there is no user {from}, or no more; see 'membershipd user list'")));
    };
    if of(to).is_none_or(|user| user.state != State::Active) {
        return Ok(Err(format!("{to} is no active user, so nothing can go there")));
    }
    let active: BTreeSet<&Handle> =
        users.iter().filter(|user| user.state == State::Active).map(|user| &user.handle).collect();
    let all: Vec<Room> = entries(client, "/v1/rooms", "rooms").await?;
    let mut rooms = Vec::new();
    for room in all.into_iter().filter(|room| room.state == RoomState::Active) {
        let path = room_path(&room.id);
        let members: Vec<Member> = entries(client, &format!("{path}/members"), "members").await?;
        let Some((role, fate)) = fate(&members, from, to, &active) else { continue };
        // Who is not in a room may not see what hangs on it.
        let attachments = entries::<Blob>(client, &format!("{path}/blobs"), "blobs").await.ok();
        let attachments = attachments.map(|blobs| blobs.iter().filter(|blob| blob.by == *from).count());
        rooms.push(RoomOf { room: room.id, role, fate, attachments });
    }
    let invites: Vec<Invite> = entries(client, "/v1/invites", "invites").await?;
    let open = invites.into_iter().filter(|invite| invite.by == *from && invite.state == "open");
    let invites =
        open.map(|invite| format!("{} for {}", invite.id.to_string().get(..8).unwrap_or_default(), invite.handle));
    let invites = invites.collect();
    Ok(Ok(Plan { from: from.clone(), to: to.clone(), state: leaving.state, rooms, invites }))
}

async fn entries<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    field: &str,
) -> Result<Vec<T>, ClientError> {
    let values = client.list(path, field).await?;
    serde_json::from_value(Value::Array(values)).map_err(ClientError::Form)
}

/// What becomes of a room with these members, and the role in it of the one who leaves; none where that one is not in it.
fn fate(members: &[Member], from: &Handle, to: &Handle, active: &BTreeSet<&Handle>) -> Option<(RoomRole, Fate)> {
    let joined = || members.iter().filter(|member| member.state == MemberState::Joined);
    let own = joined().find(|member| member.handle == *from)?;
    let acts = |member: &&Member| member.role == RoomRole::Owner && active.contains(&member.handle);
    let others_own = joined().filter(acts).any(|member| member.handle != *from);
    let fate = if others_own {
        Fate::GoesOn
    } else if joined().any(|member| member.handle == *to) {
        Fate::HandedOver
    } else if joined().all(|member| member.handle == *from) {
        Fate::Alone
    } else {
        Fate::NotAMember
    };
    Some((own.role, fate))
}

async fn disable(client: &Client, handle: &Handle) -> Result<Value, ClientError> {
    let path = format!("/v1/users/{handle}");
    let user: User = client.ask_for(&Request::get(path.as_str())).await?;
    client.ask(&Request::patch(path, json!({ "state": "disabled" }), user.revision)).await
}

/// Whether that changed anything.
async fn make_owner(client: &Client, room: &RoomId, handle: &Handle) -> Result<bool, ClientError> {
    let path = member::path(room, handle);
    let now: Member = client.ask_for(&Request::get(path.as_str())).await?;
    let role = json!({ "role": RoomRole::Owner });
    let changed: Changed<Member> = client.ask_for(&Request::patch(path, role, now.revision)).await?;
    Ok(changed.changed)
}

fn users(users: &[User]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["handle", "role", "state"]);
    for user in users {
        table.row(vec![user.handle.to_string(), word(user.role)?, word(user.state)?]);
    }
    Ok(table)
}

fn print(plan: &Plan) -> anyhow::Result<()> {
    let Plan { from, state, rooms, invites, .. } = plan;
    let rooms = if rooms.len() == 1 { "1 room".to_owned() } else { format!("{} rooms", rooms.len()) };
    println!("{from} is {}, and is in {rooms}", word(*state)?);
    print_rooms(plan);
    if !invites.is_empty() {
        println!("open invitations by {from} end, make them again: {}", invites.join(", "));
    }
    println!("its connections are ended on all nodes; what it said and hung on rooms stays");
    Ok(())
}

fn print_rooms(plan: &Plan) {
    for RoomOf { room, role, fate, attachments } in &plan.rooms {
        let attachments = match attachments {
            Some(0) | None => String::new(),
            Some(count) => format!(", {count} attachments"),
        };
        let role = word(*role).unwrap_or_default();
        println!("  {room} ({role}{attachments}): {}", fate.in_words(room, &plan.from, &plan.to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(handle: &str, role: RoomRole, state: MemberState) -> Member {
        let value = json!({
            "room": "hall", "handle": handle, "role": role, "state": state, "changed_by": "root", "revision": 1,
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn room_goes_to_a_member_and_only_where_no_other_owner_can_act() {
        use MemberState::{Invited, Joined};
        use RoomRole::{Member as Plain, Owner};
        let [from, to, dan]: [Handle; 3] = ["alice", "bob", "dan"].map(|handle| handle.parse().unwrap());
        let active = BTreeSet::from([&from, &to, &dan]);
        let of = |others: &[(&str, RoomRole, MemberState)]| {
            let alice = member("alice", Owner, Joined);
            let others = others.iter().map(|(handle, role, state)| member(handle, *role, *state));
            let members: Vec<Member> = std::iter::once(alice).chain(others).collect();
            fate(&members, &from, &to, &active).unwrap().1
        };
        assert_eq!(of(&[]), Fate::Alone);
        assert_eq!(of(&[("bob", Owner, Invited)]), Fate::Alone, "an invitation is not there");
        assert_eq!(of(&[("bob", Plain, Joined)]), Fate::HandedOver);
        assert_eq!(of(&[("dan", Plain, Joined)]), Fate::NotAMember);
        assert_eq!(of(&[("dan", Owner, Joined)]), Fate::GoesOn);
        assert_eq!(of(&[("eve", Owner, Joined), ("bob", Plain, Joined)]), Fate::HandedOver, "eve is disabled");
        let none = [member("bob", Owner, Joined)];
        assert_eq!(fate(&none, &from, &to, &active), None);
        let left = [member("alice", Owner, MemberState::Removed)];
        assert_eq!(fate(&left, &from, &to, &active), None);
    }
}
