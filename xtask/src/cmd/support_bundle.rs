//! `support-bundle`: a text about the cluster for those who help, without keys and without names of members.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use time::OffsetDateTime;

use crate::program::this_program;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::support;
use unibus_ops::target::{Target, Which};
use unibus_ops::ui::next;
use unibus_ops::unfinished_file::UnfinishedFile;

/// Write a text about the cluster that may be given to those who help with it
///
/// It has versions, what doctor, status and verify say, settings, the last lines of the logs, the last operations and the plan of stage.
/// Only what is on a list is in it: no key, no name of a member, nothing that was said. What is in it is told before it is written; read
/// it before it leaves your machine. Nothing is changed on the nodes.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// File to make, mode 0600; an existing one is never overwritten [default: unibus-support-CLUSTER-TIME.txt here]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON: {schema, file, bytes, contents}
    #[arg(long)]
    json: bool,
}

/// Tells what will be in it, gathers it, and writes it.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    let paths = global.paths()?;
    let file = args.out.clone().unwrap_or_else(|| usual_name(&target));
    let unfinished = UnfinishedFile::create(&file)?;
    errln!("{} will have:", Paths::shown(&file));
    for (name, what) in support::CONTENTS {
        errln!("  {name:<11} {what}");
    }
    let topology = global.topology_flag().cloned().unwrap_or_else(|| paths.topology());
    let state = args.which.state(&paths)?;
    let plan = match &state {
        Some(_) => support::no_plan("stage needs servers"),
        None => plan(global, &paths)?,
    };
    let text = support::text(&target, &paths, &topology, &plan)?;
    let base = match &state {
        Some(state) => paths.with_base(state.dir())?,
        None => paths,
    };
    support::refuse_secrets(&text, &base.key_material())?;
    unfinished.file().write_all(text.as_bytes()).with_context(|| format!("writing {}", Paths::shown(&file)))?;
    unfinished.finish()?;
    if args.json {
        outln!("{}", support::told(&file, text.len()));
        return Ok(());
    }
    outln!("{} bytes are in {}: read it before you give it away", text.len(), Paths::shown(&file));
    out!("{}", next(&[(&target.verb("verify"), "what to do about what does not hold")]));
    Ok(())
}

fn usual_name(target: &Target) -> PathBuf {
    let now = OffsetDateTime::now_utc();
    let (date, time) = (now.date(), now.time());
    let [month, day] = [u8::from(date.month()), date.day()];
    let [hour, minute, second] = [time.hour(), time.minute(), time.second()];
    let cluster = &target.topology.cluster.name;
    PathBuf::from(format!(
        "unibus-support-{cluster}-{}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z.txt",
        date.year()
    ))
}

/// The plan of `stage`, by that verb itself; or why there is none.
fn plan(global: &Global, paths: &Paths) -> Result<String> {
    let mut command = Command::new(this_program()?);
    command.args(global.words(paths)).args(["stage", "--json"]).stdin(Stdio::null());
    let output = command.output().context("starting xtask")?;
    let said = if output.status.success() { output.stdout } else { output.stderr };
    Ok(String::from_utf8_lossy(&said).into_owned())
}
