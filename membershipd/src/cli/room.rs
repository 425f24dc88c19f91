//! `membershipd room`: rooms, through the API.

use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};

use super::api::{Api, print_outcome};
use super::table::{Table, word};
use super::{DONE, Problem};
use crate::client::{Changed, Request, Room};
use crate::domain::{Policy, RoomId, Subject};

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

/// Where a room is.
pub(super) fn path(room: &RoomId) -> String {
    format!("/v1/rooms/{room}")
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    match &args.what {
        What::List(api) => {
            let rooms = api.run(async |client| client.list("/v1/rooms", "rooms").await)?;
            if api.json() {
                println!("{}", json!({ "rooms": rooms }));
                return Ok(DONE);
            }
            let rooms: Vec<Room> = serde_json::from_value(Value::Array(rooms)).map_err(anyhow::Error::from)?;
            if rooms.is_empty() {
                println!("no rooms; next: membershipd room create ROOM --subject room.NAME");
                return Ok(DONE);
            }
            print!("{}", table(&rooms)?);
        }
        What::Show { room, api } => {
            let value = api.run(async |client| client.ask(&Request::get(path(room))).await)?;
            if api.json() {
                println!("{value}");
                return Ok(DONE);
            }
            let room: Room = serde_json::from_value(value).map_err(anyhow::Error::from)?;
            print!("{}", table(&[room])?);
        }
        What::Create { room, subject, encrypt, persist, sign, api } => {
            let policy = Policy { encrypt: *encrypt, persist: *persist, sign: *sign };
            let body = json!({ "subject": subject, "policy": policy });
            changed(api, api.run(async |client| client.ask(&Request::put(path(room), Some(body))).await)?)?;
        }
        What::Set { room, subject, encrypt, persist, sign, api } => {
            let answer = api.run(async |client| {
                let now: Room = client.ask_for(&Request::get(path(room))).await?;
                let policy = Policy {
                    encrypt: encrypt.unwrap_or(now.policy.encrypt),
                    persist: persist.unwrap_or(now.policy.persist),
                    sign: sign.unwrap_or(now.policy.sign),
                };
                let mut body = json!({ "policy": policy });
                if let Some(subject) = subject {
                    body = json!({ "policy": policy, "subject": subject });
                }
                client.ask(&Request::patch(path(room), body, now.revision)).await
            })?;
            changed(api, answer)?;
        }
        What::Remove { room, api } => {
            changed(api, api.run(async |client| client.ask(&Request::delete(path(room))).await)?)?;
        }
    }
    Ok(DONE)
}

fn changed(api: &Api, answer: Value) -> anyhow::Result<()> {
    if api.json() {
        println!("{answer}");
        return Ok(());
    }
    let changed: Changed<Room> = serde_json::from_value(answer)?;
    print!("{}", table(std::slice::from_ref(&changed.record))?);
    print_outcome(&changed);
    Ok(())
}

fn table(rooms: &[Room]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["room", "subject", "messages", "state", "you"]);
    for room in rooms {
        let Policy { encrypt, persist, sign } = room.policy;
        let words = [(encrypt, "encrypted"), (persist, "kept"), (sign, "signed")];
        let words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        let own = match &room.own {
            Some(own) => format!("{} {}", word(own.state)?, word(own.role)?),
            None => "-".to_owned(),
        };
        table.row(vec![
            room.id.to_string(),
            room.subject.to_string(),
            if words.is_empty() { "plain".to_owned() } else { words.join(" ") },
            word(room.state)?,
            own,
        ]);
    }
    Ok(table)
}
