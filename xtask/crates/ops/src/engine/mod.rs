//! The engine, nats-server: the pinned build, fetched once and proved at every use, or the operator's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::exit::BadInput;
use crate::hash::sha256_of;
use crate::paths::Paths;
use crate::process::bounded;

pub use self::pin::Pin;

mod fetch;
mod pin;

/// Older ones lack what the daemon needs.
const OLDEST: (u32, u32) = (2, 14);
/// The engine's file name, in the cache and on a node.
pub const FILE: &str = "nats-server";
const VERSION_WITHIN: Duration = Duration::from_secs(10);

/// A nats-server that may be run.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Where the program is.
    pub path: PathBuf,
    /// As it says itself.
    pub version: String,
    /// Of the program.
    pub sha256: String,
    /// Whether it is the very build that deploy/engine.toml pins.
    pub pinned: bool,
}

/// The engine of `--engine FILE`, else the pinned one, fetched if it is not here yet. Warns on standard error
/// when it is not the pinned build.
pub fn obtain(paths: &Paths, choice: Option<&Path>) -> Result<Engine> {
    let pin = Pin::load(&paths.engine_pin())?;
    match choice {
        Some(file) => chosen(&pin, file),
        None => pinned(paths, &pin),
    }
}

/// Whether the pinned engine is here already, so that nothing needs to be fetched.
pub fn cached(paths: &Paths, pin: &Pin) -> bool {
    place(paths, pin).exists()
}

/// The pinned engine if it is here already, proved.
pub(crate) fn obtain_cached(paths: &Paths, pin: &Pin) -> Result<Option<Engine>> {
    if cached(paths, pin) { pinned(paths, pin).map(Some) } else { Ok(None) }
}

/// Copies the cached engine into another clone's cache.
#[cfg(target_os = "linux")]
pub fn copy(from: &Paths, to: &Paths, pin: &Pin) -> Result<()> {
    let (from, to) = (place(from, pin), place(to, pin));
    let dir = to.parent().unwrap_or(&to);
    fs::create_dir_all(dir)
        .and_then(|()| fs::copy(&from, &to))
        .map(drop)
        .with_context(|| format!("copying {} to {}", Paths::shown(&from), to.display()))
}

/// Where the pinned engine lies, once it was fetched.
pub fn place(paths: &Paths, pin: &Pin) -> PathBuf {
    paths.build().join("engine").join(&pin.version).join(FILE)
}

fn pinned(paths: &Paths, pin: &Pin) -> Result<Engine> {
    let path = place(paths, pin);
    if !path.exists() {
        fetch::into_place(pin, &path)?;
    }
    let sha256 = sha256_of(&path)?;
    let shown = Paths::shown(&path);
    if sha256 != pin.sha256 {
        return Err(BadInput::new(format!(
            "{shown} is not the pinned engine: its sha256 is {sha256}, not {}; somebody changed it since it was \
             fetched. Remove it and run this again",
            pin.sha256
        )));
    }
    must_be_executable(&path, &shown)?;
    Ok(Engine { path, version: pin.version.clone(), sha256, pinned: true })
}

fn chosen(pin: &Pin, file: &Path) -> Result<Engine> {
    let named = format!("--engine {}", file.display());
    let path = fs::canonicalize(file).map_err(|error| BadInput::new(format!("{named}: {error}")))?;
    if !path.is_file() {
        return Err(BadInput::new(format!("{named}: not a regular file")));
    }
    must_be_executable(&path, &named)?;
    let sha256 = sha256_of(&path)?;
    if sha256 == pin.sha256 {
        return Ok(Engine { path, version: pin.version.clone(), sha256, pinned: true });
    }
    let version = ask_version(&path, &named)?;
    let (major, minor) = OLDEST;
    if release(&version).is_none_or(|release| release < OLDEST) {
        return Err(BadInput::new(format!(
            "{named}: nats-server {version} is too old; it must be {major}.{minor} or later (pinned: {})",
            pin.version
        )));
    }
    errln!(
        "warning: {named} is nats-server {version} (sha256 {sha256}), not the pinned build of {}; \
         good enough to try here, never to be staged",
        pin.version
    );
    Ok(Engine { path, version, sha256, pinned: false })
}

fn must_be_executable(path: &Path, named: &str) -> Result<()> {
    let mode = fs::metadata(path).with_context(|| format!("looking at {named}"))?.permissions().mode();
    if mode & 0o111 == 0 {
        return Err(BadInput::new(format!("{named}: not executable; run: chmod +x {}", Paths::shown(path))));
    }
    Ok(())
}

fn ask_version(path: &Path, named: &str) -> Result<String> {
    let mut command = Command::new(path);
    command.arg("--version");
    let output = bounded(command, &[], VERSION_WITHIN)
        .map_err(|error| BadInput::new(format!("{named}: asking for its version: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let version = output.ok().then(|| text.strip_prefix("nats-server: v")).flatten();
    version.filter(|version| release(version).is_some()).map(str::to_owned).ok_or_else(|| {
        let said: String = text.lines().next().unwrap_or("nothing").chars().take(80).collect();
        BadInput::new(format!("{named}: this is no nats-server; asked for its version it said {said:?}"))
    })
}

/// Major and minor of `2.15.1` or `2.15.0-RC.2`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert_eq!(release("2.15.1"), Some((2, 15)));
        assert_eq!(release("2.14.0-RC.1"), Some((2, 14)));
        assert!(release("2.9.10").is_some_and(|old| old < OLDEST));
        assert!(release("10.0.0").is_some_and(|new| new > OLDEST));
        assert_eq!(release("unknown"), None);
    }
}
