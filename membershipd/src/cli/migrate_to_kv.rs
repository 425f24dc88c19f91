//! `membershipd migrate-to-kv`: a file of the sqlite store carried into an empty cluster, through its running daemon.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::other_end::OtherEnd;
use super::{DONE, Output, Problem, block_on, failed_copy};
use crate::posture::SCHEMA;
use crate::transfer::{Carried, OfStore, Part, TransferError, copy_in, unpack_stream};
use unibus_core::clock;
use unibus_store::SqliteStore;

/// Arguments of `migrate-to-kv`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File of the sqlite store: a backup, or that of a node on its own, whose daemon is stopped
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    #[command(flatten)]
    to: OtherEnd,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.output.json;
    let carried = block_on(carry(args))?.map_err(|error| failed_copy(&error, json))?;
    let (content, sha256) = (&carried.content, carried.content.sha256());
    if json {
        let answer = json!({
            "schema": SCHEMA, "ok": true, "written": carried.written, "content_sha256": sha256,
            "entries": content.counts(),
        });
        println!("{answer}");
        return Ok(DONE);
    }
    match carried.written {
        0 => println!("nothing to do: everything was there already"),
        written => println!("{written} entries, audit records, messages and attachments were written"),
    }
    println!("content  {sha256}");
    Ok(DONE)
}

async fn carry(args: &Args) -> Result<Carried, TransferError> {
    let unpacked = unpack_stream(&args.db)?;
    let file = unpacked.as_ref().map_or(&args.db, |unpacked| &unpacked.path);
    let store = SqliteStore::open_existing(file, Arc::new(clock::unix_ms))?;
    store.check().await?;
    let to = args.to.open().await?;
    // Refused before anything is read, where nothing could be written.
    to.write(Part::Audit, Vec::new()).await?;
    let shown = std::io::stderr().is_terminal() && !args.output.json;
    let progress = |there, all| {
        if shown {
            super::say::count(format_args!("{there} of {all}"));
        }
    };
    let carried = copy_in(&OfStore::file(Arc::new(store)), &*to, progress).await;
    if shown {
        eprintln!();
    }
    carried
}
