//! `membershipd room`: rooms, through the API.

use clap::{ArgGroup, Subcommand};
use serde_json::json;

use super::api::Api;
use super::table::{Table, word};
use super::{DONE, Problem, member};
use unibus_client::api::{Request, Room, room_path};
use unibus_core::domain::{Handle, Keep, Policy, RoomId, RoomRole, Subject};
use unibus_names::printable::one_line;

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
        What::List(api) => {
            let none = "no rooms; next: membershipd room create ROOM --subject room.NAME";
            api.print_list("/v1/rooms", "rooms", none, table)?;
        }
        What::Show { room, api } => {
            let value = api.run(async |client| client.ask(&Request::get(room_path(room))).await)?;
            if api.json() {
                println!("{value}");
            } else {
                let room: Room = serde_json::from_value(value).map_err(anyhow::Error::from)?;
                print!("{}", table(std::slice::from_ref(&room))?);
                if let Some(Keep { bytes: Some(bytes), days }) = room.keeps.map(Keep::from) {
                    let days = days.map_or_else(|| "without end".to_owned(), |days| format!("for {days} days"));
                    println!("kept: up to {bytes} bytes, {days}");
                }
                if let Some(advice) = room.advice {
                    println!("note: {}", one_line(&advice));
                }
            }
        }
        What::Create { room, subject, encrypt, persist, sign, invited, api } => {
            let policy = Policy { encrypt: *encrypt, persist: *persist, sign: *sign };
            let body = json!({ "subject": subject, "policy": policy });
            let answer = api.run(async |client| {
                let made = client.ask(&Request::put(room_path(room), Some(body))).await?;
                for handle in invited {
                    let role = json!({ "role": RoomRole::Member });
                    client.ask(&Request::put(member::path(room, handle), Some(role))).await?;
                }
                Ok(made)
            })?;
            api.print_change(answer, table)?;
            if let (Some(first), false) = (invited.first(), api.json()) {
                println!("next, as {first}: membershipd tail {room} --accept");
            }
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

fn table(rooms: &[Room]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["room", "subject", "messages", "state", "you"]);
    for room in rooms {
        let Policy { encrypt, persist, sign } = room.policy.into();
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
