//! `membershipd export`: all that a running daemon's store holds, as a new file of the sqlite store, or as a stream.

use std::io::{self, BufWriter, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::other_end::OtherEnd;
use super::{DONE, FAILED, Output, Problem, block_on, failed_copy};
use crate::posture::SCHEMA;
use crate::transfer::{Copied, Missing, StreamWriter, TransferError, copy_out, copy_to_stream};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// File to make, mode 0600; an existing one is never overwritten
    #[arg(long, value_name = "FILE", required_unless_present = "stream")]
    db: Option<PathBuf>,
    /// Write the copy to standard output while it is read, as `cargo xtask backup` keeps it: no file is made here, and nothing holds
    /// all of it. What --json says stands at its end
    #[arg(long, conflicts_with_all = ["db", "json"])]
    stream: bool,
    /// How long to look for a moment at which nobody changes anything
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=3600))]
    within: u64,
    #[command(flatten)]
    from: OtherEnd,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let patience = Duration::from_secs(args.within);
    match &args.db {
        Some(file) => to_file(args, file, patience),
        None => to_stream(args, patience),
    }
}

fn to_stream(args: &Args, patience: Duration) -> Result<u8, Problem> {
    if io::stdout().is_terminal() {
        return Err(anyhow::anyhow!(
            "a copy is no text: --stream writes to a file or a program, as in --stream > FILE"
        )
        .into());
    }
    let copied = block_on(async {
        let from = args.from.open().await?;
        let mut to = StreamWriter::begin(BufWriter::with_capacity(1 << 16, io::stdout()))?;
        let copied = copy_to_stream(&*from, &mut to, patience).await?;
        to.finish(answer(&copied))?;
        Ok::<_, TransferError>(copied)
    })?;
    Ok(tell_missing(&copied.map_err(|error| failed_copy(&error, false))?.missing))
}

/// What is said of a copy in JSON.
fn answer(Copied { content, missing }: &Copied) -> Value {
    json!({
        "schema": SCHEMA, "ok": missing.is_nothing(), "content_sha256": content.sha256(),
        "entries": content.counts(), "missing": missing.rooms(), "missing_attachments": missing.attachments(),
    })
}

fn to_file(args: &Args, path: &Path, patience: Duration) -> Result<u8, Problem> {
    let json = args.output.json;
    let copied = block_on(async {
        let from = args.from.open().await?;
        copy_out(&*from, path, patience).await
    })?;
    let copied = copied.map_err(|error| failed_copy(&error, json))?;
    let file = path.display().to_string();
    if json {
        let mut answer = answer(&copied);
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("file".to_owned(), file.into());
        }
        println!("{answer}");
        return Ok(tell_missing(&copied.missing));
    }
    let Copied { content, missing } = copied;
    let (records, messages, attachments) = (content.audit(), content.messages(), content.attachments());
    let entries = content.entries();
    println!(
        "{entries} entries, {records} audit records, {messages} messages and {attachments} attachments are in {file}"
    );
    println!("content  {}", content.sha256());
    println!("keep it as you keep a secret: it says who may do what, and who talks to whom");
    Ok(tell_missing(&missing))
}

/// Names what is missing; the exit code.
fn tell_missing(missing: &Missing) -> u8 {
    if missing.is_nothing() {
        return DONE;
    }
    eprintln!("membershipd: the file has everything but what is damaged:");
    for line in missing.words() {
        eprintln!("  {line}");
    }
    eprintln!("  remedy: keep the file; then mend the rooms: membershipd repair --room ROOM");
    FAILED
}
