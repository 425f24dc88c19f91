//! `membershipd room`: rooms, through the API.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use futures::StreamExt;
use serde_json::{Value, json};

use super::api::Api;
use super::marks::Mark;
use super::member::Invitations;
use super::table::{Table, word};
use super::{DONE, Problem};
use unibus_client::api::{Changed, Client, ClientError, Request, Room, room_path};
use unibus_client::talk::Ahead;
use unibus_client::words::size;
use unibus_core::domain::{Handle, Keep, MemberState, Policy, RoomId, RoomRole, RoomState, Subject};
use unibus_names::printable::one_line;

/// Rooms that are counted at once: as many readings as a node allows a user.
const AT_ONCE: usize = 4;
/// Time for counting what is new in a room.
const COUNTING: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists the rooms you are in or invited to; for admins all of them
    List(Api),
    /// Shows a room
    Show {
        /// Its id
        room: RoomId,
        #[command(flatten)]
        api: Api,
    },
    /// Makes a room and you its owner; run again it changes nothing
    Create {
        /// Its id: 1 to 64 of a-z, 0-9, '_' and '-', for ever
        room: RoomId,
        /// Its subject: proc, rpc, room or agent, and more tokens after dots; nobody else's may lie above or below it
        #[arg(long)]
        subject: Subject,
        /// Whether messages are sealed with the room's key
        #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
        encrypt: bool,
        /// Whether messages are kept as history
        #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
        persist: bool,
        /// Whether messages are signed by their senders
        #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
        sign: bool,
        /// A user to invite as a member; may be there several times
        #[arg(long = "invite", value_name = "HANDLE")]
        invited: Vec<Handle>,
        #[command(flatten)]
        api: Api,
    },
    /// Changes a room; what is not named stays. Whoever loses a right by it is cut before this returns
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// Its id
        room: RoomId,
        /// Another subject
        #[arg(long, group = "change")]
        subject: Option<Subject>,
        /// Whether messages are sealed with the room's key
        #[arg(long, value_name = "BOOL", group = "change")]
        encrypt: Option<bool>,
        /// Whether messages are kept as history
        #[arg(long, value_name = "BOOL", group = "change")]
        persist: Option<bool>,
        /// Whether messages are signed by their senders
        #[arg(long, value_name = "BOOL", group = "change")]
        sign: Option<bool>,
        /// Bytes of messages that are kept of it, within what the server allows; 0: as the server has it
        #[arg(long, value_name = "BYTES", group = "change")]
        keep_bytes: Option<u64>,
        /// Days for which a message is kept, within what the server allows; 0: as the server has it
        #[arg(long, value_name = "DAYS", group = "change")]
        keep_days: Option<u32>,
        #[command(flatten)]
        api: Api,
    },
    /// Removes a room for good; all that is left is its id, which is never used again
    Remove {
        /// Its id
        room: RoomId,
        #[command(flatten)]
        api: Api,
    },
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    match &args.what {
        What::List(api) => list(api)?,
        What::Show { room, api } => {
            let value = api.run(async |client| client.ask(&Request::get(room_path(room))).await)?;
            if api.json() {
                println!("{value}");
            } else {
                let room: Room = serde_json::from_value(value).map_err(anyhow::Error::from)?;
                print!("{}", table(std::slice::from_ref(&room))?);
                if let Some(Keep { bytes: Some(bytes), days }) = room.keeps.map(Keep::from) {
                    let days = match days {
                        None => String::new(),
                        Some(1) => ", for a day".to_owned(),
                        Some(days) => format!(", for {days} days"),
                    };
                    println!("of what is said the last {} are kept{days}", size(bytes));
                }
                if let Some(advice) = room.advice {
                    println!("note: {}", one_line(&advice));
                }
            }
        }
        What::Create { room, subject, encrypt, persist, sign, invited, api } => {
            let policy = Policy { encrypt: *encrypt, persist: *persist, sign: *sign };
            let body = json!({ "subject": subject, "policy": policy });
            return create(room, body, invited, api);
        }
        What::Set { room, subject, encrypt, persist, sign, keep_bytes, keep_days, api } => {
            let answer = api.run(async |client| {
                let now: Room = client.ask_for(&Request::get(room_path(room))).await?;
                let policy = Policy {
                    encrypt: encrypt.unwrap_or(now.policy.encrypt),
                    persist: persist.unwrap_or(now.policy.persist),
                    sign: sign.unwrap_or(now.policy.sign),
                };
                let subject = subject.as_ref().unwrap_or(&now.subject);
                let body = if keep_bytes.is_some() || keep_days.is_some() {
                    // What is not named stays, and 0 leaves it to the server.
                    let had = now.keep.unwrap_or_default();
                    let bytes = keep_bytes.or(had.bytes).filter(|bytes| *bytes > 0);
                    let days = keep_days.or(had.days).filter(|days| *days > 0);
                    json!({ "policy": policy, "subject": subject, "keep": Keep { bytes, days } })
                } else {
                    json!({ "policy": policy, "subject": subject })
                };
                client.ask(&Request::patch(room_path(room), body, now.revision)).await
            })?;
            api.print_change(answer, table)?;
        }
        What::Remove { room, api } => api.change(&Request::delete(room_path(room)), table)?,
    }
    Ok(DONE)
}

/// Makes a room, and invites users to it: steps of which each says what came of it.
fn create(room: &RoomId, body: Value, invited: &[Handle], api: &Api) -> Result<u8, Problem> {
    let mut answer = api.run(async |client| client.ask(&Request::put(room_path(room), Some(body))).await)?;
    let is_new = answer.get("changed") != Some(&Value::Bool(false));
    if !api.json() {
        let made: Changed<Room> = serde_json::from_value(answer.clone()).map_err(anyhow::Error::from)?;
        print!("{}", table(&[made.record])?);
        match (is_new, invited.is_empty()) {
            (true, _) => {}
            (false, true) => println!("nothing to do: it was so already"),
            (false, false) => println!("the room was there already"),
        }
    }
    if invited.is_empty() {
        if api.json() {
            println!("{answer}");
        }
        return Ok(DONE);
    }
    let made = api.run(async |client| Ok(Invitations::make(client, room, invited, RoomRole::Member, api).await))?;
    if api.json() {
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("invited".to_owned(), json!(made.answers));
        }
        println!("{answer}");
    }
    Ok(made.code())
}

/// Lists rooms, and for people how much is new in those that they are in.
fn list(api: &Api) -> Result<(), Problem> {
    let none = "no rooms; next: membershipd room create ROOM --subject room.NAME";
    if api.json() {
        return api.print_list("/v1/rooms", "rooms", none, table);
    }
    let marks = api.marks().all();
    let (rooms, new) = api.run(async |client| {
        let rooms = client.list("/v1/rooms", "rooms").await?.into_iter().map(serde_json::from_value::<Room>);
        let rooms = rooms.collect::<Result<Vec<_>, _>>().map_err(ClientError::Form)?;
        let counted = rooms.iter().filter(|room| is_read(room));
        let count = |room: &Room| {
            let (id, mark) = (room.id.clone(), marks.get(&room.id));
            async move { (id.clone(), new(client, &id, mark).await) }
        };
        let counts = counted.map(count);
        let new: BTreeMap<_, _> = futures::stream::iter(counts).buffer_unordered(AT_ONCE).collect().await;
        Ok((rooms, new))
    })?;
    if rooms.is_empty() {
        println!("{none}");
        return Ok(());
    }
    print!("{}", table_with(&rooms, Some(&new))?);
    Ok(())
}

/// Whether there may be something in it that the user has not read.
fn is_read(room: &Room) -> bool {
    room.state == RoomState::Active
        && room.policy.persist
        && room.own.as_ref().is_some_and(|own| own.state == MemberState::Joined)
}

/// How many messages of a room are new to the user, as people are told.
async fn new(client: &Client, room: &RoomId, mark: Option<&Mark>) -> String {
    let read = mark.and_then(|mark| mark.read).unwrap_or_default();
    match tokio::time::timeout(COUNTING, Ahead::of(client, room, read)).await {
        // Where the history ends before the mark, it was restored from an older copy.
        Ok(Ok(Ahead { last, count: Some(count) })) if last >= read => {
            match mark.map_or(count, |mark| mark.unread(count)) {
                0 => "-".to_owned(),
                new => new.to_string(),
            }
        }
        _ => "?".to_owned(),
    }
}

fn table(rooms: &[Room]) -> anyhow::Result<Table> {
    table_with(rooms, None)
}

/// The rooms, where `new` is given with what is new in them.
fn table_with(rooms: &[Room], new: Option<&BTreeMap<RoomId, String>>) -> anyhow::Result<Table> {
    let mut head = vec!["room", "subject", "messages", "state", "you"];
    head.extend(new.map(|_| "new"));
    let mut table = Table::new(&head);
    for room in rooms {
        let mut cells = row(room)?;
        cells.extend(new.map(|new| new.get(&room.id).cloned().unwrap_or_else(|| "-".to_owned())));
        table.row(cells);
    }
    Ok(table)
}

fn row(room: &Room) -> anyhow::Result<Vec<String>> {
    let Policy { encrypt, persist, sign } = room.policy.into();
    let words = [(encrypt, "encrypted"), (persist, "kept"), (sign, "signed")];
    let words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    let own = match &room.own {
        Some(own) => format!("{} {}", word(own.state)?, word(own.role)?),
        None => "-".to_owned(),
    };
    Ok(vec![
        room.id.to_string(),
        room.subject.to_string(),
        if words.is_empty() { "plain".to_owned() } else { words.join(" ") },
        word(room.state)?,
        own,
    ])
}
