//! A backup of much more than fits into the memory that it may use, at both ends, and what is restored from it.
//!
//! The ends are two processes: `membershipd export` beside the daemon of a node, and `cargo xtask backup`. `UNIBUS_PROVE_BACKUP_MIB` is
//! for a look with less.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::figures::{Figure, Target, child_of, judge, peak};
use crate::program::this_program;
use unibus_ops::backup_stream;
use unibus_ops::paths::Paths;

/// Beside the cluster that a user of this machine may have, which stays as it is.
const BASE_ADDRESS: &str = "127.0.94.11";
/// The node on its own into which the backup goes.
const ALONE: &str = "127.0.94.21";
const MIB: usize = 1024;
/// Below what one attachment may have.
const MIB_OF_ONE: usize = 15;
const MOST_MB: f64 = 200.0;
/// The attachments of a copy are carried into an engine after its start.
const CARRIED: Duration = Duration::from_secs(600);
/// How often it is looked at how much memory the ends have: the kernel remembers the most.
const LOOK: Duration = Duration::from_millis(10);

/// Brings a cluster up, fills it, backs it up, restores that, and takes all down, also after a failure.
pub(super) fn run(paths: &Paths) -> Result<()> {
    let state = paths.build().join("prove-backup");
    let xtask = |words: &[&str]| super::xtask(paths, &state, words);
    let up = xtask(&["local", "--detach", "--fresh", "--base-address", BASE_ADDRESS]);
    let proved = up.and_then(|()| {
        let dir = state.join("proof");
        // What an earlier run left when it was killed.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", Paths::shown(&dir)))?;
        let proved = prove(paths, &state, &dir);
        let removed = fs::remove_dir_all(&dir).with_context(|| format!("removing {}", Paths::shown(&dir)));
        let figures = proved?;
        removed.map(|()| figures)
    });
    let down = xtask(&["local", "--down"]);
    let figures = proved?;
    down?;
    judge(&figures)
}

fn prove(paths: &Paths, state: &Path, dir: &Path) -> Result<Vec<Figure>> {
    let mib = match env::var("UNIBUS_PROVE_BACKUP_MIB") {
        Ok(text) => text.parse().with_context(|| format!("UNIBUS_PROVE_BACKUP_MIB={text} is no number"))?,
        Err(_) => MIB,
    };
    let program = state.join("bin/membershipd");
    fill(&program, &super::admin_environment(state)?, dir, mib)?;
    broken_off(paths, state, dir)?;
    let file = dir.join("backup.db");
    errln!("backing up");
    let began = Instant::now();
    let mut backup = start(paths, state, &file)?;
    let (here, there) = peaks(&mut backup)?;
    let took = began.elapsed().as_secs_f64();
    let output = backup.wait_with_output().context("waiting for xtask")?;
    ensure!(output.status.success(), "the backup failed: {}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).context("what xtask says of the backup")?;
    let content = told.get("content_sha256").and_then(Value::as_str).context("a backup without a hash")?;
    let bytes = fs::metadata(&file).context("looking at the backup")?.len();
    let restored = restored(&program, dir, &file, content)?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let mb = |bytes: u64| bytes as f64 / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let least = (mib << 20) as f64 / 1e6;
    Ok(vec![
        Figure::new("the backup", mb(bytes), "MB", Target::AtLeast(least)),
        Figure::new("memory of xtask, at most", mb(here), "MB", Target::AtMost(MOST_MB)),
        Figure::new("memory of membershipd export, at most", mb(there), "MB", Target::AtMost(MOST_MB)),
        Figure::new("time of the backup", took, "s", Target::None),
        Figure::new("time until the restored node has all of it", restored.as_secs_f64(), "s", Target::None),
    ])
}

/// So much hung on a room, in the largest pieces.
fn fill(program: &Path, admin: &[(String, String)], dir: &Path, mib: usize) -> Result<()> {
    let run = |words: &[&str]| -> Result<()> {
        let mut command = Command::new(program);
        command.args(words).envs(admin.iter().map(|(name, value)| (name, value)));
        let output = command.output().context("starting membershipd")?;
        ensure!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    run(&["room", "create", "attic", "--subject", "room.attic"])?;
    let file = dir.join("attachment");
    let shown = file.to_str().context("a path that is no text")?;
    let count = mib.div_ceil(MIB_OF_ONE);
    for number in 0..count {
        errln!("attachment {} of {count}", number + 1);
        // Sealed with a key of its own each is another one, whatever is in it.
        fs::write(&file, vec![0; MIB_OF_ONE << 20]).with_context(|| format!("writing {shown}"))?;
        run(&["blob", "put", "attic", shown])?;
    }
    fs::remove_file(&file).with_context(|| format!("removing {shown}"))
}

fn start(paths: &Paths, state: &Path, file: &Path) -> Result<Child> {
    let mut command = Command::new(this_program()?);
    command.arg("--root").arg(paths.root()).arg("backup").arg(file).args(["--json", "--local", "--state"]).arg(state);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("starting xtask")
}

/// A backup that is broken off by Ctrl-C while the copy comes leaves no file, and no process.
fn broken_off(paths: &Paths, state: &Path, dir: &Path) -> Result<()> {
    errln!("breaking a backup off");
    let mut backup = start(paths, state, &dir.join("broken.db"))?;
    let export = loop {
        if let Some(export) = child_of(backup.id())? {
            break export;
        }
        ensure!(backup.try_wait()?.is_none(), "a backup ended before it began");
        thread::sleep(LOOK);
    };
    let xtask = i32::try_from(backup.id()).ok().and_then(Pid::from_raw).context("no process")?;
    kill_process(xtask, Signal::INT).context("breaking the backup off")?;
    let status = backup.wait()?;
    ensure!(!status.success(), "the backup was over before it could be broken off");
    let began = Instant::now();
    while peak(export).is_some() {
        ensure!(began.elapsed() < Duration::from_secs(60), "membershipd export goes on although nothing reads it");
        thread::sleep(LOOK);
    }
    let left = fs::read_dir(dir).context("looking for what is left")?.count();
    ensure!(left == 0, "{left} files are left of a backup that was broken off");
    Ok(())
}

/// The most memory that the backup's process and the export that it started have had.
fn peaks(backup: &mut Child) -> Result<(u64, u64)> {
    let (mut here, mut there) = (0, 0);
    while backup.try_wait()?.is_none() {
        here = here.max(peak(backup.id()).unwrap_or_default());
        there = there.max(child_of(backup.id())?.and_then(peak).unwrap_or_default());
        thread::sleep(LOOK);
    }
    ensure!(here > 0 && there > 0, "the backup was over before it could be measured");
    Ok((here, there))
}

/// Starts a node on its own with the backup, and waits until a copy of it has the same content: how long that took.
fn restored(program: &Path, dir: &Path, backup: &Path, content: &str) -> Result<Duration> {
    errln!("restoring");
    let alone = dir.join("alone");
    let stores = alone.join("local_files");
    fs::create_dir_all(&stores).with_context(|| format!("making {}", Paths::shown(&stores)))?;
    fs::rename(backup, stores.join("unibus.db")).context("putting the backup in place")?;
    let log = fs::File::create(alone.join("log")).context("making a log")?;
    let mut node = Command::new(program);
    node.args(["--runtime-dir", "run", "--bind", ALONE]).current_dir(&alone);
    let mut node =
        node.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().context("starting membershipd")?;
    let done = same(&mut node, program, &alone, content);
    let process = i32::try_from(node.id()).ok().and_then(Pid::from_raw).context("no process")?;
    // It may have ended by itself; then there is nothing to end.
    let _ = kill_process(process, Signal::TERM);
    node.wait().context("waiting for membershipd")?;
    done
}

fn same(node: &mut Child, program: &Path, alone: &Path, content: &str) -> Result<Duration> {
    let began = Instant::now();
    let copy = alone.join("copy");
    loop {
        if let Some(status) = node.try_wait()? {
            bail!(
                "the node on its own ended with {status}: {}",
                fs::read_to_string(alone.join("log")).unwrap_or_default()
            );
        }
        match copied(program, alone, &copy) {
            Ok(now) if now == content => return Ok(began.elapsed()),
            Ok(now) if began.elapsed() > CARRIED => bail!("the restored node has {now}, and the backup {content}"),
            Err(error) if began.elapsed() > CARRIED => return Err(error.context("the restored node gives no copy")),
            // It has just started, or its attachments are on their way.
            _ => thread::sleep(Duration::from_secs(1)),
        }
    }
}

/// The hash of what the node has now.
fn copied(program: &Path, alone: &Path, copy: &PathBuf) -> Result<String> {
    let to = fs::File::create(copy).context("making a file")?;
    let mut export = Command::new(program);
    export.args(["export", "--stream", "--runtime-dir", "run"]).current_dir(alone);
    let status = export.stdout(to).stderr(Stdio::null()).status().context("starting membershipd")?;
    ensure!(status.success(), "the export ended with {status}");
    let (answer, _) = backup_stream::verify(std::io::BufReader::new(fs::File::open(copy)?))?;
    answer.get("content_sha256").and_then(Value::as_str).map(str::to_owned).context("a copy without a hash")
}
