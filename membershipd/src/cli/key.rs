//! `membershipd key`: the keys of rooms, and what this user has seen of the keys of others.

use clap::Subcommand;
use serde_json::json;

use super::api::{Api, Part};
use super::table::Table;
use super::{DONE, Problem};
use unibus_client::api::{Request, room_path};
use unibus_client::talk::{Keyring, People, Pins};
use unibus_core::domain::{Handle, RoomId};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct OfRoom {
    /// The room
    room: RoomId,
    #[command(flatten)]
    api: Api,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Shows which key of a room is the newest, and whether it is sealed for those who are there now
    Show(OfRoom),
    /// Makes a new key for a room, and seals it for everybody who is there
    Rotate(OfRoom),
    /// Lists whose keys this user has seen, and holds the servers to
    Pins {
        /// Where the file of them is gone for good: meet each user for the first time again
        #[arg(long)]
        begin_anew: bool,
        #[command(flatten)]
        api: Api,
    },
    /// Takes it that a room's messages are in clear from now on, after an owner has said so in person
    Unseal(OfRoom),
    /// Forgets a user's keys, after he has said in person that he has new ones
    Forget {
        /// The user
        handle: Handle,
        #[command(flatten)]
        api: Api,
    },
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    match &args.what {
        What::Show(OfRoom { room, api }) => show(room, api),
        What::Rotate(OfRoom { room, api }) => rotate(room, api),
        What::Pins { begin_anew: true, api } => begin_anew(api),
        What::Pins { begin_anew: false, api } => pins(api),
        What::Unseal(OfRoom { room, api }) => unseal(room, api),
        What::Forget { handle, api } => forget(handle, api),
    }?;
    Ok(DONE)
}

fn show(room: &RoomId, api: &Api) -> Result<(), Problem> {
    let newest = api.run(async |client| client.ask(&Request::get(format!("{}/keys", room_path(room)))).await)?;
    if api.json() {
        println!("{newest}");
        return Ok(());
    }
    let is = |field: &str| newest.get(field).and_then(serde_json::Value::as_bool) == Some(true);
    let yes = |is| if is { "yes" } else { "no" }.to_owned();
    let mut table = Table::new(&["room", "epoch", "yours", "for all who are there"]);
    let epoch = newest.get("epoch").map_or_else(|| "none yet".to_owned(), ToString::to_string);
    table.row(vec![room.to_string(), epoch, yes(is("own")), yes(!is("stale"))]);
    print!("{table}");
    if is("stale") {
        println!("whoever says something next makes a new one; to do it now: membershipd key rotate {room}");
    }
    Ok(())
}

fn rotate(room: &RoomId, api: &Api) -> Result<(), Problem> {
    let epoch = api.talk(async |Part { identity, pins, client }| {
        let mut people = People::new(client.clone(), pins);
        let own = people.introduce(&identity).await?;
        Keyring::new(client, room.clone(), identity, own)?.rotate(&mut people).await
    })?;
    if api.json() {
        println!("{}", json!({ "room": room, "epoch": epoch }));
    } else {
        println!("epoch {epoch} of '{room}' has begun: what is said from now on is sealed with a new key");
    }
    Ok(())
}

/// The pins of who is named, where it is known who that is. Needs no node.
fn pins_of(api: &Api) -> anyhow::Result<Pins> {
    api.identity()?;
    Ok(api.pins())
}

fn pins(api: &Api) -> Result<(), Problem> {
    let users = pins_of(api)?.users().map_err(|error| api.pins_failed(&error.into()))?;
    if api.json() {
        println!("{}", json!({ "users": users }));
    } else if users.is_empty() {
        println!("nobody yet");
    } else {
        let mut table = Table::new(&["handle", "signing key", "hpke key"]);
        for (handle, pinned) in users {
            let hpke = pinned.hpke_pub.map_or_else(|| "none yet".to_owned(), |key| key.to_string());
            table.row(vec![handle.to_string(), pinned.sign_pub.to_string(), hpke]);
        }
        print!("{table}");
    }
    Ok(())
}

fn begin_anew(api: &Api) -> Result<(), Problem> {
    let were_gone = pins_of(api)?.begin_anew().map_err(|error| api.pins_failed(&error.into()))?;
    if api.json() {
        println!("{}", json!({ "were_gone": were_gone }));
    } else if were_gone {
        println!(
            "each user is met for the first time again: compare their keys with them in person (membershipd key pins)"
        );
    } else {
        println!("nothing to do: what was seen of others is there");
    }
    Ok(())
}

fn unseal(room: &RoomId, api: &Api) -> Result<(), Problem> {
    let was = pins_of(api)?.unseal(room).map_err(|error| api.pins_failed(&error.into()))?;
    if api.json() {
        println!("{}", json!({ "room": room, "was_sealed": was }));
    } else if was {
        println!("what this user says in '{room}' may be in clear from now on, if the servers say so");
    } else {
        println!("nothing to do: messages of '{room}' were never seen to be sealed");
    }
    Ok(())
}

fn forget(handle: &Handle, api: &Api) -> Result<(), Problem> {
    let was = pins_of(api)?.forget(handle).map_err(|error| api.pins_failed(&error.into()))?;
    if api.json() {
        println!("{}", json!({ "handle": handle, "forgotten": was }));
    } else if was {
        println!("'{handle}' is met for the first time again");
    } else {
        println!("nothing to do: '{handle}' was not met before");
    }
    Ok(())
}
