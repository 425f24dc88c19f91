//! `backup`: all that the cluster holds, as one file on this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use unibus_ops::backup_stream;
use unibus_ops::build;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::process::Output;
use unibus_ops::target::{Target, Which};
use unibus_ops::ui::{Progress, next};
use unibus_ops::unfinished_file::{UnfinishedFile, check_free};

/// clap's exit code for what it does not know.
const USAGE: i32 = 2;
/// Lines of a complaint that are shown.
const SAID: usize = 4;
/// Time for a copy to travel: some gigabytes over a slow line. A line that is dead ssh ends itself, within seconds.
const TRAVEL: Duration = Duration::from_secs(6 * 3600);
/// Bytes of a copy, at most: an engine's store has 10 GiB, so a node that names more is not one of ours.
const MOST_BYTES: u64 = 16 << 30;
const SCHEMA: u32 = 1;

/// Fetch everything that the cluster holds into one file here
///
/// Users, rooms, members, bans, tombstones, sealed room keys, messages, attachments and the audit log, as of one moment, by the word of
/// a node that can prove that it is current. The cluster goes on meanwhile, and nothing of it is changed. The copy comes as the node
/// reads it: neither the node nor this machine's memory holds it whole, and one that is broken off leaves nothing. `restore` brings it
/// back. What is damaged in a room is left out and named; the file is made all the same, and the exit code is 1.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File to make, mode 0600; an existing one is never overwritten
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Ask this node, instead of one after the other until one can say
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Seconds for a node to find a moment at which nobody changes anything
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3600))]
    within: u32,
    /// Print JSON: {schema, ok, file, node, content_sha256, bytes, missing, missing_attachments}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// What `membershipd export --json` says of the copy.
#[derive(Deserialize)]
struct Exported {
    content_sha256: String,
    /// By room: what of it is damaged and left out. An older membershipd leaves nothing out.
    #[serde(default)]
    missing: BTreeMap<String, Value>,
    #[serde(default)]
    missing_attachments: Vec<String>,
}

impl Exported {
    fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.missing_attachments.is_empty()
    }

    /// Each room and attachment that is not wholly there.
    fn names(&self) -> String {
        let rooms = self.missing.keys().map(|room| format!("room {room}"));
        let attachments = self.missing_attachments.iter().map(|name| format!("attachment {name}"));
        rooms.chain(attachments).collect::<Vec<_>>().join(", ")
    }
}

/// Asks the nodes in turn.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    check_free(&args.file)?;
    let target = args.which.open(global)?;
    let nodes = match &args.node {
        Some(name) => vec![target.topology.node(name)?.name.clone()],
        None => target.nodes().to_vec(),
    };
    let progress = Progress::new();
    let mut refused = Vec::new();
    for node in &nodes {
        let line = progress.line(node);
        line.doing("copying what the cluster holds");
        match fetch(&target, node, args) {
            Ok((exported, bytes)) => {
                line.done("copied");
                tell(&target, args, node, &exported, bytes);
                // Another node has no more: what is damaged is so on all of them, or is mended first.
                ensure!(
                    exported.is_whole(),
                    "the file has everything but what is damaged in {}: keep it, and see: {}",
                    exported.names(),
                    target.verb("verify")
                );
                return Ok(());
            }
            Err(error) => {
                line.failed("no copy");
                refused.push(format!("{node}: {error:#}"));
            }
        }
    }
    bail!("no node gave a copy:\n{}\nnothing was changed; see: {}", refused.join("\n"), target.verb("verify"))
}

fn tell(target: &Target, args: &Args, node: &str, exported: &Exported, bytes: u64) {
    let content = &exported.content_sha256;
    let file = Paths::shown(&args.file);
    if args.json {
        let answer = json!({
            "schema": SCHEMA, "ok": exported.is_whole(), "file": file, "node": node, "content_sha256": content,
            "bytes": bytes, "missing": exported.missing, "missing_attachments": exported.missing_attachments,
        });
        outln!("{answer}");
        return;
    }
    outln!("{bytes} bytes from {node} are in {file}");
    outln!("content  {content}");
    outln!("keep it as you keep a secret: it says who may do what, and who talks to whom");
    out!("{}", next(&[(&target.verb(&format!("restore {file}")), "into a cluster that is empty")]));
}

/// A copy by the word of `node`: what is said about it, and how many bytes it has. It comes as the node reads it, which keeps nothing,
/// and stands here once its end has proved that all of it is there.
fn fetch(target: &Target, node: &str, args: &Args) -> Result<(Exported, u64)> {
    let file = UnfinishedFile::create(&args.file)?;
    let program = format!("./{}", build::FILE);
    let seconds = args.within.to_string();
    let export = [&program, "export", "--stream", "--within", &seconds, "--runtime-dir", &target.runtime_dir];
    let output = target.transport.fetch(node, &export, (file.file(), MOST_BYTES), TRAVEL)?;
    // What is missing makes it fail as well, with a copy that is whole.
    let read = whole(file.file());
    if !output.ok() && !read.as_ref().is_ok_and(|(exported, _)| !exported.is_whole()) {
        bail!("{}", why(&output));
    }
    let read = read.with_context(|| format!("what came from {node} is no whole copy; run this again"))?;
    file.finish()?;
    Ok(read)
}

/// What is said about the copy in `file`, if all of it is there.
fn whole(mut file: &File) -> Result<(Exported, u64)> {
    file.seek(SeekFrom::Start(0)).context("reading the copy again")?;
    let (answer, bytes) = backup_stream::verify(BufReader::with_capacity(1 << 20, file))?;
    Ok((serde_json::from_value(answer).context("what is said about the copy")?, bytes))
}

/// Why there is no copy.
fn why(output: &Output) -> String {
    // Standard output is the copy; what was said comes in a line, and its remedy in another.
    let lines: Vec<&str> = output.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = lines.get(lines.len().saturating_sub(SAID)..).unwrap_or_default().join("; ");
    let said = if said.is_empty() { "it gave no reason".to_owned() } else { said };
    if output.code == Some(USAGE) && output.stderr.contains("--stream") {
        return format!(
            "its membershipd is older than this xtask and cannot write a copy as a stream: roll first ({said})"
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_that_lacks_what_is_damaged_names_it() {
        let damaged =
            r#"{"content_sha256":"a","missing":{"hall":{"nothing_after":5}},"missing_attachments":["attic.1"]}"#;
        let exported: Exported = serde_json::from_str(damaged).unwrap();
        assert_eq!((exported.is_whole(), exported.names().as_str()), (false, "room hall, attachment attic.1"));
        assert!(serde_json::from_str::<Exported>(r#"{"content_sha256":"a"}"#).unwrap().is_whole());
    }

    #[test]
    fn older_daemon_is_told_from_one_that_fails() {
        let output = |code, stderr: &str| Output { code: Some(code), stdout: Vec::new(), stderr: stderr.to_owned() };
        let older = why(&output(2, "error: unexpected argument '--stream' found"));
        assert!(older.contains("older than this xtask"), "{older}");
        assert_eq!(why(&output(1, "membershipd: it was busy")), "membershipd: it was busy");
    }
}
