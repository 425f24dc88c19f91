//! `membershipd many-rooms`: rooms of one user, made and compared with what they were; `cargo xtask rehearse --upgrade` runs it.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::api::{Api, Part};
use super::{DONE, Problem, block_on};
use unibus_loadtest::many_rooms::{self, Owner};

/// Arguments of `many-rooms`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to do
    #[arg(value_enum)]
    what: What,
    /// The file that says what was said in them
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
    /// With 'make': how many
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: usize,
    /// With 'compare': say something more in some of them
    #[arg(long)]
    say: bool,
    #[command(flatten)]
    api: Api,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Make them, say something in each, and record it
    Make,
    /// Compare them with the record
    Compare,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let Part { identity, client, .. } = args.api.part()?;
    let nodes = client.nodes().into_iter().cloned().collect();
    let owner = Owner { identity, nodes, ca: client.ca().map(Path::to_owned), record: args.record.clone() };
    let done = match args.what {
        What::Make => block_on(many_rooms::make(owner, args.count))?,
        What::Compare => block_on(many_rooms::compare(owner, args.say))?,
    }?;
    if args.api.json() {
        println!("{}", json!(done));
    } else {
        println!("{} rooms with {} messages, {} of them said now", done.rooms, done.messages, done.said);
    }
    Ok(DONE)
}
