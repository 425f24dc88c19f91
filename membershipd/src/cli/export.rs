//! `membershipd export`: all that a running daemon's store holds, as a new file of the sqlite store.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::other_end::OtherEnd;
use super::{DONE, FAILED, Output, Problem, block_on, failed_copy};
use crate::posture::SCHEMA;
use crate::transfer::{Copied, copy_out};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File to make, mode 0600; an existing one is never overwritten
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// How long to look for a moment at which nobody changes anything
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=3600))]
    within: u64,
    #[command(flatten)]
    from: OtherEnd,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.output.json;
    let copied = block_on(async {
        let from = args.from.open().await?;
        copy_out(&*from, &args.db, Duration::from_secs(args.within)).await
    })?;
    let Copied { content, missing } = copied.map_err(|error| failed_copy(&error, json))?;
    let (file, sha256) = (args.db.display().to_string(), content.sha256());
    if json {
        let answer = json!({
            "schema": SCHEMA, "ok": missing.is_nothing(), "file": file, "content_sha256": sha256,
            "entries": content.counts(), "missing": missing.rooms(), "missing_attachments": missing.attachments(),
        });
        println!("{answer}");
    } else {
        let (records, messages, attachments) = (content.audit(), content.messages(), content.attachments());
        let entries = content.entries();
        println!(
            "{entries} entries, {records} audit records, {messages} messages and {attachments} attachments are in {file}"
        );
        println!("content  {sha256}");
        println!("keep it as you keep a secret: it says who may do what, and who talks to whom");
    }
    if missing.is_nothing() {
        return Ok(DONE);
    }
    eprintln!("membershipd: the file has everything but what is damaged:");
    for line in missing.words() {
        eprintln!("  {line}");
    }
    eprintln!("  remedy: keep the file; then mend the rooms: membershipd repair --room ROOM");
    Ok(FAILED)
}
