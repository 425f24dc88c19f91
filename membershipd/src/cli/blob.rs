//! `membershipd blob`: the attachments of a room, sealed and opened on this machine.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{Api, Frames, Part};
use super::table::Table;
use super::{DONE, Problem};
use crate::blobs::BlobId;
use crate::control::Failure;
use unibus_client::api::{AddedBlob, Blob, Request, room_path};
use unibus_client::talk::{AttachmentName, Attachments, Sender, Sent};
use unibus_client::words::{local, size};
use unibus_core::domain::RoomId;
use unibus_core::private_file;
use unibus_names::printable::one_line;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Seals a file for the members of a room, adds it, 16 MiB at most, and tells the room of it
    Put {
        /// The room
        room: RoomId,
        /// The file
        file: PathBuf,
        /// What the members are told that it is called; without it, what the file is called
        #[arg(long)]
        name: Option<AttachmentName>,
        #[command(flatten)]
        frames: Frames,
        #[command(flatten)]
        api: Api,
    },
    /// Fetches an attachment and opens it into a new file, mode 0600
    Get {
        /// The room
        room: RoomId,
        /// What it is called there: 64 hexadecimal digits
        sha256: BlobId,
        /// File to make; an existing one is never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        api: Api,
    },
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
        What::Put { room, file, name, frames, api } => {
            let own = || file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let name = name.clone().unwrap_or_else(|| AttachmentName::like(&own()));
            put(room, file, name, frames, api)?;
        }
        What::Get { room, sha256, out, api } => get(room, *sha256, out, api)?,
        What::List { room, api } => {
            let none = format!("no attachments; next: membershipd blob put {room} FILE");
            api.print_list(&format!("{}/blobs", room_path(room)), "blobs", &none, table)?;
        }
        What::Remove { room, sha256, api } => {
            let request = Request::delete(format!("{}/blobs/{sha256}", room_path(room)));
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

fn put(room: &RoomId, file: &Path, name: AttachmentName, frames: &Frames, api: &Api) -> Result<(), Problem> {
    let plain = read(file)?;
    let size = u64::try_from(plain.len()).unwrap_or(u64::MAX);
    let added = api.talk(async |Part { identity, pins, client }| {
        let mut attachments = Attachments::over(client, identity, pins, room.clone()).await?;
        attachments.add(plain).await
    })?;
    let AddedBlob { blob: Blob { sha256, bytes, by, at_ms }, changed } = added;
    if !api.json() {
        // It is there, whatever becomes of the announcement.
        println!("{sha256}");
        println!("members of the room get it: membershipd blob get {room} {sha256} --out FILE");
    }
    let announced = announce(room, name, sha256, size, frames, api)?;
    if api.json() {
        let blob = json!({ "sha256": sha256, "bytes": bytes, "by": by, "at_ms": at_ms });
        let mut answer = json!({ "blob": blob, "changed": changed });
        if let (Some(sent), Some(answer)) = (announced, answer.as_object_mut()) {
            answer.insert("announced".to_owned(), json!({ "id": sent.id.to_string(), "seq": sent.seq }));
        }
        println!("{answer}");
    }
    Ok(())
}

/// Tells the room of an attachment that was added; none where the cluster's level has no way to say it.
fn announce(
    room: &RoomId,
    name: AttachmentName,
    sha256: BlobId,
    bytes: u64,
    frames: &Frames,
    api: &Api,
) -> Result<Option<Sent>, Problem> {
    let Part { identity, pins, client } = api.part()?;
    let shown = format!("{} ({})", one_line(name.as_str()), size(bytes));
    let said = super::block_on(async {
        let mut sender = frames.set(Sender::over(client, identity, pins, room.clone()).await?);
        sender.announce(sha256, bytes, name).await
    })?;
    match said {
        Ok(Some(sent)) => {
            if let (Some(seq), false) = (sent.seq, api.json()) {
                api.marks().change(room, |mark| mark.say(seq));
            }
            if !api.json() {
                println!("the room was told: {shown}");
            }
            Ok(Some(sent))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            let message = format!("{sha256} was added to {room}, but telling the room of it failed: {error}");
            let remedy = format!("{}; or tell its members: membershipd say {room} {sha256}", error.remedy());
            Err(Problem::Daemon { failure: Failure::new(error.code(), &message, &remedy), json: api.json() })
        }
    }
}

/// All of a file, as far as it is no more than is taken.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let most = Attachments::most();
    let mut plain = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut plain).with_context(|| format!("cannot read {}", path.display()))?;
    let allowed = size(u64::try_from(most).unwrap_or(u64::MAX));
    ensure!(plain.len() <= most, "{} has more than the {allowed} that an attachment may have", path.display());
    ensure!(!plain.is_empty(), "{} is empty", path.display());
    Ok(plain)
}

fn get(room: &RoomId, sha256: BlobId, out: &Path, api: &Api) -> Result<(), Problem> {
    // Said before anything is fetched; that nothing is written over is seen to when it is made.
    if out.symlink_metadata().is_ok() {
        return Err(anyhow::anyhow!(
            "{} exists, and nothing is ever written over it; name another file",
            out.display()
        )
        .into());
    }
    let plain = api.talk(async |Part { identity, pins, client }| {
        let mut attachments = Attachments::over(client, identity, pins, room.clone()).await?;
        attachments.fetch(sha256).await
    })?;
    private_file::create(out, &plain).map_err(anyhow::Error::from)?;
    if api.json() {
        println!("{}", json!({ "file": out, "bytes": plain.len() }));
    } else {
        println!("{} are in {}", size(u64::try_from(plain.len()).unwrap_or(u64::MAX)), out.display());
    }
    Ok(())
}

fn table(blobs: &[Blob]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["sha256", "size", "by", "at"]);
    for blob in blobs {
        table.row(vec![blob.sha256.to_string(), size(blob.bytes), blob.by.to_string(), local(blob.at_ms)]);
    }
    Ok(table)
}
