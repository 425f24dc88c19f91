//! What the tests need and a machine does not have: fetched once, kept in deploy/build.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use ring::digest;

use crate::cargo;
use crate::lock::Lock;
use crate::paths::Paths;
use crate::ui::Line;

/// The release that deny.toml was written for.
const CARGO_DENY: &str = "0.20.2";
/// What the examples need; the tests drive the same packages.
const REQUIREMENTS: &str = "examples/python/requirements.txt";
/// What npm reads, in this directory.
const JS: &str = "examples/javascript";
const JS_FILES: [&str; 2] = ["package.json", "package-lock.json"];

/// The `cargo-deny` that is here already.
pub(crate) fn cargo_deny_here(paths: &Paths) -> Option<PathBuf> {
    on_path("cargo-deny").or_else(|| Some(own_cargo_deny(paths)).filter(|program| program.is_file()))
}

fn own_cargo_deny(paths: &Paths) -> PathBuf {
    paths.build().join("tools").join(format!("cargo-deny-{CARGO_DENY}")).join("bin/cargo-deny")
}

/// The `cargo-deny` on PATH, else one that cargo installs for this clone.
pub(crate) fn cargo_deny(paths: &Paths, line: &Line) -> Result<PathBuf> {
    if let Some(found) = on_path("cargo-deny") {
        line.set(format!("using {}", found.display()));
        return Ok(found);
    }
    let program = own_cargo_deny(paths);
    let root = program.ancestors().nth(2).context("cargo-deny's place has no directory")?.to_path_buf();
    once(&root, &program, line, |root| {
        line.set(format!("building cargo-deny {CARGO_DENY}, about two minutes, once"));
        let mut install = cargo::cargo(paths);
        // Without optimization it builds in half the time, and it has little to do here.
        install.args(["install", "cargo-deny", "--locked", "--debug", "--version", CARGO_DENY, "--root"]).arg(root);
        cargo::run(install, line).map(drop)
    })
    .context("cargo-deny could not be installed; install it yourself and put it on PATH")?;
    Ok(program)
}

/// The Python packages that the tests' clients import; the directory belongs on PYTHONPATH.
pub(crate) fn python_clients(paths: &Paths, line: &Line) -> Result<PathBuf> {
    let requirements = paths.root().join(REQUIREMENTS);
    let root = paths.build().join("python").join(hash_of(&requirements)?);
    once(&root, &root, line, |root| {
        line.set("fetching the Python clients");
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--require-hashes"])
            .arg("--target")
            .arg(root)
            .arg("--requirement")
            .arg(&requirements)
            // An operator's habit, which this is not about: the packages go into a directory of their own.
            .env("PIP_REQUIRE_VIRTUALENV", "0");
        cargo::run(pip, line).map(drop)
    })
    .context("the Python clients could not be installed; python3 with pip is needed: apt-get install python3-pip")?;
    Ok(root)
}

/// The packages that the tests' client for Node.js needs; the directory that has `node_modules`.
pub(crate) fn js_clients(paths: &Paths, line: &Line) -> Result<PathBuf> {
    let from = paths.root().join(JS);
    let root = paths.build().join("js").join(hash_of(&from.join("package-lock.json"))?);
    once(&root, &root, line, |root| {
        line.set("fetching the JavaScript client");
        fs::create_dir(root)?;
        for file in JS_FILES {
            fs::copy(from.join(file), root.join(file)).with_context(|| format!("copying {JS}/{file}"))?;
        }
        let mut npm = Command::new("npm");
        // Exactly what the lock file has the hashes of, and nothing of it is run.
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefix"]).arg(root);
        cargo::run(npm, line).map(drop)
    })
    .context("the JavaScript client could not be installed; Node.js with npm is needed: apt-get install nodejs npm")?;
    Ok(root)
}

/// A short name for what a file has in it.
fn hash_of(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("reading {}", Paths::shown(file)))?;
    let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, &content).as_ref());
    Ok(hash.chars().take(16).collect())
}

/// Makes `root` unless `proof` is there already: beside its place first, then renamed, so that it is whole or absent.
fn once(root: &Path, proof: &Path, line: &Line, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if proof.exists() {
        return Ok(());
    }
    let dir = root.parent().context("a tool's place has no directory")?;
    let shown = Paths::shown(dir);
    fs::create_dir_all(dir).with_context(|| format!("making {shown}"))?;
    let file = File::open(dir).with_context(|| format!("opening {shown}"))?;
    let _one_at_a_time = Lock::take(file, || line.set("another xtask is fetching it; waiting"))
        .with_context(|| format!("locking {shown}"))?;
    if proof.exists() {
        return Ok(());
    }
    let new = root.with_extension("new");
    for old in [&new, root] {
        // Of one that was interrupted. The lock is ours, so nobody uses it.
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("removing {}", Paths::shown(old)))?;
        }
    }
    make(&new)?;
    fs::rename(&new, root).with_context(|| format!("putting {} in place", Paths::shown(root)))
}

/// The program of that name, as a shell would find it.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}
