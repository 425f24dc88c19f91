//! `backup`: all that the cluster holds, as one file on this machine.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use unibus_ops::answer;
use unibus_ops::build;
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::hash::sha256_of;
use unibus_ops::paths::Paths;
use unibus_ops::posture::complaint;
use unibus_ops::process::Output;
use unibus_ops::target::{Target, Which};
use unibus_ops::transport::Mode;
use unibus_ops::ui::{Progress, next};

/// Whoever reads it knows who may do what.
const MODE: Mode = Mode(0o600);
/// Name of the file on the node, in a directory that only root can enter.
const THERE: &str = "unibus.db";
/// Time for a small question to a node.
const ASK: Duration = Duration::from_secs(60);
/// Time for the file to travel: some hundred megabytes over a slow line.
const TRAVEL: Duration = Duration::from_secs(900);
/// Bytes of a copy, at most: an engine's store has 10 GiB, so a node that names more is not one of ours.
const MOST_BYTES: u64 = 16 << 30;
const SCHEMA: u32 = 1;

/// Fetch everything that the cluster holds into one file here
///
/// Users, rooms, members, bans, tombstones, sealed room keys and the audit log, as of one moment, by the word of a node that can
/// prove that it is current. The cluster goes on meanwhile, and nothing of it is changed. `restore` brings it back. What is damaged in
/// a room is left out and named; the file is made all the same, and the exit code is 1.
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
    if fs::symlink_metadata(&args.file).is_ok() {
        return Err(BadInput::new(format!("{} is there already: name another file", Paths::shown(&args.file))));
    }
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

/// A copy by the word of `node`: the hash over its content, and the bytes of the file. What it leaves on the node is gone again, also
/// where it fails.
fn fetch(target: &Target, node: &str, args: &Args) -> Result<(Exported, u64)> {
    let run = |argv: &[&str], time| said(target.transport.run(node, argv, b"", time)?);
    let made = run(&["mktemp", "-d"], ASK).context("making a directory for the copy")?;
    let directory = String::from_utf8(made.stdout).context("the name of a directory")?.trim().to_owned();
    ensure!(directory.starts_with('/'), "mktemp named no directory: {directory:?}");
    let copied = copy(target, node, &format!("{directory}/{THERE}"), args);
    let removed = run(&["rm", "-r", "--", &directory], ASK);
    let copied = copied?;
    removed.with_context(|| format!("the copy is still there: ssh to {node} and remove {directory}"))?;
    Ok(copied)
}

fn copy(target: &Target, node: &str, file: &str, args: &Args) -> Result<(Exported, u64)> {
    let run = |argv: &[&str], time| said(target.transport.run(node, argv, b"", time)?);
    let program = format!("./{}", build::FILE);
    let seconds = args.within.to_string();
    let export = ["export", "--db", file, "--within", &seconds, "--json", "--runtime-dir", &target.runtime_dir];
    let time = Duration::from_secs(args.within.into()) + TRAVEL;
    let output = target.transport.run(node, &[&[program.as_str()], export.as_slice()].concat(), b"", time)?;
    let exported = made(output)?;
    let summed = run(&["sha256sum", "--", file], TRAVEL)?.stdout;
    let there = String::from_utf8_lossy(&summed);
    let counted = run(&["stat", "-c", "%s", "--", file], ASK)?.stdout;
    let bytes = String::from_utf8_lossy(&counted).trim().parse().ok().filter(|bytes| *bytes <= MOST_BYTES);
    let bytes: u64 =
        bytes.with_context(|| format!("{node} names no size that a copy can have, {MOST_BYTES} bytes at most"))?;
    create(&args.file, |to| {
        said(target.transport.fetch(node, &["cat", "--", file], (to, bytes), TRAVEL)?).context("fetching the copy")?;
        let here = sha256_of(&args.file)?;
        ensure!(
            there.starts_with(&here),
            "the file that came has another sha256 than the one on the node: run this again"
        );
        Ok(())
    })?;
    Ok((exported, bytes))
}

/// What was exported. A file that lacks what is damaged is there, although the verb says that it failed.
fn made(output: Output) -> Result<Exported> {
    match answer::read::<Exported>(&output.stdout) {
        Ok(exported) if output.ok() || !exported.is_whole() => Ok(exported),
        answer => {
            said(output)?;
            answer.context("the answer of membershipd export")
        }
    }
}

fn said(output: Output) -> Result<Output> {
    ensure!(output.ok(), "{}", complaint(&output.stdout, &output.stderr));
    Ok(output)
}

/// Makes a new file, private from the first byte, which `write` fills; one that is not whole is not left behind.
fn create(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let shown = || format!("writing {}", Paths::shown(path));
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(MODE.0).open(path).with_context(shown)?;
    let written = write(&mut file).and_then(|()| Ok(file.sync_all()?));
    if written.is_err() {
        // The error below is what matters.
        let _ = fs::remove_file(path);
    }
    written.with_context(shown)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_copy_that_lacks_what_is_damaged_is_one() {
        let output = |code, text: &str| Output { code: Some(code), stdout: text.into(), stderr: String::new() };
        let damaged =
            r#"{"content_sha256":"a","missing":{"hall":{"nothing_after":5}},"missing_attachments":["attic.1"]}"#;
        let exported = made(output(1, damaged)).unwrap();
        assert_eq!((exported.is_whole(), exported.names().as_str()), (false, "room hall, attachment attic.1"));
        assert!(made(output(0, r#"{"content_sha256":"a"}"#)).unwrap().is_whole());
        let failed = r#"{"schema":1,"error":{"code":"busy","message":"it was busy","remedy":"later"}}"#;
        let why = made(output(1, failed)).err().unwrap().to_string();
        assert!(why.contains("it was busy"), "{why}");
        assert!(made(output(1, r#"{"content_sha256":"a"}"#)).is_err(), "whole, and it failed");
    }

    #[test]
    fn a_copy_is_private_and_takes_no_ones_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let fill = |text: &'static str| move |file: &mut File| Ok(file.write_all(text.as_bytes())?);
        create(&path, fill("copy")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE.0);
        create(&path, fill("another")).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"copy");
        create(&dir.path().join("half"), |_| bail!("it broke off")).unwrap_err();
        assert!(!dir.path().join("half").exists());
    }
}
