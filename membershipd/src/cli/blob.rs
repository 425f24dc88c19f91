//! `membershipd blob`: the attachments of a room, through the API.

use clap::Subcommand;
use serde_json::Value;

use super::api::Api;
use super::table::Table;
use super::{DONE, Problem, room};
use crate::blobs::BlobId;
use crate::client::{Blob, Request};
use crate::clock;
use crate::domain::RoomId;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists the attachments of a room
    List {
        /// The room
        room: RoomId,
        #[command(flatten)]
        api: Api,
    },
    /// Removes an attachment: your own, or as a moderator or owner anybody's
    Remove {
        /// The room
        room: RoomId,
        /// What it is called there: 64 hexadecimal digits
        sha256: BlobId,
        #[command(flatten)]
        api: Api,
    },
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    match &args.what {
        What::List { room, api } => {
            api.print_list(&format!("{}/blobs", room::path(room)), "blobs", "no attachments", table)?;
        }
        What::Remove { room, sha256, api } => {
            let request = Request::delete(format!("{}/blobs/{sha256}", room::path(room)));
            let answer = api.run(async |client| client.ask(&request).await)?;
            if api.json() {
                println!("{answer}");
            } else if answer.get("changed") == Some(&Value::Bool(true)) {
                println!("{sha256} was removed from {room}");
            } else {
                println!("nothing to do: {room} has no such attachment");
            }
        }
    }
    Ok(DONE)
}

fn table(blobs: &[Blob]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["sha256", "bytes", "by", "at"]);
    for blob in blobs {
        let at = clock::rfc3339(blob.at_ms.div_euclid(1000));
        table.row(vec![blob.sha256.to_string(), blob.bytes.to_string(), blob.by.to_string(), at]);
    }
    Ok(table)
}
