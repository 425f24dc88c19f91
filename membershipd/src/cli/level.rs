//! `membershipd level`: the feature level of the cluster, through the running daemon.

use serde::Deserialize;

use super::table::Table;
use super::{DONE, Daemon, FAILED, Output, Problem};
use crate::control::{self, Request};
use crate::level::LevelStatus;
use crate::posture::SCHEMA;
use unibus_core::domain::FeatureLevel;

/// Arguments of `level`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to do about it; without a word it is shown
    #[arg(value_enum)]
    what: Option<What>,
    /// With 'raise': change nothing; exit 0 if the cluster is at the highest level of this release already, else 1
    #[arg(long, requires = "what")]
    check: bool,
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Raise the level to the highest that this release can do. Older releases stay out of the cluster from then on, and no level is
    /// ever lowered; repeating is safe
    Raise,
    /// Print the highest level that this release can do, and ask no daemon
    Highest,
}

#[derive(Deserialize)]
struct Answer {
    status: LevelStatus,
    raised: Option<Raised>,
}

#[derive(Deserialize)]
struct Raised {
    changed: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let json = args.output.json;
    if args.what == Some(What::Highest) {
        let highest = FeatureLevel::highest();
        if json {
            println!("{}", serde_json::json!({ "schema": SCHEMA, "highest": highest }));
        } else {
            println!("{highest}");
        }
        return Ok(DONE);
    }
    let raises = args.what == Some(What::Raise) && !args.check;
    let request = if raises { Request::LevelRaise } else { Request::Level };
    let value =
        control::ask(&args.daemon.runtime_dir(), &request).map_err(|failure| Problem::Daemon { failure, json })?;
    let Answer { status, raised } = serde_json::from_value(value.clone()).map_err(anyhow::Error::from)?;
    let is_highest = status.level.number() == status.highest;
    if json {
        println!("{value}");
    } else {
        match raised {
            Some(Raised { changed: true }) => {
                println!("the cluster is at feature level {}; older releases stay out of it", status.level);
            }
            Some(Raised { changed: false }) => println!("the cluster was at feature level {} already", status.level),
            None => print!("{}", text(&status)),
        }
    }
    Ok(if args.check && !is_highest { FAILED } else { DONE })
}

fn text(status: &LevelStatus) -> String {
    let mut table = Table::new(&["node", "can do"]);
    for (node, can) in &status.nodes {
        table.row(vec![node.clone(), can.to_string()]);
    }
    let (level, highest) = (status.level, status.highest);
    format!("feature level {level}; this release can do {highest} at most\n{table}")
}
